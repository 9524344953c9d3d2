"""Activation caches, candidate scores, carriers and their coupling, of every regime and every aligned model."""

SETS = ["fit_harmful", "fit_benign", "select_harmful", "select_benign"]

for regime in [*study.regimes, *study.models]:
    others = [step for step in study.steps(regime) if step not in study.anchor_steps(regime)]

    rule:
        name:
            f"probe_anchor_{regime}"
        input:
            **{name: role(name) for name in SETS},
            model=layout.model(regime),
            adapter=layout.adapter(regime),
        output:
            activations=f"{SEED}/activations/{regime}/step{{step}}.safetensors",
            scores=f"{SEED}/scores/{regime}/step{{step}}.safetensors",
        log:
            f"{SEED}/logs/probe/{regime}_step{{step}}.log",
        benchmark:
            f"{SEED}/benchmarks/probe_{regime}_step{{step}}.tsv"
        wildcard_constraints:
            step="|".join(map(str, study.anchor_steps(regime))),
        conda:
            "../../envs/torch.yaml"
        threads: config["model"]["threads"]
        params:
            code=code("probe"),
            adapter=lambda wc, input: f"--adapter {input.adapter}" if input.adapter else "",
            settings=settings(**study.activations, **study.scoring),
        shell:
            "python workflow/scripts/probe.py --model {input.model} {params.adapter} --fit-harmful {input.fit_harmful}"
            " --fit-benign {input.fit_benign} --select-harmful {input.select_harmful} --select-benign {input.select_benign}"
            " --activations {output.activations} --scores {output.scores} --params {params.settings:q} --code {params.code} 2> {log}"

    if others:

        rule:
            name:
                f"probe_save_{regime}"
            input:
                **{name: role(name) for name in SETS},
                model=BASE,
                adapter=f"{SEED}/checkpoints/{regime}/step{{step}}",
            output:
                activations=f"{SEED}/activations/{regime}/step{{step}}.safetensors",
            log:
                f"{SEED}/logs/probe/{regime}_step{{step}}.log",
            benchmark:
                f"{SEED}/benchmarks/probe_{regime}_step{{step}}.tsv"
            wildcard_constraints:
                step="|".join(map(str, others)),
            conda:
                "../../envs/torch.yaml"
            threads: config["model"]["threads"]
            params:
                code=code("probe"),
                settings=settings(**study.activations),
            shell:
                "python workflow/scripts/probe.py --model {input.model} --adapter {input.adapter} --fit-harmful {input.fit_harmful}"
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
