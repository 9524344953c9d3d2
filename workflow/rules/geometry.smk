"""Activation caches, candidate scores, carriers and their coupling, of every trajectory and every aligned model."""

probe = stages["probe_anchor"]
couple = stages["carriers"]
measure = stages["rulers"]

# A rule for each group of steps: how many files it makes depends on it, and the outputs of a rule cannot.
for label in stages.groups("fit_labels"):

    rule:
        name:
            label.rule
        input:
            **layout.group_weights(label.group),
            fit_harmful=layout.role("fit_harmful"),
            fit_benign=layout.role("fit_benign"),
            layers=ancient(layout.layers),
        output:
            labels=[file for step in label.group.steps for file in layout.fit_labels(label.group.regime, step)],
        log:
            label.log,
        benchmark:
            label.benchmark
        conda:
            label.conda
        threads: label.threads
        resources:
            **label.resources,
        params:
            **label.params,
        shell:
            label.command


rule probe_anchor:
    input:
        unpack(weights),
        **layout.probes,
        labels=layout.fit_labels("{regime}", "{step}"),
        layers=ancient(layout.layers),
    output:
        activations=layout.anchor_activations,
        scores=layout.scores,
    log:
        probe.log,
    benchmark:
        probe.benchmark
    priority: lambda wc: study.probe_priority(wc.regime)
    conda:
        probe.conda
    threads: probe.threads
    resources:
        **probe.resources,
    params:
        **probe.params,
    shell:
        probe.command


for save in stages.groups("probe_saves"):

    rule:
        name:
            save.rule
        input:
            **layout.group_weights(save.group),
            **layout.probes,
            labels=[file for step in save.group.steps for file in layout.fit_labels(save.group.regime, step)],
            layers=ancient(layout.layers),
        output:
            activations=[layout.activations(save.group.regime, step) for step in save.group.steps],
        log:
            save.log,
        benchmark:
            save.benchmark
        priority: study.saves_priority(save.group.regime, study.sweep_priority(save.group.regime))
        conda:
            save.conda
        threads: save.threads
        resources:
            **save.resources,
        params:
            **save.params,
        shell:
            save.command


rule rulers:
    input:
        **layout.probes,
        tokenizer=lambda wc: layout.models()[wc.model],
    output:
        rulers=layout.rulers,
    log:
        measure.log,
    wildcard_constraints:
        model=r"[a-z][a-z0-9_]*",
    conda:
        measure.conda
    resources:
        **measure.resources,
    params:
        **measure.params,
    shell:
        measure.command


rule carriers:
    input:
        rulers=lambda wc: filled(layout.rulers_of(wc.regime), wc.seed),
        activations=lambda wc: [filled(layout.activations(wc.regime, step), wc.seed) for step in study.steps(wc.regime)],
        scores=lambda wc: [filled(layout.scores, wc.seed, wc.regime, step) for step in study.anchor_steps(wc.regime)],
        elsewhere=lambda wc: [filled(layout.carriers, wc.seed, name) for name in study.carriers_elsewhere(wc.regime)],
    output:
        carriers=layout.carriers,
        coupling=layout.regime_table("coupling"),
        geometry=layout.regime_table("geometry"),
        controls=layout.regime_table("coupling_controls"),
        profile=layout.regime_table("profile"),
        selection=layout.regime_table("selection"),
        separability=layout.regime_table("separability"),
    log:
        couple.log,
    benchmark:
        couple.benchmark
    priority: lambda wc: study.sweep_priority(wc.regime)
    conda:
        couple.conda
    resources:
        **couple.resources,
    params:
        **couple.params,
    shell:
        couple.command
