"""Training: every regime is a chain of segments, each a job from one saved state to the next."""

for segment in [s for regime in study.regimes for s in study.segments(regime)]:

    rule:
        name:
            f"train_{segment.regime}_{segment.start}_{segment.stop}"
        input:
            model=BASE,
            clean=f"{P}/clean_rows.jsonl",
            pool=role("train_pool"),
            monitor_harmful=role("monitor_harmful"),
            monitor_benign=role("monitor_benign"),
            layers=ancient(layout.layers),
            previous=list(layout.state(segment.regime, segment.start).values()) if segment.start else [],
        output:
            **layout.state(segment.regime, segment.stop),
            adapters=[
                temp(directory(adapter)) if study.passing(segment.regime, step) else directory(adapter)
                for step in segment.saves
                for adapter in [layout.checkpoint(segment.regime, step)]
            ],
            log=layout.training_log(segment),
        log:
            f"{SEED}/logs/train/{segment.regime}_{segment.start}_{segment.stop}.log",
        benchmark:
            f"{SEED}/benchmarks/train_{segment.regime}_{segment.start}_{segment.stop}.tsv"
        priority: study.training_priority(segment.regime)
        conda:
            "../../envs/torch.yaml"
        threads: config["model"]["threads"] * study.processes
        resources:
            **needs(f"train_{segment.regime}_{segment.start}_{segment.stop}"),
            **study.training_gpus,
        params:
            launcher=lambda wc, resources: study.launcher(resources.get("gpu", 0)),
            code=code("train_segment"),
            previous=lambda wc, input: options(dict(zip(("state", "progress"), input.previous))),
            settings=lambda wc, segment=segment: settings(**params_of.training(segment, int(wc.seed))),
        shell:
            "{params.launcher}python workflow/scripts/train_segment.py --model {input.model:q} --clean {input.clean:q} --pool {input.pool:q}"
            " --monitor-harmful {input.monitor_harmful:q} --monitor-benign {input.monitor_benign:q} {params.previous}"
            " --adapters {output.adapters:q} --new-state {output.state:q} --new-progress {output.progress:q} --log {output.log:q}"
            " --params {params.settings:q} --code {params.code:q} 2> {log:q}"


if study.regimes:

    rule training_table:
        input:
            logs=[layout.training_log(s) for regime in study.regimes for s in study.segments(regime)],
        output:
            table=f"{SEED}/training.csv",
        log:
            f"{SEED}/logs/training_table.log",
        conda:
            "../../envs/analysis.yaml"
        resources:
            **needs("training_table"),
        params:
            code=code("concatenate"),
        shell:
            "python workflow/scripts/concatenate.py --parts {input.logs:q} --table {output.table:q} --code {params.code:q} 2> {log:q}"
