"""Fetched sources, the base model and the models that were not trained here, their layers, and the prompt sets by role."""


rule fetch_source:
    output:
        folder=directory(f"{P}/sources/{{name}}"),
    log:
        f"{R}/logs/fetch_source/{{name}}.log",
    conda:
        "../../envs/sources.yaml"
    resources:
        **needs("fetch_source"),
    params:
        code=code("fetch_source"),
        settings=lambda wc: settings(name=wc.name, source=config["sources"][wc.name]),
    shell:
        "HF_HUB_OFFLINE=$USER_HUB_OFFLINE python workflow/scripts/fetch_source.py --folder {output.folder:q}"
        " --params {params.settings:q} --code {params.code:q} 2> {log:q}"


if config["model"]["format"] == "tiny":

    rule tiny_model:
        input:
            texts="data/benign_instructions.jsonl",
        output:
            folder=directory(BASE),
        log:
            f"{R}/logs/tiny_model.log",
        conda:
            "../../envs/torch.yaml"
        resources:
            **needs("tiny_model"),
        params:
            code=code("tiny_model"),
            settings=fixed(**config["model"]["tiny"], system=config["model"]["system"]),
        shell:
            "python workflow/scripts/tiny_model.py --texts {input.texts:q} --folder {output.folder:q}"
            " --params {params.settings:q} --code {params.code:q} 2> {log:q}"


for name, spec in layout.converted().items():

    rule:
        name:
            name
        input:
            **spec["files"],
        output:
            folder=directory(spec["folder"]),
        log:
            f"{R}/logs/{name}.log",
        benchmark:
            f"{R}/benchmarks/{name}.tsv"
        conda:
            "../../envs/torch.yaml"
        resources:
            **needs(name),
        params:
            code=code("convert_model"),
            files=lambda wc, input: options(dict(input.items())),
            settings=fixed(format=spec["format"], **{k: config["model"][k] for k in ("dtype", "threads", "system")}),
        shell:
            "python workflow/scripts/convert_model.py {params.files} --folder {output.folder:q}"
            " --params {params.settings:q} --code {params.code:q} 2> {log:q}"


# What runs a model waits for this, and is never run anew because of it (`ancient`). So it must not run for a reason of its own:
# a job that Snakemake plans hides the reasons of those below it, which an `ancient` file then does not carry on. Its params are
# therefore functions, which Snakemake does not compare; layers that are changed in a finished study are checked where they are read.
rule model_layers:
    input:
        models=list(layout.models().values()),
    output:
        layers=layout.layers,
    log:
        f"{R}/logs/model_layers.log",
    conda:
        "../../envs/sources.yaml"
    resources:
        **needs("model_layers"),
    params:
        code=lambda wc, input: code("model_layers"),
        settings=lambda wc, input: settings(
            models={name: params_of.layers(name) for name in layout.models()},
            limits={name: params_of.limits(name) for name in layout.models()},
            **({"lora_targets": config["lora"]["targets"]} if study.regimes else {}),
        ),
    shell:
        "python workflow/scripts/model_layers.py --models {input.models:q} --layers {output.layers:q}"
        " --params {params.settings:q} --code {params.code:q} 2> {log:q}"


rule prompt_sets:
    input:
        sources=study.prompt_sources(P),
    output:
        roles=[role(name) for name in config["prompts"]["roles"]],
        leakage=reported("leakage", "Checks"),
    log:
        f"{R}/logs/prompt_sets.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        **needs("prompt_sets"),
    params:
        code=code("prompt_sets"),
        settings=fixed(**params_of.prompt_sets(P)),
    shell:
        "python workflow/scripts/prompt_sets.py --sources {input.sources:q} --roles {output.roles:q} --leakage {output.leakage:q}"
        " --params {params.settings:q} --code {params.code:q} 2> {log:q}"


if study.regimes:

    rule clean_rows:
        input:
            **({} if study.answered else {"model": BASE, "layers": ancient(layout.layers)}),
            prompts=[role(name) for name in config["clean_rows"]["roles"]],
        output:
            rows=f"{P}/clean_rows.jsonl",
        log:
            f"{R}/logs/clean_rows.log",
        benchmark:
            f"{R}/benchmarks/clean_rows.tsv"
        conda:
            "../../envs/torch.yaml"
        threads: config["model"]["threads"]
        resources:
            **needs("clean_rows"),
        params:
            code=code("clean_rows"),
            model=always(options({} if study.answered else {"model": BASE})),
            settings=fixed(**params_of.clean_rows),
        shell:
            "python workflow/scripts/clean_rows.py {params.model} --prompts {input.prompts:q} --rows {output.rows:q}"
            " --params {params.settings:q} --code {params.code:q} 2> {log:q}"
