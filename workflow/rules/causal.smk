"""Causal sweeps with matched controls, aligned models, follow-up and the four quadrants.

A swept checkpoint is (seed, regime or aligned model, step). Everything of one checkpoint is one chunk: a changed λ, mode or
number of controls reruns its job, which computes the cells concerned and takes the others from its store.
"""

SWEEP, FOLLOW, QUADRANTS = config["sweep"], config["follow_up"], config["quadrants"]
SWEPT = f"{SEED}/sweep/{{regime}}/step{{step}}"
PSWEPT = f"{PSEED}/sweep/{{regime}}/step{{step}}"
SWEPT_CHECKPOINTS = study.identities(study.swept())


rule sweep:
    input:
        unpack(swept_inputs),
        harmful=role("direct"),
        benign=role("utility"),
        suites=[role(suite) for suite in SWEEP["generate"]["suites"]],
    output:
        cells=f"{SWEPT}/cells.csv",
        readout=f"{SWEPT}/readout.csv",
        completions=f"{PSWEPT}/completions.jsonl",
    log:
        f"{SEED}/logs/sweep/{{regime}}_step{{step}}.log",
    benchmark:
        f"{SEED}/benchmarks/sweep_{{regime}}_step{{step}}.tsv"
    priority: 80
    conda:
        "../../envs/torch.yaml"
    threads: config["model"]["threads"]
    resources:
        **needs("sweep"),
    params:
        code=code("sweep"),
        files=named,
        settings=lambda wc: settings(**params_of.sweep(wc.regime, int(wc.step), int(wc.seed))),
    shell:
        "python workflow/scripts/sweep.py {params.files} --harmful {input.harmful:q} --benign {input.benign:q} --suites {input.suites:q}"
        " --cells {output.cells:q} --readout {output.readout:q} --completions {output.completions:q}"
        " --params {params.settings:q} --code {params.code:q} 2> {log:q}"


rule follow_up_choice:
    input:
        cells=lambda wc: layout.swept("cells.csv", int(wc.seed)),
        readout=lambda wc: layout.swept("readout.csv", int(wc.seed)),
        judged=lambda wc: layout.swept("sweep/judged.csv", int(wc.seed)),
    output:
        choice=f"{SEED}/sweep/choice.json",
    log:
        f"{SEED}/logs/follow_up_choice.log",
    priority: 80
    conda:
        "../../envs/analysis.yaml"
    resources:
        **needs("follow_up_choice"),
    params:
        code=code("follow_up_choice"),
        settings=lambda wc: settings(
            checkpoints=[c for c in SWEPT_CHECKPOINTS if c["seed"] == int(wc.seed)],
            targets=FOLLOW["targets"],
            controls=FOLLOW["controls"],
            stats_seed=config["statistics"]["seed"],
        ),
    shell:
        "export OMP_NUM_THREADS=1; python workflow/scripts/follow_up_choice.py --cells {input.cells:q} --readout {input.readout:q}"
        " --judged {input.judged:q} --choice {output.choice:q} --params {params.settings:q} --code {params.code:q} 2> {log:q}"


rule follow_up:
    input:
        unpack(swept_inputs),
        choice=f"{SEED}/sweep/choice.json",
        harmful=role("direct"),
        suites=[role(suite) for suite in FOLLOW["suites"]],
    output:
        completions=f"{PSWEPT}/follow_up.jsonl",
    log:
        f"{SEED}/logs/follow_up/{{regime}}_step{{step}}.log",
    benchmark:
        f"{SEED}/benchmarks/follow_up_{{regime}}_step{{step}}.tsv"
    priority: 80
    conda:
        "../../envs/torch.yaml"
    threads: config["model"]["threads"]
    resources:
        **needs("follow_up"),
    params:
        code=code("follow_up"),
        files=named,
        settings=lambda wc: settings(**params_of.follow_up(wc.regime, int(wc.step), int(wc.seed))),
    shell:
        "python workflow/scripts/follow_up.py {params.files} --choice {input.choice:q} --harmful {input.harmful:q}"
        " --suites {input.suites:q} --completions {output.completions:q}"
        " --params {params.settings:q} --code {params.code:q} 2> {log:q}"


use rule judge as judge_sweep with:
    input:
        **JUDGE_FILES,
        completions=f"{PSWEPT}/completions.jsonl",
    output:
        judged=f"{SWEPT}/sweep/judged.csv",
    log:
        f"{SEED}/logs/judge/sweep_{{regime}}_step{{step}}.log",
    priority: 80
    group:
        None if PUBLISHED else "judge_sweep"


