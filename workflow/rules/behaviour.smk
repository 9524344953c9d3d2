"""Completions of the evaluation suites: all of them at anchors, what completions.every_save names at the other saves."""

answer = stages["completions"]


rule completions:
    input:
        unpack(weights),
        prompts=lambda wc: layout.suites(wc.regime, int(wc.step)),
        layers=ancient(layout.layers),
    output:
        completions=layout.anchor_completions,
        activations=layout.prompt_activations,
    log:
        answer.log,
    benchmark:
        answer.benchmark
    conda:
        answer.conda
    threads: answer.threads
    resources:
        **answer.resources,
    params:
        **answer.params,
    shell:
        answer.command


# A rule for each group of saves: how many files it makes depends on it, and the outputs of a rule cannot.
for answer_saves in stages.groups("completions_saves"):

    rule:
        name:
            answer_saves.rule
        input:
            **layout.group_weights(answer_saves.group),
            prompts=layout.suites(answer_saves.group.regime, answer_saves.group.steps[0]),
            layers=ancient(layout.layers),
        output:
            completions=[layout.completions(answer_saves.group.regime, step) for step in answer_saves.group.steps],
        log:
            answer_saves.log,
        benchmark:
            answer_saves.benchmark
        priority: study.saves_priority(answer_saves.group.regime)
        conda:
            answer_saves.conda
        threads: answer_saves.threads
        resources:
            **answer_saves.resources,
        params:
            **answer_saves.params,
        shell:
            answer_saves.command
