"""Judges trained on human labels, and the judged completions. Trained judges hold words of harmful answers: private."""

JUDGES = config["judges"]
LABELLED = JUDGES.get("labelled")
PUBLISHED = {name: JUDGES[name] for name in ("harmbench", "strongreject") if JUDGES.get(name)}
HAND_LABELS = JUDGES.get("hand_labels")


if LABELLED:

    rule train_judges:
        input:
            refusal_labels=layout.labelled_place(LABELLED["refusal"]),
            harm_labels=layout.labelled_place(LABELLED["harm"]),
            judge_train=role("judge_train"),
        output:
            refusal=f"{P}/judges/refusal.json",
            harm=f"{P}/judges/harm.json",
            table=f"{R}/judges/judges.csv",
        log:
            f"{R}/logs/train_judges.log",
        benchmark:
            f"{R}/benchmarks/train_judges.tsv"
        conda:
            "../../envs/analysis.yaml"
        resources:
            **needs("train_judges"),
        params:
            code=code("train_judges"),
            refusal_files=always(patterns(*layout.labelled_files(LABELLED["refusal"]))),
            harm_files=always(patterns(*layout.labelled_files(LABELLED["harm"]))),
            settings=fixed(
                refusal_dataset=LABELLED["refusal"]["name"],
                harm_dataset=LABELLED["harm"]["name"],
                n_folds=LABELLED["folds"],
                seed=config["statistics"]["seed"],
            ),
        shell:
            "shopt -s globstar; export OMP_NUM_THREADS=1; python workflow/scripts/train_judges.py"
            " --refusal-labels {params.refusal_files} --harm-labels {params.harm_files} --judge-train {input.judge_train:q}"
            " --refusal {output.refusal:q} --harm {output.harm:q} --table {output.table:q}"
            " --params {params.settings:q} --code {params.code:q} 2> {log:q}"

    rule judge_agreement:
        input:
            **({"hand_labels": HAND_LABELS} if HAND_LABELS else {}),
            trained=f"{R}/judges/judges.csv",
            judged=layout.judged() if HAND_LABELS else [],
        output:
            table=reported("judges", "Checks"),
        log:
            f"{R}/logs/judge_agreement.log",
        conda:
            "../../envs/analysis.yaml"
        resources:
            **needs("judge_agreement"),
        params:
            code=code("judge_agreement"),
            files=lambda wc, input: (
                options({"judged": input.judged, "hand_labels": HAND_LABELS}) if HAND_LABELS else ""
            ),
            settings=fixed(
                seed=config["statistics"]["seed"],
                prefixes=[f"{seed}:{regime}:{step}:" for seed, regime, step in layout.judged_checkpoints()],
            ),
        shell:
            "export OMP_NUM_THREADS=1; python workflow/scripts/judge_agreement.py --trained {input.trained:q} {params.files}"
            " --table {output.table:q} --params {params.settings:q} --code {params.code:q} 2> {log:q}"


for judge, spec in PUBLISHED.items():
    for part, given in spec.items():
        if part in ("template", "contextual_template") and isinstance(given, dict):

            rule:
                name:
                    f"judge_{part}_{judge}"
                input:
                    source=f"{P}/sources/{given['source']}",
                output:
                    template=layout.judge_template(judge, part),
                log:
                    f"{R}/logs/judge_{part}_{judge}.log",
                conda:
                    "../../envs/analysis.yaml"
                resources:
                    **needs(f"judge_template_{judge}"),
                params:
                    code=code("judge_template"),
                    settings=fixed(name=f"judges.{judge}.{part}", **{k: v for k, v in given.items() if k != "source"}),
                shell:
                    "python workflow/scripts/judge_template.py --source {input.source:q} --template {output.template:q}"
                    " --params {params.settings:q} --code {params.code:q} 2> {log:q}"


JUDGE_FILES = layout.published_judges(PUBLISHED)
JUDGE_FILES |= {kind: f"{P}/judges/{kind}.json" for kind in ("refusal", "harm")} if LABELLED else {}


JUDGE_SETTINGS = settings(
    decision=JUDGES.get("decision", "rules"),
    **({k: config["model"][k] for k in ("device", "dtype")} | {"batch_size": 8} if PUBLISHED else {}),
)
JUDGE_OPTIONS = options(JUDGE_FILES)
# Judging takes seconds, and a profile may put several jobs of a group into one of the scheduler's. Judges that are models are
# in no group: its members run beside each other, on the same GPU.


rule judge:
    input:
        **JUDGE_FILES,
        completions=f"{PSEED}/completions/{{regime}}/step{{step}}.jsonl",
    output:
        judged=f"{SEED}/judged/{{regime}}/step{{step}}/judged.csv",
    log:
        f"{SEED}/logs/judge/{{regime}}_step{{step}}.log",
    group:
        None if PUBLISHED else "judge"
    conda:
        "../../envs/torch.yaml" if PUBLISHED else "../../envs/analysis.yaml"
    resources:
        **needs("judge"),
    params:
        code=code("judge"),
        files=always(JUDGE_OPTIONS),
        settings=always(JUDGE_SETTINGS),
    shell:
        "export OMP_NUM_THREADS=1; python workflow/scripts/judge.py {params.files} --completions {input.completions:q} --judged {output.judged:q}"
        " --params {params.settings:q} --code {params.code:q} 2> {log:q}"


for regime, group, others in ANSWERED:

    rule:
        name:
            f"judge_saves_{regime}_{group}"
        input:
            **JUDGE_FILES,
            completions=[layout.completions(regime, step) for step in others],
        output:
            judged=[layout.judgement(regime, step) for step in others],
        log:
            f"{SEED}/logs/judge/{regime}_{group}.log",
        group:
            None if PUBLISHED else "judge_saves"
        conda:
            "../../envs/torch.yaml" if PUBLISHED else "../../envs/analysis.yaml"
        resources:
            **needs(f"judge_saves_{regime}_{group}"),
        params:
            code=code("judge"),
            files=always(JUDGE_OPTIONS),
            settings=always(JUDGE_SETTINGS),
        shell:
            "export OMP_NUM_THREADS=1; python workflow/scripts/judge.py {params.files} --completions {input.completions:q} --judged {output.judged:q}"
            " --params {params.settings:q} --code {params.code:q} 2> {log:q}"
