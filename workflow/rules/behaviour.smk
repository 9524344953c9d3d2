"""Completions of the evaluation suites."""


rule completions:
    input:
        unpack(weights),
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
        files=named,
        settings=lambda wc: settings(**study.completions(wc.regime, int(wc.step))),
    shell:
        "python workflow/scripts/complete.py {params.files} --prompts {input.prompts}"
        " --completions {output.completions} --activations {output.activations} --params {params.settings:q} --code {params.code} 2> {log}"
