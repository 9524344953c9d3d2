"""Completions of the evaluation suites: all of them at anchors, what completions.every_save names at the other saves."""


rule completions:
    input:
        model=BASE,
        adapter=f"{SEED}/checkpoints/{{regime}}/step{{step}}",
        prompts=lambda wc: [layout.suite(s) for s in study.suites(wc.regime, int(wc.step))],
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
    params:
        code=code("complete"),
        settings=lambda wc: settings(**study.completions(wc.regime, int(wc.step))),
    shell:
        "python workflow/scripts/complete.py --model {input.model} --adapter {input.adapter} --prompts {input.prompts}"
        " --completions {output.completions} --activations {output.activations} --params {params.settings:q} --code {params.code} 2> {log}"


for segment in [s for regime in study.regimes for s in study.segments(regime)]:
    others = study.between_anchors(segment)
    if not (others and config["completions"]["every_save"]):
        continue

    rule:
        name:
            f"completions_saves_{segment.regime}_{segment.start}_{segment.stop}"
        input:
            model=BASE,
            adapters=[layout.checkpoint(segment.regime, step) for step in others],
            prompts=[layout.suite(s) for s in study.suites(segment.regime, others[0])],
        output:
            completions=[layout.completions(segment.regime, step) for step in others],
        log:
            f"{SEED}/logs/completions/{segment.regime}_{segment.start}_{segment.stop}.log",
        benchmark:
            f"{SEED}/benchmarks/completions_saves_{segment.regime}_{segment.start}_{segment.stop}.tsv"
        priority: 0 if config["train"]["keep"] == "all" else 200  # before the next segment, so that few adapters wait
        conda:
            "../../envs/torch.yaml"
        threads: config["model"]["threads"]
        params:
            code=code("complete_saves"),
            settings=settings(**study.saves_completions),
        shell:
            "python workflow/scripts/complete_saves.py --model {input.model} --adapters {input.adapters} --prompts {input.prompts}"
            " --completions {output.completions} --params {params.settings:q} --code {params.code} 2> {log}"
