"""Attacks made on checkpoints, and their transfer to others.

The fixed-source attacks are GCG's on one checkpoint that refuses; every other source attacks the same behaviours. One job asks
all targets a source's attacks, so that a new source adds its own jobs only.
"""

ATTACKS = f"{PSEED}/attacks/{{method}}/{{regime}}/step{{step}}.jsonl"
ATTACK_PARTS = f"{SEED}/attacks/{{method}}/{{regime}}/step{{step}}.csv"
BEHAVIOURS = f"{PSEED}/attacks/behaviours.jsonl"


ATTACKED = [(seed, *source) for seed in config["seeds"] for source in study.attack_sources]


rule attacked_behaviours:
    input:
        unpack(lambda wc: layout.weights(*study.fixed_source, wc.seed) if config["attacks"]["require_refusal"] else {}),
        requests=role("direct"),
        layers=ancient(layout.layers),
    output:
        behaviours=BEHAVIOURS,
    log:
        f"{SEED}/logs/attacked_behaviours.log",
    priority: 90
    conda:
        "../../envs/torch.yaml"
    threads: config["model"]["threads"]
    resources:
        **needs("attacked_behaviours"),
    params:
        code=code("choose_behaviours"),
        files=named,
        settings=fixed(**params_of.attacked_behaviours),
    shell:
        "python workflow/scripts/choose_behaviours.py {params.files} --requests {input.requests:q}"
        " --behaviours {output.behaviours:q} --params {params.settings:q} --code {params.code:q} > {log:q} 2>&1"


rule attack_gcg:
    input:
        unpack(weights),
        behaviours=BEHAVIOURS,
    output:
        attacks=ATTACKS.replace("{method}", "gcg"),
        table=ATTACK_PARTS.replace("{method}", "gcg"),
    log:
        f"{SEED}/logs/attack_gcg/{{regime}}_step{{step}}.log",
    benchmark:
        f"{SEED}/benchmarks/attack_gcg_{{regime}}_step{{step}}.tsv"
    priority: 90
    conda:
        "../../envs/torch.yaml"
    threads: config["model"]["threads"]
    resources:
        **needs("attack_gcg"),
    params:
        code=code("attack_gcg"),
        files=named,
        settings=lambda wc: settings(**params_of.gcg_attacks(wc.regime, int(wc.step), int(wc.seed))),
    shell:
        "python workflow/scripts/attack_gcg.py {params.files} --behaviours {input.behaviours:q}"
        " --attacks {output.attacks:q} --table {output.table:q}"
        " --params {params.settings:q} --code {params.code:q} > {log:q} 2>&1"


rule attack_autodan:
    input:
        unpack(weights),
        behaviours=BEHAVIOURS,
        seeds="data/autodan_seeds.jsonl",
        synonyms="data/synonyms.jsonl",
    output:
        attacks=ATTACKS.replace("{method}", "autodan"),
        table=ATTACK_PARTS.replace("{method}", "autodan"),
    log:
        f"{SEED}/logs/attack_autodan/{{regime}}_step{{step}}.log",
    benchmark:
        f"{SEED}/benchmarks/attack_autodan_{{regime}}_step{{step}}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: config["model"]["threads"]
    resources:
        **needs("attack_autodan"),
    params:
        code=code("attack_autodan"),
        files=named,
        settings=lambda wc: settings(**params_of.autodan_attacks(wc.regime, int(wc.step), int(wc.seed))),
    shell:
        "python workflow/scripts/attack_autodan.py {params.files} --behaviours {input.behaviours:q}"
        " --seeds {input.seeds:q} --synonyms {input.synonyms:q} --attacks {output.attacks:q} --table {output.table:q}"
        " --params {params.settings:q} --code {params.code:q} > {log:q} 2>&1"


rule transfer:
    input:
        model=lambda wc: [layout.model(*target) for target in study.attack_targets(wc.regime, int(wc.step))],
        adapters=lambda wc: [
            adapter.format(seed=wc.seed)
            for target in study.attack_targets(wc.regime, int(wc.step))
            for adapter in layout.adapter(*target)
        ],
        attacks=lambda wc: [
            ATTACKS.format(seed=wc.seed, method=method, regime=wc.regime, step=wc.step)
            for method in study.methods(wc.regime, int(wc.step))
        ],
    output:
        completions=f"{PSEED}/transfer/{{regime}}/step{{step}}.jsonl",
    log:
        f"{SEED}/logs/transfer/{{regime}}_step{{step}}.log",
    benchmark:
        f"{SEED}/benchmarks/transfer_{{regime}}_step{{step}}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: config["model"]["threads"]
    resources:
        **needs("transfer"),
    params:
        code=code("transfer"),
        settings=lambda wc: settings(**params_of.transfer(wc.regime, int(wc.step))),
    shell:
        "python workflow/scripts/transfer.py --model {input.model:q} --adapters {input.adapters:q} --attacks {input.attacks:q}"
        " --completions {output.completions:q} --params {params.settings:q} --code {params.code:q} 2> {log:q}"


use rule judge as judge_transfer with:
    input:
        **JUDGE_FILES,
        completions=f"{PSEED}/transfer/{{regime}}/step{{step}}.jsonl",
    output:
        judged=f"{SEED}/transfer/{{regime}}/step{{step}}/judged.csv",
    log:
        f"{SEED}/logs/judge/transfer_{{regime}}_step{{step}}.log",
    group:
        None if PUBLISHED else "judge_transfer"


rule transfer_tables:
    input:
        attacks_parts=[
            ATTACK_PARTS.format(seed=seed, method=method, regime=regime, step=step)
            for seed, regime, step in ATTACKED
            for method in study.methods(regime, step)
        ],
        judged=[f"{R}/seed{seed}/transfer/{regime}/step{step}/judged.csv" for seed, regime, step in ATTACKED],
        trajectory=layout.table("trajectory"),
        coupling=layout.table("coupling"),
        geometry=layout.table("geometry"),
    output:
        attacks=reported("attacks", "Attacks"),
        transfer=reported("transfer", "Attacks"),
        transfer_predictors=reported("transfer_predictors", "Attacks"),
    log:
        f"{R}/logs/transfer_tables.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        **needs("transfer_tables"),
    params:
        code=code("transfer_tables"),
        settings=fixed(
            sources=[dict(zip(("seed", "regime", "step"), source)) for source in ATTACKED],
            fixed_source="{}:{}".format(*study.fixed_source),
            untrained=list(study.own),
            stats_seed=config["statistics"]["seed"],
            draws=config["statistics"]["bootstrap"],
        ),
    shell:
        "export OMP_NUM_THREADS=1; python workflow/scripts/transfer_tables.py --attacks-parts {input.attacks_parts:q}"
        " --judged {input.judged:q} --trajectory {input.trajectory:q} --coupling {input.coupling:q} --geometry {input.geometry:q}"
        " --attacks {output.attacks:q} --transfer {output.transfer:q} --transfer-predictors {output.transfer_predictors:q}"
        " --params {params.settings:q} --code {params.code:q} 2> {log:q}"


ATTACK_TABLES = ["attacks", "transfer", "transfer_predictors"]
