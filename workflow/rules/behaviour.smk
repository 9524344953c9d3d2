"""Completions of the evaluation suites: all of them at anchors, what completions.every_save names at the other saves."""


rule completions:
    input:
        unpack(weights),
        prompts=lambda wc: [layout.suite(s) for s in study.suites(wc.regime, int(wc.step))],
        layers=ancient(layout.layers),
    output:
        completions=f"{PSEED}/completions/{{regime}}/step{{step}}.jsonl",
        activations=f"{SEED}/completions/{{regime}}/step{{step}}.safetensors",
    log:
        f"{SEED}/logs/completions/{{regime}}_step{{step}}.log",
    benchmark:
        f"{SEED}/benchmarks/completions_{{regime}}_step{{step}}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: config["model"]["threads"]
    resources:
        **needs("completions"),
    params:
        code=code("complete"),
        files=named,
        settings=lambda wc: settings(**params_of.completions(wc.regime, int(wc.step))),
    shell:
        "python workflow/scripts/complete.py {params.files} --prompts {input.prompts:q}"
        " --completions {output.completions:q} --activations {output.activations:q} --params {params.settings:q} --code {params.code:q} 2> {log:q}"


# (trajectory, name of the group, its saves that are no anchors) where these are asked anything.
ANSWERED = [(name, *group) for name in study.trajectories for group in study.between_anchors(name)]
ANSWERED = ANSWERED if config["completions"]["every_save"] else []

for regime, group, others in ANSWERED:

    rule:
        name:
            f"completions_saves_{regime}_{group}"
        input:
            model=layout.model(regime, others[0]),
            adapters=[adapter for step in others for adapter in layout.adapter(regime, step)],
            prompts=[layout.suite(s) for s in study.suites(regime, others[0])],
            layers=ancient(layout.layers),
        output:
            completions=[layout.completions(regime, step) for step in others],
        log:
            f"{SEED}/logs/completions/{regime}_{group}.log",
        benchmark:
            f"{SEED}/benchmarks/completions_saves_{regime}_{group}.tsv"
        priority: study.saves_priority(regime)
        conda:
            "../../envs/torch.yaml"
        threads: config["model"]["threads"]
        resources:
            **needs(f"completions_saves_{regime}_{group}"),
        params:
            code=code("complete_saves"),
            adapters=lambda wc, input: options({"adapters": input.adapters}),
            settings=fixed(**params_of.saves_completions),
        shell:
            "python workflow/scripts/complete_saves.py --model {input.model:q} {params.adapters} --prompts {input.prompts:q}"
            " --completions {output.completions:q} --params {params.settings:q} --code {params.code:q} 2> {log:q}"
