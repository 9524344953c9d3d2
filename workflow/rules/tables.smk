"""The study's tables over all seeds and trajectories, what they say about the papers' claims, and the figures."""

gather = stages["tables"]
refer = stages["reference_anchors"]
follow_saves = stages["dense_tables"]
decide = stages["claims"]
draw = stages["figure"]


if not home.imported:  # whose report has a first page of its own

    report: "../report/workflow.rst"


rule tables:
    input:
        **{
            f"{name}_parts": expand(layout.regime_table(name), seed=study.seeds, regime=study.trajectories)
            for name in tables.OF_REGIMES
        },
        training_parts=expand(layout.training_table, seed=study.all_seeds) if study.regimes else [],
        judged=layout.all_judged(study.judged_checkpoints()),
    output:
        **{name: reported(name) for name in tables.together(study)},
    log:
        gather.log,
    conda:
        gather.conda
    resources:
        **gather.resources,
    params:
        **gather.params,
    shell:
        gather.command


if study.regimes:

    rule reference_anchors:
        input:
            training=layout.table("training"),
        output:
            table=reported("reference_anchors"),
        log:
            refer.log,
        conda:
            refer.conda
        resources:
            **refer.resources,
        params:
            **refer.params,
        shell:
            refer.command


rule dense_tables:
    input:
        trajectory=layout.table("trajectory"),
    output:
        **{name: reported(name) for name in tables.DENSE},
    log:
        follow_saves.log,
    conda:
        follow_saves.conda
    resources:
        **follow_saves.resources,
    params:
        **follow_saves.params,
    shell:
        follow_saves.command


rule claims:
    input:
        tables=[layout.table(name) for name in tables.claim_tables(study)],
    output:
        claims=reported("claims"),
    log:
        decide.log,
    conda:
        decide.conda
    resources:
        **decide.resources,
    params:
        **decide.params,
    shell:
        decide.command


rule figure:
    input:
        tables=lambda wc: [layout.table(name) for name in tables.FIGURES[wc.figure]],
    output:
        svg=report(
            layout.figure("{figure}", "svg"),
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        png=layout.figure("{figure}", "png"),
    log:
        draw.log,
    conda:
        draw.conda
    resources:
        **draw.resources,
    params:
        **draw.params,
        caption=lambda wc: (ROOT / f"workflow/report/figure_{wc.figure}.rst").read_text(encoding="utf-8"),
    shell:
        draw.command
