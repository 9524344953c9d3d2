"""Training: every regime is a chain of segments, each a job from one saved state to the next."""

# A rule for each segment: how many adapters it saves depends on it, and the outputs of a rule cannot.
for train in stages.groups("train"):

    rule:
        name:
            train.rule
        input:
            **(layout.state(train.group, start=True) if train.group.start else {}),
            model=layout.base,
            clean=layout.clean_rows,
            pool=layout.role("train_pool"),
            monitor_harmful=layout.role("monitor_harmful"),
            monitor_benign=layout.role("monitor_benign"),
            layers=ancient(layout.layers),
        output:
            **{f"new_{name}": path for name, path in layout.state(train.group).items()},
            adapters=[
                temp(directory(folder)) if study.passing(train.group.regime, step) else directory(folder)
                for step in train.group.steps
                for folder in [layout.checkpoint(train.group.regime, step)]
            ],
            log=layout.training_log(train.group),
            answers=layout.monitor_answers(train.group),
        log:
            train.log,
        benchmark:
            train.benchmark
        priority: study.training_priority(train.group.regime)
        conda:
            train.conda
        threads: train.threads * study.processes
        resources:
            **train.resources,
            **study.training_gpus,
        params:
            **train.params,
            launcher=lambda wc, resources: study.launcher(resources.get("gpu", 0), home.file),
        shell:
            "{params.launcher}" + train.command


if study.regimes:
    log_table = stages["training_table"]
    trained = [group for regime in study.regimes for group in study.segments(regime)]

    rule training_table:
        input:
            logs=[layout.training_log(group) for group in trained],
            answers=[layout.monitor_answers(group) for group in trained],
        output:
            table=layout.training_table,
        log:
            log_table.log,
        conda:
            log_table.conda
        resources:
            **log_table.resources,
        params:
            **log_table.params,
        shell:
            log_table.command
