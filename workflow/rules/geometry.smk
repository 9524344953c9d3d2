"""Activation caches, candidate scores, carriers and their coupling, of every trajectory and every aligned model."""

SETS = ["fit_harmful", "fit_benign", "select_harmful", "select_benign"]

if study.by_behaviour:

    for regime, group, steps in [(name, *group) for name in study.trajectories for group in study.groups(name)]:

        rule:
            name:
                f"fit_labels_{regime}_{group}"
            input:
                model=layout.model(regime, steps[0]),
                adapters=[adapter for step in steps for adapter in layout.adapter(regime, step)],
                fit_harmful=role("fit_harmful"),
                fit_benign=role("fit_benign"),
                layers=ancient(layout.layers),
            output:
                labels=[file for step in steps for file in layout.fit_labels(regime, step)],
            log:
                f"{SEED}/logs/fit_labels/{regime}_{group}.log",
            benchmark:
                f"{SEED}/benchmarks/fit_labels_{regime}_{group}.tsv"
            conda:
                "../../envs/torch.yaml"
            threads: config["model"]["threads"]
            resources:
                **needs(f"fit_labels_{regime}_{group}"),
            params:
                code=code("fit_labels"),
                adapters=lambda wc, input: options({"adapters": input.adapters}),
                settings=fixed(**params_of.labels),
            shell:
                "python workflow/scripts/fit_labels.py --model {input.model:q} {params.adapters} --fit-harmful {input.fit_harmful:q}"
                " --fit-benign {input.fit_benign:q} --labels {output.labels:q} --params {params.settings:q} --code {params.code:q} 2> {log:q}"


for regime in [*study.trajectories, *study.models]:

    rule:
        name:
            f"probe_anchor_{regime}"
        input:
            unpack(lambda wc, regime=regime: layout.weights(regime, int(wc.step), wc.seed)),
            **{name: role(name) for name in SETS},
            labels=layout.fit_labels(regime, "{step}"),
            layers=ancient(layout.layers),
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
        resources:
            **needs(f"probe_anchor_{regime}"),
        params:
            code=code("probe"),
            files=named,
            labels=lambda wc, input: options({"labels": input.labels}),
            settings=fixed(**params_of.activations, **params_of.scoring),
        shell:
            "python workflow/scripts/probe.py {params.files} {params.labels} --fit-harmful {input.fit_harmful:q}"
            " --fit-benign {input.fit_benign:q} --select-harmful {input.select_harmful:q} --select-benign {input.select_benign:q}"
            " --activations {output.activations:q} --scores {output.scores:q} --params {params.settings:q} --code {params.code:q} 2> {log:q}"

    for group, others in study.between_anchors(regime):

        rule:
            name:
                f"probe_saves_{regime}_{group}"
            input:
                **{name: role(name) for name in SETS},
                model=layout.model(regime, others[0]),
                adapters=[adapter for step in others for adapter in layout.adapter(regime, step)],
                labels=[file for step in others for file in layout.fit_labels(regime, step)],
                layers=ancient(layout.layers),
            output:
                activations=[f"{SEED}/activations/{regime}/step{step}.safetensors" for step in others],
            log:
                f"{SEED}/logs/probe/{regime}_{group}.log",
            benchmark:
                f"{SEED}/benchmarks/probe_saves_{regime}_{group}.tsv"
            priority: study.saves_priority(regime, study.sweep_priority(regime))
            conda:
                "../../envs/torch.yaml"
            threads: config["model"]["threads"]
            resources:
                **needs(f"probe_saves_{regime}_{group}"),
            params:
                code=code("probe_saves"),
                adapters=lambda wc, input: options({"adapters": input.adapters}),
                labels=lambda wc, input: options({"labels": input.labels}),
                settings=fixed(**params_of.saves_activations),
            shell:
                "python workflow/scripts/probe_saves.py --model {input.model:q} {params.adapters} {params.labels} --fit-harmful {input.fit_harmful:q}"
                " --fit-benign {input.fit_benign:q} --select-harmful {input.select_harmful:q} --select-benign {input.select_benign:q}"
                " --activations {output.activations:q} --params {params.settings:q} --code {params.code:q} 2> {log:q}"

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
        resources:
            **needs(f"carriers_{regime}"),
        params:
            code=code("carriers"),
            settings=lambda wc, regime=regime: settings(**params_of.carriers(regime, int(wc.seed))),
        shell:
            "export OMP_NUM_THREADS=1; python workflow/scripts/carriers.py --activations {input.activations:q} --scores {input.scores:q}"
            " --carriers {output.carriers:q} --coupling {output.coupling:q} --geometry {output.geometry:q}"
            " --controls {output.controls:q} --profile {output.profile:q}"
            " --params {params.settings:q} --code {params.code:q} 2> {log:q}"
