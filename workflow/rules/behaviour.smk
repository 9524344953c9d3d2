"""Completions of the evaluation suites: all of them at anchors, what completions.every_save names at the other saves."""

answer = stages["completions"]
answer_light = stages["completions_light"]


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
    wildcard_constraints:
        seed="|".join(map(str, study.seeds)),
    conda:
        answer.conda
    threads: answer.threads
    resources:
        **answer.resources,
    params:
        **answer.params,
    shell:
        answer.command


if study.light_seeds:

    rule completions_light:
        input:
            unpack(light_weights),
            prompts=lambda wc: layout.suites(wc.regime, int(wc.step), int(wc.seed)),
            layers=ancient(layout.layers),
        output:
            completions=layout.anchor_completions,
        log:
            answer_light.log,
        benchmark:
            answer_light.benchmark
        wildcard_constraints:
            seed="|".join(map(str, study.light_seeds)),
        conda:
            answer_light.conda
        threads: answer_light.threads
        resources:
            **answer_light.resources,
        params:
            **answer_light.params,
        shell:
            answer_light.command


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
