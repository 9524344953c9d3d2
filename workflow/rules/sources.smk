"""Fetched sources, the base model and the models that were not trained here, their layers, and the prompt sets by role."""

fetch = stages["fetch_source"]
fetch_passing = stages["fetch_passing"]
tiny = stages["tiny_model"]
convert = stages["convert_model"]
convert_passing = stages["convert_passing"]
find_layers = stages["model_layers"]
judge_sets = stages["judge_prompts"]
sets = stages["prompt_sets"]
passing = [folder.removeprefix(f"{layout.root}/models/") for folder in layout.passing()]
stack_leakage = stages["leakage_table"]
clean = stages["clean_rows"]


rule fetch_source:
    output:
        folder=directory(layout.source()),
    log:
        fetch.log,
    wildcard_constraints:
        name=others(study.passing_sources, r"[A-Za-z0-9][A-Za-z0-9_-]*"),
    conda:
        fetch.conda
    resources:
        **fetch.resources,
    params:
        **fetch.params,
    shell:
        fetch.command


# Of trajectories with keep: none. `after`: what is made of the step three before this one, so that few are on the disk.
use rule fetch_source as fetch_passing with:
    input:
        after=lambda wc: [ancient(file) for file in layout.read_before(wc.name)],
    output:
        folder=temp(directory(layout.source())),
    log:
        fetch_passing.log,
    wildcard_constraints:
        name=one_of(study.passing_sources),
    resources:
        **fetch_passing.resources,
    params:
        **fetch_passing.params,


if config["model"]["format"] == "tiny":

    rule tiny_model:
        input:
            texts=home.file("data/benign_instructions.jsonl"),
        output:
            folder=directory(layout.base),
        log:
            tiny.log,
        benchmark:
            tiny.benchmark
        conda:
            tiny.conda
        resources:
            **tiny.resources,
        params:
            **tiny.params,
        shell:
            tiny.command


rule convert_model:
    input:
        unpack(lambda wc: layout.converted()[f"{layout.root}/models/{wc.model}"][1]),
    output:
        folder=directory(f"{layout.root}/models/{{model}}"),
    log:
        convert.log,
    benchmark:
        convert.benchmark
    wildcard_constraints:
        model=others(passing, one_of(folder.removeprefix(f"{layout.root}/models/") for folder in layout.converted())),
    conda:
        convert.conda
    resources:
        **convert.resources,
    params:
        **convert.params,
    shell:
        convert.command


use rule convert_model as convert_passing with:
    output:
        folder=temp(directory(f"{layout.root}/models/{{model}}")),
    log:
        convert_passing.log,
    benchmark:
        convert_passing.benchmark
    wildcard_constraints:
        model=one_of(passing),
    priority: 200
    resources:
        **convert_passing.resources,
    params:
        **convert_passing.params,


# What runs a model waits for this, and is never run anew because of it (`ancient`). So it must not run for a reason of its own:
# a job that Snakemake plans hides the reasons of those below it, which an `ancient` file then does not carry on. Its params are
# therefore functions of its input, which Snakemake does not compare; layers that are changed in a finished study are checked where
# they are read.
rule model_layers:
    input:
        models=list(layout.models().values()),
    output:
        layers=layout.layers,
    log:
        find_layers.log,
    conda:
        find_layers.conda
    resources:
        **find_layers.resources,
    params:
        code=lambda wc, input: find_layers.params["code"],
        files=find_layers.params["files"],
        settings=lambda wc, input: find_layers.params["settings"](wc),
    shell:
        find_layers.command


if study.judge_roles:

    rule judge_prompts:
        input:
            sources=study.prompt_sources(),
        output:
            roles=layout.roles(judges=True),
        log:
            judge_sets.log,
        conda:
            judge_sets.conda
        resources:
            **judge_sets.resources,
        params:
            **judge_sets.params,
        shell:
            judge_sets.command


rule prompt_sets:
    input:
        sources=study.prompt_sources(),
        judges=layout.roles(judges=True),
    output:
        roles=layout.roles(judges=False),
        leakage=layout.leakage,
    log:
        sets.log,
    conda:
        sets.conda
    resources:
        **sets.resources,
    params:
        **sets.params,
    shell:
        sets.command


rule leakage_table:
    input:
        parts=expand(layout.leakage, seed=study.all_seeds),
    output:
        leakage=reported("leakage"),
    log:
        stack_leakage.log,
    conda:
        stack_leakage.conda
    resources:
        **stack_leakage.resources,
    params:
        **stack_leakage.params,
    shell:
        stack_leakage.command


if study.regimes:

    rule clean_rows:
        input:
            **({} if study.answered else {"model": layout.base, "layers": ancient(layout.layers)}),
            prompts=[layout.role(name) for name in config["clean_rows"]["roles"]],
        output:
            rows=layout.clean_rows,
        log:
            clean.log,
        benchmark:
            clean.benchmark
        conda:
            clean.conda
        threads: clean.threads
        resources:
            **clean.resources,
        params:
            **clean.params,
        shell:
            clean.command