use rule judge as judge_follow_up with:
    input:
        **JUDGE_FILES,
        completions=f"{PSWEPT}/follow_up.jsonl",
    output:
        judged=f"{SWEPT}/follow_up/judged.csv",
    log:
        f"{SEED}/logs/judge/follow_up_{{regime}}_step{{step}}.log",
    priority: 80
    group:
        None if PUBLISHED else "judge_follow_up"


rule causal_tables:
    input:
        cells=layout.swept("cells.csv"),
        readout=layout.swept("readout.csv"),
        judged=layout.swept("sweep/judged.csv"),
        carriers=[f"{R}/seed{s}/carriers/{name}/carriers.safetensors" for s, name, _ in study.swept()],
    output:
        causal_sweep=reported("causal_sweep", "Causal"),
        control_normalised=reported("control_normalised", "Causal"),
        layer_scan=reported("layer_scan", "Causal"),
        aligned_anchors=reported("aligned_anchors", "Causal"),
    log:
        f"{R}/logs/causal_tables.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        **needs("causal_tables"),
    params:
        code=code("causal_tables"),
        settings=fixed(
            checkpoints=SWEPT_CHECKPOINTS,
            aligned=[f"{regime}:{a}" for regime, anchors in config["aligned"]["anchors"].items() for a in anchors],
            models=list(study.models),
            stats_seed=config["statistics"]["seed"],
            draws=config["statistics"]["bootstrap"],
        ),
    shell:
        "export OMP_NUM_THREADS=1; python workflow/scripts/causal_tables.py --cells {input.cells:q} --readout {input.readout:q}"
        " --judged {input.judged:q} --carriers {input.carriers:q} --causal-sweep {output.causal_sweep:q}"
        " --control-normalised {output.control_normalised:q} --layer-scan {output.layer_scan:q}"
        " --aligned-anchors {output.aligned_anchors:q} --params {params.settings:q} --code {params.code:q} 2> {log:q}"


rule follow_up_table:
    input:
        choices=expand(f"{SEED}/sweep/choice.json", seed=config["seeds"]),
        judged=layout.swept("follow_up/judged.csv"),
    output:
        table=reported("follow_up", "Causal"),
    log:
        f"{R}/logs/follow_up_table.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        **needs("follow_up_table"),
    params:
        code=code("follow_up_table"),
        settings=fixed(
            checkpoints=SWEPT_CHECKPOINTS,
            stats_seed=config["statistics"]["seed"],
            draws=config["statistics"]["bootstrap"],
        ),
    shell:
        "export OMP_NUM_THREADS=1; python workflow/scripts/follow_up_table.py --choices {input.choices:q} --judged {input.judged:q}"
        " --table {output.table:q} --params {params.settings:q} --code {params.code:q} 2> {log:q}"


EVALUATED = [point for point in layout.judged_checkpoints() if study.anchor_name(*point[1:])]


rule quadrants:
    input:
        judged=[f"{R}/seed{s}/judged/{name}/step{step}/judged.csv" for s, name, step in EVALUATED],
        completions=[f"{P}/seed{s}/completions/{name}/step{step}.jsonl" for s, name, step in EVALUATED],
        prompts=[f"{R}/seed{s}/completions/{name}/step{step}.safetensors" for s, name, step in EVALUATED],
        activations=[f"{R}/seed{s}/activations/{name}/step{step}.safetensors" for s, name, step in EVALUATED],
        carriers=[f"{R}/seed{s}/carriers/{name}/carriers.safetensors" for s, name, _ in EVALUATED],
    output:
        table=reported("quadrants", "Causal"),
        texts=f"{P}/quadrants.jsonl",
    log:
        f"{R}/logs/quadrants.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        **needs("quadrants"),
    params:
        code=code("quadrants"),
        settings=fixed(
            checkpoints=study.identities(EVALUATED),
            **QUADRANTS,
            stats_seed=config["statistics"]["seed"],
        ),
    shell:
        "export OMP_NUM_THREADS=1; python workflow/scripts/quadrants.py --judged {input.judged:q} --completions {input.completions:q}"
        " --prompts {input.prompts:q} --activations {input.activations:q} --carriers {input.carriers:q} --table {output.table:q}"
        " --texts {output.texts:q} --params {params.settings:q} --code {params.code:q} 2> {log:q}"


CAUSAL_TABLES = ["quadrants"]
if study.swept():
    CAUSAL_TABLES += ["causal_sweep", "control_normalised"]
    CAUSAL_TABLES += ["layer_scan"] if SWEEP["layer_scan"] else []
    CAUSAL_TABLES += ["aligned_anchors"] if config["aligned"]["anchors"] or study.models else []
    CAUSAL_TABLES += ["follow_up"] if FOLLOW["targets"] else []
