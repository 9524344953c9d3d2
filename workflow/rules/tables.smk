"""The study's tables over all seeds and trajectories, and what they say about the papers' claims."""

TABLE_KINDS = {
    "five_anchor": "Results",
    "trajectory": "Results",
    "behaviour": "Results",
    "contrasts": "Results",
    "coupling": "Geometry",
    "coupling_controls": "Geometry",
    "geometry": "Geometry",
    "profile": "Geometry",
} | ({"training": "Training"} if study.regimes else {})


rule tables:
    input:
        **{
            f"{name}_parts": [
                f"{R}/seed{seed}/carriers/{regime}/{name}.csv"
                for seed in config["seeds"]
                for regime in study.trajectories
            ]
            for name in ("coupling", "geometry", "coupling_controls", "profile")
        },
        training_parts=expand(f"{SEED}/training.csv", seed=config["seeds"]) if study.regimes else [],
        judged=layout.judged(),
    output:
        **{name: reported(name, category) for name, category in TABLE_KINDS.items()},
    log:
        f"{R}/logs/tables.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        **needs("tables"),
    params:
        code=code("tables"),
        files=lambda wc, input, output: options(dict(input.items()) | dict(output.items())),
        settings=fixed(
            regimes=study.trajectories,
            judged=study.identities(layout.judged_checkpoints()),
            every_save=config["completions"]["every_save"],
            seed=config["statistics"]["seed"],
            draws=config["statistics"]["bootstrap"],
        ),
    shell:
        "export OMP_NUM_THREADS=1; python workflow/scripts/tables.py {params.files}"
        " --params {params.settings:q} --code {params.code:q} 2> {log:q}"


if study.regimes:

    rule reference_anchors:
        input:
            training=layout.table("training"),
        output:
            table=reported("reference_anchors", "Training"),
        log:
            f"{R}/logs/reference_anchors.log",
        conda:
            "../../envs/analysis.yaml"
        resources:
            **needs("reference_anchors"),
        params:
            code=code("reference_anchors"),
            settings=fixed(configured={name: regime["reference"] for name, regime in study.regimes.items()}),
        shell:
            "export OMP_NUM_THREADS=1; python workflow/scripts/reference_anchors.py --training {input.training:q} --table {output.table:q}"
            " --params {params.settings:q} --code {params.code:q} 2> {log:q}"


rule dense_tables:
    input:
        trajectory=layout.table("trajectory"),
    output:
        dense_correlations=reported("dense_correlations", "Dense"),
        coupling_transition=reported("coupling_transition", "Dense"),
    log:
        f"{R}/logs/dense_tables.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        **needs("dense_tables"),
    params:
        code=code("dense_tables"),
        settings=fixed(
            stats_seed=config["statistics"]["seed"],
            draws=config["statistics"]["bootstrap"],
            block_lengths=config["statistics"]["block_lengths"],
        ),
    shell:
        "export OMP_NUM_THREADS=1; python workflow/scripts/dense_tables.py --trajectory {input.trajectory:q}"
        " --dense-correlations {output.dense_correlations:q} --coupling-transition {output.coupling_transition:q}"
        " --params {params.settings:q} --code {params.code:q} 2> {log:q}"


DENSE_TABLES = ["dense_correlations", "coupling_transition"]
CLAIM_TABLES = ["five_anchor", "trajectory", "coupling", "contrasts", "coupling_controls", "geometry", "profile"]

CAUSAL_CLAIMS = [name for name in CAUSAL_TABLES if name not in ("layer_scan", "quadrants")]


rule claims:
    input:
        tables=[layout.table(name) for name in [*CLAIM_TABLES, "dense_correlations", *ATTACK_TABLES, *CAUSAL_CLAIMS]],
    output:
        claims=reported("claims", "Results"),
    log:
        f"{R}/logs/claims.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        **needs("claims"),
    params:
        code=code("claims"),
        settings=fixed(**({} if study.regimes else {"tuned": []})),
    shell:
        "export OMP_NUM_THREADS=1; python workflow/scripts/claims.py --tables {input.tables:q} --claims {output.claims:q}"
        " --params {params.settings:q} --code {params.code:q} 2> {log:q}"


ALL_TABLES = [
    layout.table(name)
    for name in [
        *TABLE_KINDS,
        *CAUSAL_TABLES,
        *ATTACK_TABLES,
        *DENSE_TABLES,
        "claims",
        *(["reference_anchors"] if study.regimes else []),
        "leakage",
        *(["judges"] if LABELLED else []),
    ]
]
