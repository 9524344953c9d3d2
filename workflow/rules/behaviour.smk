"""Completions of the evaluation suites: all of them at anchors, what completions.every_save names at the other saves."""

answer = stages["completions"]
answer_light = stages["completions_light"]
answer_sampled = stages["completions_sampled"]
tabulate_sampled = stages["sampled_table"]


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
    priority: lambda wc: study.completions_priority(wc.regime)
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


if study.config["completions"].get("sampled"):

    rule completions_sampled:
        input:
            unpack(weights),
            prompts=layout.role("direct"),
            layers=ancient(layout.layers),
        output:
            completions=layout.sampled_answers,
        log:
            answer_sampled.log,
        benchmark:
            answer_sampled.benchmark
        conda:
            answer_sampled.conda
        threads: answer_sampled.threads
        resources:
            **answer_sampled.resources,
        params:
            **answer_sampled.params,
        shell:
            answer_sampled.command

    rule sampled_table:
        input:
            sampled=layout.each(layout.sampled_judged, study.evaluated()),
            greedy=layout.each(layout.anchor_judged, study.evaluated()),
        output:
            table=reported("sampled"),
        log:
            tabulate_sampled.log,
        conda:
            tabulate_sampled.conda
        resources:
            **tabulate_sampled.resources,
        params:
            **tabulate_sampled.params,
        shell:
            tabulate_sampled.command


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
