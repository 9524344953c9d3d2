"""Causal sweeps with matched controls, aligned models, follow-up and the four quadrants.

A swept checkpoint is (seed, regime or aligned model, step). Everything of one checkpoint is one chunk: a changed λ, mode or
number of controls reruns its job, which computes the cells concerned and takes the others from its store.
"""

sweep_cells = stages["sweep"]
choose = stages["follow_up_choice"]
follow = stages["follow_up"]
judge_cells = stages["judge_sweep"]
judge_followed = stages["judge_follow_up"]
tabulate = stages["causal_tables"]
tabulate_follow_up = stages["follow_up_table"]
sample = stages["quadrants"]
invert = stages["reply_inversion"]
tabulate_inversion = stages["reply_inversion_table"]
sweep_brought = stages["sweep_directions"]
tabulate_brought = stages["directions_table"]


rule sweep:
    input:
        unpack(swept),
        harmful=layout.role("direct"),
        benign=layout.role("utility"),
        suites=[layout.role(suite) for suite in config["sweep"]["generate"]["suites"]],
    output:
        cells=layout.cells,
        readout=layout.readout,
        completions=layout.sweep_answers,
    log:
        sweep_cells.log,
    benchmark:
        sweep_cells.benchmark
    priority: 80
    conda:
        sweep_cells.conda
    threads: sweep_cells.threads
    resources:
        **sweep_cells.resources,
    params:
        **sweep_cells.params,
    shell:
        sweep_cells.command


rule follow_up_choice:
    input:
        cells=lambda wc: layout.swept(layout.cells, int(wc.seed)),
        readout=lambda wc: layout.swept(layout.readout, int(wc.seed)),
        judged=lambda wc: layout.swept(layout.sweep_judged, int(wc.seed)),
    output:
        choice=layout.follow_up_choice,
    log:
        choose.log,
    priority: 80
    conda:
        choose.conda
    resources:
        **choose.resources,
    params:
        **choose.params,
    shell:
        choose.command


rule follow_up:
    input:
        unpack(swept),
        choice=layout.follow_up_choice,
        harmful=layout.role("direct"),
        suites=[layout.role(suite) for suite in config["follow_up"]["suites"]],
    output:
        completions=layout.follow_up_answers,
    log:
        follow.log,
    benchmark:
        follow.benchmark
    priority: 80
    conda:
        follow.conda
    threads: follow.threads
    resources:
        **follow.resources,
    params:
        **follow.params,
    shell:
        follow.command


use rule judge as judge_sweep with:
    input:
        **layout.judges("sweep"),
        completions=layout.sweep_answers,
    output:
        judged=layout.sweep_judged,
    log:
        judge_cells.log,
    priority: 80
    group:
        "judge_sweep"
    resources:
        **judge_cells.resources,


use rule judge as judge_follow_up with:
    input:
        **layout.judges("follow_up"),
        completions=layout.follow_up_answers,
    output:
        judged=layout.follow_up_judged,
    log:
        judge_followed.log,
    priority: 80
    group:
        "judge_follow_up"
    resources:
        **judge_followed.resources,


rule causal_tables:
    input:
        cells=layout.swept(layout.cells),
        readout=layout.swept(layout.readout),
        judged=layout.swept(layout.sweep_judged),
        carriers=layout.swept(layout.carriers),
    output:
        **{name: reported(name) for name in tables.CAUSAL},
    log:
        tabulate.log,
    conda:
        tabulate.conda
    resources:
        **tabulate.resources,
    params:
        **tabulate.params,
    shell:
        tabulate.command


rule follow_up_table:
    input:
        choices=expand(layout.follow_up_choice, seed=study.seeds),
        judged=layout.swept(layout.follow_up_judged),
    output:
        table=reported("follow_up"),
    log:
        tabulate_follow_up.log,
    conda:
        tabulate_follow_up.conda
    resources:
        **tabulate_follow_up.resources,
    params:
        **tabulate_follow_up.params,
    shell:
        tabulate_follow_up.command


if study.config["sweep"].get("reply_inversion"):

    rule reply_inversion:
        input:
            unpack(weights),
            carriers=layout.carriers,
            harmful=layout.role("direct"),
            benign=layout.role("utility"),
            layers=ancient(layout.layers),
        output:
            reply_inversion=layout.reply_inversion,
        log:
            invert.log,
        benchmark:
            invert.benchmark
        conda:
            invert.conda
        threads: invert.threads
        resources:
            **invert.resources,
        params:
            **invert.params,
        shell:
            invert.command

    rule reply_inversion_table:
        input:
            parts=layout.swept(layout.reply_inversion),
        output:
            table=reported("reply_inversion"),
        log:
            tabulate_inversion.log,
        conda:
            tabulate_inversion.conda
        resources:
            **tabulate_inversion.resources,
        params:
            **tabulate_inversion.params,
        shell:
            tabulate_inversion.command


if study.directions:

    rule sweep_directions:
        input:
            unpack(swept),
            harmful=layout.role("direct"),
            benign=layout.role("utility"),
            files=layout.direction_files(),
        output:
            directions=layout.directions,
        log:
            sweep_brought.log,
        benchmark:
            sweep_brought.benchmark
        conda:
            sweep_brought.conda
        threads: sweep_brought.threads
        resources:
            **sweep_brought.resources,
        params:
            **sweep_brought.params,
        shell:
            sweep_brought.command

    rule directions_table:
        input:
            parts=layout.swept(layout.directions),
        output:
            directions=reported("directions"),
        log:
            tabulate_brought.log,
        conda:
            tabulate_brought.conda
        resources:
            **tabulate_brought.resources,
        params:
            **tabulate_brought.params,
        shell:
            tabulate_brought.command


rule quadrants:
    input:
        judged=layout.each(layout.anchor_judged, study.evaluated()),
        completions=layout.each(layout.anchor_completions, study.evaluated()),
        prompts=layout.each(layout.prompt_activations, study.evaluated()),
        activations=layout.each(layout.anchor_activations, study.evaluated()),
        carriers=layout.each(layout.carriers, study.evaluated()),
    output:
        table=reported("quadrants"),
        texts=layout.quadrant_texts,
    log:
        sample.log,
    conda:
        sample.conda
    resources:
        **sample.resources,
    params:
        **sample.params,
    shell:
        sample.command
