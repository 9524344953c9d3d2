"""Activation caches, candidate scores, carriers and their coupling, of every regime and every aligned model."""

SETS = ["fit_harmful", "fit_benign", "select_harmful", "select_benign"]

if study.by_behaviour:

    for segment in [s for regime in study.regimes for s in study.segments(regime)]:

        rule:
            name:
                f"fit_labels_{segment.regime}_{segment.start}_{segment.stop}"
            input:
                model=BASE,
                adapters=[layout.checkpoint(segment.regime, step) for step in segment.saves],
                fit_harmful=role("fit_harmful"),
                fit_benign=role("fit_benign"),
            output:
                labels=[file for step in segment.saves for file in layout.fit_labels(segment.regime, step)],
            log:
                f"{SEED}/logs/fit_labels/{segment.regime}_{segment.start}_{segment.stop}.log",
            benchmark:
                f"{SEED}/benchmarks/fit_labels_{segment.regime}_{segment.start}_{segment.stop}.tsv"
            conda:
                "../../envs/torch.yaml"
            threads: config["model"]["threads"]
            params:
                code=code("fit_labels"),
                settings=settings(**study.labels),
            shell:
                "python workflow/scripts/fit_labels.py --model {input.model} --adapters {input.adapters} --fit-harmful {input.fit_harmful}"
                " --fit-benign {input.fit_benign} --labels {output.labels} --params {params.settings:q} --code {params.code} 2> {log}"


for regime in [*study.regimes, *study.models]:

    rule:
        name:
            f"probe_anchor_{regime}"
        input:
            **{name: role(name) for name in SETS},
            model=layout.model(regime),
            adapter=layout.adapter(regime),
            labels=layout.fit_labels(regime, "{step}"),
        output:
            activations=f"{SEED}/activations/{regime}/step{{step}}.safetensors",
            scores=f"{SEED}/scores/{regime}/step{{step}}.safetensors",
        log:
            f"{SEED}/logs/probe/{regime}_step{{step}}.log",
        benchmark:
            f"{SEED}/benchmarks/probe_{regime}_step{{step}}.tsv"
        wildcard_constraints:
            step="|".join(map(str, study.anchor_steps(regime))),
        priority: study.sweep_priority(regime)
        conda:
            "../../envs/torch.yaml"
        threads: config["model"]["threads"]
        params:
            code=code("probe"),
            adapter=lambda wc, input: f"--adapter {input.adapter}" if input.adapter else "",
            labels=lambda wc, input: f"--labels {input.labels}" if input.labels else "",
            settings=settings(**study.activations, **study.scoring),
        shell:
            "python workflow/scripts/probe.py --model {input.model} {params.adapter} {params.labels} --fit-harmful {input.fit_harmful}"
            " --fit-benign {input.fit_benign} --select-harmful {input.select_harmful} --select-benign {input.select_benign}"
            " --activations {output.activations} --scores {output.scores} --params {params.settings:q} --code {params.code} 2> {log}"

    for segment in study.segments(regime):
        others = study.between_anchors(segment)
        if not others:
            continue

        rule:
            name:
                f"probe_saves_{regime}_{segment.start}_{segment.stop}"
            input:
                **{name: role(name) for name in SETS},
                model=BASE,
                adapters=[layout.checkpoint(regime, step) for step in others],
                labels=[file for step in others for file in layout.fit_labels(regime, step)],
            output:
                activations=[f"{SEED}/activations/{regime}/step{step}.safetensors" for step in others],
            log:
                f"{SEED}/logs/probe/{regime}_{segment.start}_{segment.stop}.log",
            benchmark:
                f"{SEED}/benchmarks/probe_saves_{regime}_{segment.start}_{segment.stop}.tsv"
            priority: study.sweep_priority(regime) if config["train"]["keep"] == "all" else 200  # before the next segment, so that few adapters wait
            conda:
                "../../envs/torch.yaml"
            threads: config["model"]["threads"]
            params:
                code=code("probe_saves"),
                labels=lambda wc, input: f"--labels {input.labels}" if input.labels else "",
                settings=settings(**study.saves_activations),
            shell:
                "python workflow/scripts/probe_saves.py --model {input.model} --adapters {input.adapters} {params.labels} --fit-harmful {input.fit_harmful}"
                " --fit-benign {input.fit_benign} --select-harmful {input.select_harmful} --select-benign {input.select_benign}"
                " --activations {output.activations} --params {params.settings:q} --code {params.code} 2> {log}"

    rule:
        name:
            f"carriers_{regime}"
        input:
            activations=[f"{SEED}/activations/{regime}/step{step}.safetensors" for step in study.steps(regime)],
            scores=[f"{SEED}/scores/{regime}/step{step}.safetensors" for step in study.anchor_steps(regime)],
        output:
            carriers=f"{SEED}/carriers/{regime}/carriers.safetensors",
            coupling=f"{SEED}/carriers/{regime}/coupling.csv",
            geometry=f"{SEED}/carriers/{regime}/geometry.csv",
            controls=f"{SEED}/carriers/{regime}/coupling_controls.csv",
            profile=f"{SEED}/carriers/{regime}/profile.csv",
        log:
            f"{SEED}/logs/carriers/{regime}.log",
        benchmark:
            f"{SEED}/benchmarks/carriers_{regime}.tsv"
        priority: study.sweep_priority(regime)
        conda:
            "../../envs/analysis.yaml"
        params:
            code=code("carriers"),
            settings=lambda wc, regime=regime: settings(**study.carriers(regime, int(wc.seed))),
        shell:
            "export OMP_NUM_THREADS=1; python workflow/scripts/carriers.py --activations {input.activations} --scores {input.scores}"
            " --carriers {output.carriers} --coupling {output.coupling} --geometry {output.geometry}"
            " --controls {output.controls} --profile {output.profile}"
            " --params {params.settings:q} --code {params.code} 2> {log}"
