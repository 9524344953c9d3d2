"""Judges trained on human labels, and the judged completions."""

# Judging takes seconds, and a profile may put several jobs of a group into one of the scheduler's. Judges that are models are
# in no group: its members run beside each other, on the same GPU.
GROUPED = not study.published_judges
judge_anchor = stages["judge"]
judge_samples = stages["judge_sampled"]
agree = stages["judge_agreement"]
HAND_LABELS = config["judges"].get("hand_labels")

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

    rule judge_agreement:
        input:
            **({"hand_labels": HAND_LABELS} if HAND_LABELS else {}),
            trained=layout.judges_table,
            judged=layout.all_judged() if HAND_LABELS else [],
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
        source=lambda wc: layout.source(config["judges"][wc.judge][wc.part]["source"]),
    output:
        template=layout.judge_template(),
    log:
        wording.log,
    wildcard_constraints:
        judge="harmbench|strongreject",
        part="template|contextual_template",
    conda:
        wording.conda
    resources:
        **wording.resources,
    params:
        **wording.params,
    shell:
        wording.command


rule judge:
    input:
        **layout.judges(),
        completions=layout.anchor_completions,
    output:
        judged=layout.anchor_judged,
    log:
        judge_anchor.log,
    group:
        "judge" if GROUPED else None
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
            **layout.judges(),
            completions=layout.sampled_answers,
        output:
            judged=layout.sampled_judged,
        log:
            judge_samples.log,
        group:
            "judge_sampled" if GROUPED else None
        resources:
            **judge_samples.resources,


# A rule for each group of saves, as for their completions.
for judge_group in stages.groups("judge_saves"):

    rule:
        name:
            judge_group.rule
        input:
            **layout.judges(),
            completions=[layout.completions(judge_group.group.regime, step) for step in judge_group.group.steps],
        output:
            judged=[layout.judged(judge_group.group.regime, step) for step in judge_group.group.steps],
        log:
            judge_group.log,
        group:
            "judge_saves" if GROUPED else None
        conda:
            judge_group.conda
        resources:
            **judge_group.resources,
        params:
            **judge_group.params,
        shell:
            judge_group.command
