"""Judges trained on human labels, and the judged completions. Trained judges hold words of harmful answers: private."""

JUDGES = config["judges"]
LABELLED = JUDGES.get("labelled")
PUBLISHED = {name: JUDGES[name] for name in ("harmbench", "strongreject") if JUDGES.get(name)}
HAND_LABELS = JUDGES.get("hand_labels")


def judged(checkpoints):
    return [f"{R}/seed{seed}/judged/{regime}/step{step}/judged.csv" for seed, regime, step in checkpoints]


def judged_checkpoints():
    """(seed, regime, step) of every checkpoint with a suite, in the order of seeds, regimes and steps."""
    return [(seed, *point) for seed in config["seeds"] for point in study.checkpoints() if study.suites(*point)]


def labelled_place(kind):
    """Folder of a labelled set's files: a source, or this project."""
    source = LABELLED[kind]["source"]
    return [f"{P}/sources/{source}"] if source else LABELLED[kind]["files"]


def labelled_files(kind):
    """The files of a labelled set, as the shell finds them: `**` stands for any folders."""
    spec = LABELLED[kind]
    folder = f"{P}/sources/{spec['source']}/" if spec["source"] else ""
    return " ".join(folder + pattern for pattern in spec["files"])


def published_judges():
    """Options and files of the published judges: their model folders and the wordings of their prompts."""
    files = {}
    for name, spec in PUBLISHED.items():
        files[f"{name}_model"] = f"{P}/sources/{spec['source']}"
        files |= {f"{name}_{part}": spec[part] for part in ("template", "contextual_template") if spec.get(part)}
    return files


if LABELLED:

    rule train_judges:
        input:
            refusal_labels=labelled_place("refusal"),
            harm_labels=labelled_place("harm"),
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
        params:
            code=code("train_judges"),
            refusal_files=labelled_files("refusal"),
            harm_files=labelled_files("harm"),
            settings=settings(
                refusal_dataset=LABELLED["refusal"]["name"],
                harm_dataset=LABELLED["harm"]["name"],
                n_folds=LABELLED["folds"],
                seed=config["statistics"]["seed"],
            ),
        shell:
            "shopt -s globstar; export OMP_NUM_THREADS=1; {PYTHON}/train_judges.py"
            " --refusal-labels {params.refusal_files} --harm-labels {params.harm_files}"
            " --refusal {output.refusal} --harm {output.harm} --table {output.table}"
            " --params {params.settings:q} --code {params.code} 2> {log}"

    rule judge_agreement:
        input:
            **({"hand_labels": HAND_LABELS} if HAND_LABELS else {}),
            trained=f"{R}/judges/judges.csv",
            judged=judged(judged_checkpoints()) if HAND_LABELS else [],
        output:
            table=report(
                f"{R}/tables/judges.csv",
                caption="../report/judges.rst",
                category="Checks",
                labels={"table": "judges"},
            ),
        log:
            f"{R}/logs/judge_agreement.log",
        conda:
            "../../envs/analysis.yaml"
        params:
            code=code("judge_agreement"),
            files=lambda wc, input: f"--judged {input.judged} --hand-labels {HAND_LABELS}" if HAND_LABELS else "",
            settings=settings(
                seed=config["statistics"]["seed"],
                prefixes=[f"{seed}:{regime}:{step}:" for seed, regime, step in judged_checkpoints()],
            ),
        shell:
            "export OMP_NUM_THREADS=1; {PYTHON}/judge_agreement.py --trained {input.trained} {params.files}"
            " --table {output.table} --params {params.settings:q} --code {params.code} 2> {log}"


rule judge:
    input:
        **({kind: f"{P}/judges/{kind}.json" for kind in ("refusal", "harm")} if LABELLED else {}),
        **published_judges(),
        completions=f"{PSEED}/completions/{{regime}}/step{{step}}.jsonl",
    output:
        judged=f"{SEED}/judged/{{regime}}/step{{step}}/judged.csv",
    log:
        f"{SEED}/logs/judge/{{regime}}_step{{step}}.log",
    conda:
        "../../envs/torch.yaml" if PUBLISHED else "../../envs/analysis.yaml"
    params:
        code=code("judge"),
        files=lambda wc, input: " ".join(f"--{k.replace('_', '-')} {v}" for k, v in input.items()),
        settings=settings(
            decision=JUDGES.get("decision", "rules"),
            **({k: config["model"][k] for k in ("device", "dtype")} | {"batch_size": 8} if PUBLISHED else {}),
        ),
    shell:
        "export OMP_NUM_THREADS=1; {PYTHON}/judge.py {params.files} --judged {output.judged}"
        " --params {params.settings:q} --code {params.code} 2> {log}"
