"""Judges trained on human labels, and the judged completions."""

judge_anchor = stages["judge"]
judge_samples = stages["judge_sampled"]
ask_judge = stages["verdicts"]
agree = stages["judge_agreement"]
HAND_LABELS = config["judges"].get("hand_labels")
MODEL_JUDGES = "|".join(study.model_judges) or "none"


if study.labelled:
    teach = stages["train_judges"]

    rule train_judges:
        input:
            **{f"{kind}_labels": layout.labelled(kind) for kind in layout.labelled_kinds()},
            **layout.embeddings(),
            judge_train=layout.role("judge_train"),
        output:
            refusal=layout.trained_judge("refusal"),
            harm=layout.trained_judge("harm"),
            table=layout.judges_table,
        log:
            teach.log,
        benchmark:
            teach.benchmark
        conda:
            teach.conda
        resources:
            **teach.resources,
        params:
            **teach.params,
        shell:
            teach.command


if study.has_judges_table:

    rule judge_agreement:
        input:
            **({"hand_labels": HAND_LABELS} if HAND_LABELS else {}),
            **({"trained": layout.judges_table} if study.labelled else {}),
            judged=layout.all_judged(study.in_agreement()),
            verdicts=layout.compared_verdicts(),
        output:
            table=reported("judges"),
        log:
            agree.log,
        conda:
            agree.conda
        resources:
            **agree.resources,
        params:
            **agree.params,
        shell:
            agree.command


wording = stages["judge_template"]


rule judge_template:
    input:
        source=lambda wc: layout.source(study.model_judges[wc.judge][wc.part]["source"]),
    output:
        template=layout.judge_template(),
    log:
        wording.log,
    wildcard_constraints:
        judge=MODEL_JUDGES,
        part="template|contextual_template",
    conda:
        wording.conda
    resources:
        **wording.resources,
    params:
        **wording.params,
    shell:
        wording.command


rule verdicts:
    input:
        unpack(lambda wc: layout.judge_model(wc.judge)),
        completions=lambda wc: filled(layout.answers(wc.asked), wc.seed, wc.regime, wc.step),
    output:
        verdicts=layout.verdicts("{judge}", "{asked}"),
    log:
        ask_judge.log,
    wildcard_constraints:
        judge=MODEL_JUDGES,
        asked="suites|sampled|sweep|follow_up|transfer",
    conda:
        ask_judge.conda
    threads: ask_judge.threads
    resources:
        **ask_judge.resources,
    params:
        **ask_judge.params,
    shell:
        ask_judge.command


# A rule for each group of saves, as for their completions; judges that decide nothing are not asked there.
for asked_group in stages.groups("verdicts_saves"):

    rule:
        name:
            asked_group.rule
        input:
            unpack(lambda wc: layout.judge_model(wc.judge)),
            completions=[layout.completions(asked_group.group.regime, step) for step in asked_group.group.steps],
        output:
            verdicts=[layout.verdicts("{judge}", "saves", place) for place in asked_group.group.places],
        log:
            asked_group.log,
        wildcard_constraints:
            judge=MODEL_JUDGES,
        conda:
            asked_group.conda
        threads: asked_group.threads
        resources:
            **asked_group.resources,
        params:
            **asked_group.params,
        shell:
            asked_group.command


rule judge:
    input:
        **layout.judges("suites"),
        completions=layout.anchor_completions,
    output:
        judged=layout.anchor_judged,
    log:
        judge_anchor.log,
    group:
        "judge"
    conda:
        judge_anchor.conda
    resources:
        **judge_anchor.resources,
    params:
        **judge_anchor.params,
    shell:
        judge_anchor.command


if study.config["completions"].get("sampled"):

    use rule judge as judge_sampled with:
        input:
            **layout.judges("sampled"),
            completions=layout.sampled_answers,
        output:
            judged=layout.sampled_judged,
        log:
            judge_samples.log,
        group:
            "judge_sampled"
        resources:
            **judge_samples.resources,


# A rule for each group of saves, as for their completions.
for judge_group in stages.groups("judge_saves"):

    rule:
        name:
            judge_group.rule
        input:
            **layout.judges("saves", judge_group.group.places),
            completions=[layout.completions(judge_group.group.regime, step) for step in judge_group.group.steps],
        output:
            judged=[layout.judged(judge_group.group.regime, step) for step in judge_group.group.steps],
        log:
            judge_group.log,
        group:
            "judge_saves"
        conda:
            judge_group.conda
        resources:
            **judge_group.resources,
        params:
            **judge_group.params,
        shell:
            judge_group.command
