"""Attacks made on checkpoints, and their transfer to others.

The fixed-source attacks are made on one checkpoint that refuses; every other source attacks the same behaviours. One job asks
all targets a source's attacks, so that a new source adds its own jobs only. Framings are made on no checkpoint.
"""

UNIVERSAL = config["attacks"].get("universal")
frame = stages["framings"]
pick = stages["attacked_behaviours"]
together = stages["attack_universal"]
gcg = stages["attack_gcg"]
autodan = stages["attack_autodan"]
ask = stages["transfer"]
judge_asked = stages["judge_transfer"]
tabulate_attacks = stages["transfer_tables"]


rule framings:
    input:
        requests=layout.role("direct"),
        templates=home.file("data/autodan_seeds.jsonl"),
    output:
        attacks=layout.framings,
    log:
        frame.log,
    conda:
        frame.conda
    resources:
        **frame.resources,
    params:
        **frame.params,
    shell:
        frame.command


rule attacked_behaviours:
    input:
        unpack(lambda wc: layout.weights(*study.fixed_source, wc.seed) if config["attacks"]["require_refusal"] else {}),
        **({"universal_requests": layout.role(UNIVERSAL["role"])} if UNIVERSAL else {}),
        requests=layout.role("direct"),
        layers=ancient(layout.layers),
    output:
        **({"universal": layout.universal_behaviours} if UNIVERSAL else {}),
        behaviours=layout.behaviours,
    log:
        pick.log,
    priority: 90
    conda:
        pick.conda
    threads: pick.threads
    resources:
        **pick.resources,
    params:
        **pick.params,
    shell:
        pick.command


rule attack_gcg:
    input:
        unpack(weights),
        behaviours=layout.behaviours,
    output:
        attacks=layout.attacks("gcg"),
        table=layout.attack_parts("gcg"),
    log:
        gcg.log,
    benchmark:
        gcg.benchmark
    priority: 90
    conda:
        gcg.conda
    threads: gcg.threads
    resources:
        **gcg.resources,
    params:
        **gcg.params,
    shell:
        gcg.command


if UNIVERSAL:

    rule attack_universal:
        input:
            unpack(weights),
            behaviours=layout.universal_behaviours,
            requests=layout.role("direct"),
        output:
            attacks=layout.attacks("universal"),
            table=layout.attack_parts("universal"),
        log:
            together.log,
        benchmark:
            together.benchmark
        priority: 90
        conda:
            together.conda
        threads: together.threads
        resources:
            **together.resources,
        params:
            **together.params,
        shell:
            together.command


rule attack_autodan:
    input:
        unpack(weights),
        behaviours=layout.behaviours,
        seeds=home.file("data/autodan_seeds.jsonl"),
        synonyms=home.file("data/synonyms.jsonl"),
    output:
        attacks=layout.attacks("autodan"),
        table=layout.attack_parts("autodan"),
    log:
        autodan.log,
    benchmark:
        autodan.benchmark
    conda:
        autodan.conda
    threads: autodan.threads
    resources:
        **autodan.resources,
    params:
        **autodan.params,
    shell:
        autodan.command


rule transfer:
    input:
        unpack(asked),
    output:
        completions=layout.transfer_answers,
    log:
        ask.log,
    benchmark:
        ask.benchmark
    conda:
        ask.conda
    threads: ask.threads
    resources:
        **ask.resources,
    params:
        **ask.params,
    shell:
        ask.command


use rule judge as judge_transfer with:
    input:
        **layout.judges("transfer"),
        completions=layout.transfer_answers,
    output:
        judged=layout.transfer_judged,
    log:
        judge_asked.log,
    group:
        "judge_transfer"
    resources:
        **judge_asked.resources,


rule transfer_tables:
    input:
        attacks_parts=[
            filled(layout.attack_parts(method), *source)
            for source in study.attacked()
            for method in [*study.methods(*source[1:]), *study.common_attacks(*source[1:])]
        ],
        judged=layout.each(layout.transfer_judged, study.attacked()),
        trajectory=layout.table("trajectory"),
        coupling=layout.table("coupling"),
        geometry=layout.table("geometry"),
    output:
        **{name: reported(name) for name in tables.ATTACKS},
    log:
        tabulate_attacks.log,
    conda:
        tabulate_attacks.conda
    resources:
        **tabulate_attacks.resources,
    params:
        **tabulate_attacks.params,
    shell:
        tabulate_attacks.command
