"""Activation caches, candidate scores, carriers and their coupling."""

SETS = ["fit_harmful", "fit_benign", "select_harmful", "select_benign"]
PROBE = (
    "{PYTHON}/probe.py --model {input.model} --adapter {input.adapter} --fit-harmful {input.fit_harmful}"
    " --fit-benign {input.fit_benign} --select-harmful {input.select_harmful} --select-benign {input.select_benign}"
)
END = " --params {params.settings:q} --code {params.code} 2> {log}"


def anchor_pattern(regime):
    return "|".join(map(str, study.anchor_steps(regime)))


for regime in study.regimes:
    others = [step for step in study.saves if step not in study.anchor_steps(regime)]

    rule:
        name:
            f"probe_anchor_{regime}"
        input:
            model=BASE,
            adapter=f"{SEED}/checkpoints/{regime}/step{{step}}",
            **{name: role(name) for name in SETS},
        output:
            activations=f"{SEED}/activations/{regime}/step{{step}}.safetensors",
            scores=f"{SEED}/scores/{regime}/step{{step}}.safetensors",
        wildcard_constraints:
            step=anchor_pattern(regime),
        log:
            f"{SEED}/logs/probe/{regime}_step{{step}}.log",
        benchmark:
            f"{SEED}/benchmarks/probe_{regime}_step{{step}}.tsv"
        conda:
            "../../envs/torch.yaml"
        threads: config["model"]["threads"]
        params:
            code=code("probe"),
            settings=settings(**study.activations, **study.scoring),
        shell:
            PROBE + " --activations {output.activations} --scores {output.scores}" + END

    if others:

        rule:
            name:
                f"probe_save_{regime}"
            input:
                model=BASE,
                adapter=f"{SEED}/checkpoints/{regime}/step{{step}}",
                **{name: role(name) for name in SETS},
            output:
                activations=f"{SEED}/activations/{regime}/step{{step}}.safetensors",
            wildcard_constraints:
                step="|".join(map(str, others)),
            log:
                f"{SEED}/logs/probe/{regime}_step{{step}}.log",
            benchmark:
                f"{SEED}/benchmarks/probe_{regime}_step{{step}}.tsv"
            conda:
                "../../envs/torch.yaml"
            threads: config["model"]["threads"]
            params:
                code=code("probe"),
                settings=settings(**study.activations),
            shell:
                PROBE + " --activations {output.activations}" + END

    rule:
        name:
            f"carriers_{regime}"
        input:
            activations=[f"{SEED}/activations/{regime}/step{step}.safetensors" for step in study.saves],
            scores=[f"{SEED}/scores/{regime}/step{step}.safetensors" for step in study.anchor_steps(regime)],
        output:
            carriers=f"{SEED}/carriers/{regime}/carriers.safetensors",
            coupling=f"{SEED}/carriers/{regime}/coupling.csv",
            geometry=f"{SEED}/carriers/{regime}/geometry.csv",
            controls=f"{SEED}/carriers/{regime}/coupling_controls.csv",
            profile=f"{SEED}/carriers/{regime}/profile.csv",
        log:
            f"{SEED}/logs/carriers/{regime}.log",
        benchmark:
            f"{SEED}/benchmarks/carriers_{regime}.tsv"
        conda:
            "../../envs/analysis.yaml"
        params:
            code=code("carriers"),
            settings=lambda wc, regime=regime: settings(**study.carriers(regime, int(wc.seed))),
        shell:
            "export OMP_NUM_THREADS=1; {PYTHON}/carriers.py --activations {input.activations} --scores {input.scores}"
            " --carriers {output.carriers} --coupling {output.coupling} --geometry {output.geometry}"
            " --controls {output.controls} --profile {output.profile}" + END
