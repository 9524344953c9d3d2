"""A configuration that cannot work is refused before any job, with the key, its value and what to do."""

import copy
from pathlib import Path

import pytest
from harness import ROOT, SMOKE, command, copy_project, snakemake
from pipeline.combinations import check_combinations
from pipeline.config_check import ConfigError, check
from pipeline.config_file import read_config
from pipeline.study import Study
from plans import change, edit


def read(name: str) -> dict:
    return read_config(ROOT / name)


def with_value(key: str, value: object) -> dict:
    config = copy.deepcopy(read(SMOKE))
    *parents, last = key.split(".")
    place = config
    for parent in parents:
        place = place[parent]
    place[last] = value
    return config


@pytest.mark.parametrize(
    "name", sorted(str(p.relative_to(ROOT)) for p in [ROOT / "config.yaml", *ROOT.glob("configs/*.yaml")])
)
def test_shipped_configurations_are_valid(name):
    config = read(name)
    check(config)
    check_combinations(Study(config))


JUDGE = {"kind": "classifier", "source": "judge", "reads": "both", "says": {"refusal": {"scores": {"no": 1}}}}
FAULTS = [
    # key, value, what the message has to say beside them
    ("refusal.klmax", 0.1, "did you mean kl_max?"),
    ("seed", 3, "did you mean seeds?"),
    ("refusal.kl_max", -0.1, "at least 0"),
    ("refusal.kl_max", "low", "a number"),
    ("train.learning_rate", "1e-3", "write 0.001"),
    ("train.rows", 2.5, "a whole number"),
    ("train.saves", [], "must not be empty"),
    ("seeds", [1, 1], "twice"),
    ("seeds", 1, "a list"),
    ("lora.rank", 0, "at least 1"),
    ("lora.dropout", 1.0, "below 1"),
    ("model.format", "onnx", "gguf, folder, tiny"),
    ("model.device", "gpu", "cpu|cuda"),
    ("regimes.sft.kind", "dpo", "sft, r2d2"),
    ("activations.positions", [-3, -2], "contain -1"),
    ("refusal.layers", "some", "all or a list"),
    ("prompts.on_leak", "ignore", "fail, drop"),
    ("harmfulness.score", "accuracy", "dprime, auroc, gap"),
    ("sweep.steer_scale", "norm", "unit, activation_norm, difference_norm"),
    ("sweep.modes", [], "must not be empty"),
    ("sweep.controls.random", -1, "at least 0"),
    ("quadrants.per_quadrant", 0, "at least 1"),
    ("refusal.contrast", "answers", "prompts, behaviour"),
    ("refusal.class_min", 3, "at least 4"),
    ("train.keep", "none", "all, anchors"),
    ("clean_rows.answers", "file", "model, data"),
    ("prompts.sets.harmful.sample", 0, "at least 1"),
    ("judges.models.mine", "cais/judge", "a mapping of keys to values"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "fix"), FAULTS, ids=[f"{k}={v}" for k, v, _ in FAULTS])
def test_schema_names_key_value_and_fix(key, value, fix):
    with pytest.raises(SystemExit) as refused:
        check(with_value(key, value))
    lines = str(refused.value).split("\n")
    assert any(line.startswith(f"config error: {key} = {value!r}: ") and fix in line for line in lines)


def test_missing_key_is_named():
    config = read(SMOKE)
    del config["refusal"]["kl_max"]
    with pytest.raises(SystemExit, match=r"config error: refusal\.kl_max is missing: add it"):
        check(config)


@pytest.mark.parametrize(
    ("key", "value", "missing"),
    [
        ("sources.page", {"kind": "url", "url": "https://example.org/a.csv"}, "sources.page.sha256"),
        ("sources.hub", {"kind": "hub", "repo": "me/tiny"}, "sources.hub.revision"),
        ("clean_rows", {"roles": ["clean"], "batch_size": 2}, "clean_rows.max_new_tokens"),
        ("prompts.sets.harmful.targets", {"source": "a"}, "prompts.sets.harmful.targets.files"),
        (
            "judges.models.mine",
            JUDGE | {"template": {"source": "b", "file": "c.py"}},
            "judges.models.mine.template.at",
        ),
    ],
)
def test_what_goes_with_a_value_is_named(key, value, missing):
    with pytest.raises(SystemExit, match=rf"config error: {missing} is missing: add it"):
        check(with_value(key, value))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (
            "sources.files",
            {"kind": "url", "url": "https://example.org", "members": [{"path": "a.csv", "sha256": "0" * 64}]},
        ),
        ("clean_rows", {"roles": ["clean"], "answers": "data"}),
        ("judges.models.mine", JUDGE | {"base": "b", "template": "a.txt", "contextual_template": None}),
    ],
)
def test_other_forms_of_a_value(key, value):
    check(with_value(key, value))


@pytest.mark.parametrize(
    ("judge", "key", "fix"),
    [
        (JUDGE | {"kind": "oracle"}, "kind = 'oracle'", "classifier, next_word, guard"),
        (JUDGE | {"kind": "next_word"}, "template is missing", "add it"),
        (JUDGE | {"contextual_template": "b.txt"}, "template is missing", "add it"),
        (JUDGE | {"kind": "guard", "reads": "answer"}, "reads = 'answer'", "a chat template shows an answer with"),
        (JUDGE | {"max_new_tokens": 8}, "max_new_tokens = 8", "goes with kind guard"),
        (JUDGE | {"unread": "leave_out"}, "unread = 'leave_out'", "goes with kind guard"),
        (JUDGE | {"says": {"toxicity": {"scores": {"a": 1}}}}, "says", "refusal, harm"),
        (JUDGE | {"says": {"harm": {"scores": {"a": 2}}}}, "says.harm.scores.a = 2", "at most 1"),
        (JUDGE | {"says": {"harm": {"scores": {"a": 1}, "line": "Safety"}}}, "says", "a line goes with kind guard"),
    ],
)
def test_a_judge_fits_its_kind(judge, key, fix):
    with pytest.raises(SystemExit) as refused:
        check(with_value("judges.models.mine", judge))
    assert f"config error: judges.models.mine.{key}" in str(refused.value) and fix in str(refused.value)


GUARD = JUDGE | {"kind": "guard", "source": "mine", "unread": "leave_out"}


@pytest.mark.parametrize(
    ("judges", "key", "fix"),
    [
        ({"harm": "mine", "models": {"mine": GUARD}}, "judges.harm = 'mine'", "add harm to judges.models.mine.says"),
        ({"refusal": "mine", "models": {"mine": GUARD}}, "judges.models.mine.unread", "an answer needs a verdict"),
        (
            {"models": {"harm_trained": GUARD}},
            "judges.models = 'harm_trained'",
            "a judge of this project has this name",
        ),
        ({"decision": "either"}, "judges.decision = 'either'", "a model in judges.refusal"),
    ],
)
def test_a_judge_that_decides_can(judges, key, fix):
    config = read(SMOKE)
    config["sources"]["mine"] = {"kind": "path", "path": "/somewhere"}
    config["judges"] |= judges
    check(config)
    with pytest.raises(ConfigError) as refused:
        check_combinations(Study(config))
    assert key in str(refused.value) and fix in str(refused.value)


def test_every_fault_is_told_at_once():
    config = with_value("refusal.kl_max", -1)
    config["lora"]["rank"] = 0
    config["pool"]["per_stepp"] = 1
    with pytest.raises(SystemExit) as refused:
        check(config)
    assert [line.split(" = ")[0] for line in str(refused.value).split("\n")] == [
        "config error: lora.rank", "config error: pool.per_stepp", "config error: refusal.kl_max",
    ]  # fmt: skip


OWN_LABELS = {"source": None, "files": ["data/smoke_labelled.jsonl"], "name": "own"}
LABELS = {"refusal": OWN_LABELS, "harm": OWN_LABELS, "folds": 3}
COMBINATIONS = [
    # key, value, key in the message, fix
    ("anchors", [2, 7], "anchors = 7", "train.saves"),
    ("regimes.r2d2.reference", 9, "regimes.r2d2.reference = 9", "train.saves"),
    ("regimes.r2d2.saves", [2, 4], "regimes.r2d2.reference = 1", "regimes.r2d2.saves (now [2, 4])"),
    ("regimes.r2d2.reference", 4, "regimes.r2d2.reference = 4", "an anchor has this step"),
    ("regimes.r2d2", {"kind": "r2d2", "reference": 1}, "regimes.r2d2.refresh = None", "refresh: true or false"),
    ("train.saves", [1, 4, 7], "train.saves = 7", "beyond train.schedule_steps (6)"),
    ("train.schedule_steps", 3, "train.saves = 4", "beyond train.schedule_steps (3)"),
    ("regimes.r2d2.saves", [1, 4, 9], "regimes.r2d2.saves = 9", "beyond train.schedule_steps (6)"),
    ("attacks.source.regime", "dpo", "attacks.source.regime = 'dpo'", "sft, r2d2"),
    ("attacks.source.step", 5, "attacks.source.step = 5", "train.saves (now [1, 2, 4])"),
    ("attacks.behaviours", 5, "attacks.behaviours = 5", "has only 4 prompts"),
    ("refusal.validation", 5, "refusal.validation = 5", "has only 4 prompts"),
    ("pool.size", 9, "pool.size = 9", "has only 8 prompts"),
    ("pool.per_step", 4, "pool.per_step = 4", "at most pool.size (3)"),
    ("prompts.roles.clean.set", "ultrachat", "prompts.roles.clean.set = 'ultrachat'", "benign, chat, lookalikes"),
    ("prompts.sets.chat.source", "hub", "prompts.sets.chat.source = 'hub'", "no such source"),
    ("sweep.checkpoints.r2d2", [3], "sweep.checkpoints.r2d2 = 3", "reference, 4"),
    ("sweep.checkpoints.dpo", [4], "sweep.checkpoints.dpo = [4]", "sft, r2d2"),
    ("sweep.prompts.harmful", 5, "sweep.prompts.harmful = 5", "only 4 prompts"),
    ("sweep.ranks", [1, 3], "sweep.ranks = 3", "coupling.subspace_k = 2"),
    ("sweep.generate.suites.direct", 9, "sweep.generate.suites.direct = 9", "only 4 prompts"),
    ("sweep.ablate", [0.5], "sweep.primary[0] = 'ablate:r_only:1:layer:1'", "no such target"),
    ("sweep.permutations", 19, "sweep.permutations = 19", "take at least 20 directions"),
    ("aligned.anchors.sft", [4], "aligned.anchors.sft = 4", "sweep.checkpoints"),
    ("transfer.sources.sft", [7], "transfer.sources.sft = 7", "reference, 4"),
    ("transfer.behaviours", 3, "transfer.behaviours = 3", "only attacks.behaviours (2)"),
    ("attacks.gcg.init", " a", "attacks.gcg.init = ' a'", "the start of pool.gcg too"),
    ("attacks.framings", 25, "attacks.framings = 25", "data/autodan_seeds.jsonl has 24"),
    ("attacks.universal.role", "nobody", "attacks.universal.role = 'nobody'", "no such role"),
    ("attacks.universal.role", "utility", "attacks.universal.role = 'utility'", "attacks need harmful ones"),
    ("attacks.universal.behaviours", 3, "attacks.universal.behaviours = 3", "role monitor_harmful has only 2"),
    ("attacks.universal.width", 65, "attacks.universal.width = 65", "gives only 64 candidates"),
    ("completions.every_save", {"framings": 3}, "completions.every_save.framings = 3", "attacks.framings = 2"),
    ("prompts.roles.framings", {"set": "harmful", "n": 1, "kind": "evaluation"}, "prompts.roles = 'framings'", "name"),
    (
        "aligned.models.refuser",
        {"source": "gguf", "format": "gguf"},
        "aligned.models.refuser.source = 'gguf'",
        "no such source",
    ),
    (
        "aligned.models.layers",
        {"source": "gguf", "format": "gguf"},
        "aligned.models = 'layers'",
        "call it something else",
    ),
    ("follow_up.suites.fixed_source", 2, "follow_up.suites.fixed_source = 2", "bare requests"),
    ("refusal.contrast", "behaviour", "refusal.contrast = 'behaviour'", "leave sweep.checkpoints"),
    ("completions.every_save", {"xstest": 2}, "completions.every_save = ['xstest']", "max_new_tokens"),
    ("completions.every_save", {"direct": 100}, "completions.every_save.direct = 100", "role direct has only"),
    (
        "prompts.sets.harmful.targets",
        {"source": "hub", "files": ["a.json"]},
        "prompts.sets.harmful.targets.source = 'hub'",
        "no such source",
    ),
    ("judges.models.mine", JUDGE, "judges.models.mine.source = 'judge'", "no such source"),
    ("judges.harm", "mine", "judges.harm = 'mine'", "no such judge"),
    ("judges.labelled", LABELS, "prompts.roles.judge_train = None", "n: all, kind: judge"),
    (
        "judges.labelled",
        LABELS | {"harm": LABELS["harm"] | {"source": "pyrit"}},
        "judges.labelled.harm.source = 'pyrit'",
        "no such source",
    ),
]


@pytest.mark.parametrize(("key", "value", "shown", "fix"), COMBINATIONS, ids=[shown for _, _, shown, _ in COMBINATIONS])
def test_impossible_combinations(key, value, shown, fix):
    config = with_value(key, value)
    check(config)  # each value is fine by itself
    with pytest.raises(ConfigError) as refused:
        check_combinations(Study(config))
    message = str(refused.value)
    assert message.startswith(f"config error: {shown}") and fix in message


def test_answers_of_the_data_need_sets_that_have_them():
    config = with_value("clean_rows.answers", "data")
    check_combinations(Study(config))
    config["prompts"]["sets"]["chat"]["format"] = "lines"
    with pytest.raises(ConfigError, match=r"clean_rows\.answers = 'data'.*role clean .* \(set chat, format lines"):
        check_combinations(Study(config))


def test_a_class_that_the_fit_prompts_cannot_fill():
    config = with_value("refusal.class_min", 9)
    config["refusal"]["contrast"] = "behaviour"
    config["sweep"] |= {"checkpoints": {}, "primary": []}
    config["aligned"]["anchors"] = {}
    check(config)
    with pytest.raises(ConfigError, match=r"refusal.class_min = 9: roles fit_harmful and fit_benign have 16 prompts"):
        check_combinations(Study(config))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("refusal.klmax", 0.1, "config error: refusal.klmax = 0.1: there is no such key; did you mean kl_max?"),
        ("anchors", [2, 7], "config error: anchors = 7: this step is never saved; add it to train.saves"),
    ],
)
def test_command_line_stops_before_any_job(project: Path, key, value, message):
    change(project, key, value)
    done = snakemake(project)
    assert done.returncode == 1
    assert message in done.stdout
    assert "Traceback" not in done.stdout and "Job stats" not in done.stdout
    assert not (project / "results").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  micro_rows: 2\n", "  micro_rows: 2\n  micro_rows: 1\n", "config error: train.micro_rows is given twice"),
        ("seeds: [1]", "seeds: [1.0]", "config error: seeds[0] = 1.0: has to be a whole number; write 1"),
        (
            "sources: null",
            "sources: {x$(touch PWN): {kind: path, path: data}}",
            "config error: sources = 'x$(touch PWN)'",
        ),
    ],
)
def test_bare_snakemake_reads_as_strictly(project: Path, old, new, message):
    """It parses the file for itself, and would keep the last of two keys."""
    edit(project / SMOKE, old, new)
    done = snakemake(project, "-n")
    assert done.returncode == 1 and message in done.stdout and "Traceback" not in done.stdout
    assert "Job stats" not in done.stdout and not (project / "PWN").exists()


def test_several_files_and_an_overlay_are_merged_as_snakemake_does(project: Path):
    (project / "more.yaml").write_text("study: second\nrefusal: {kl_max: 0.2}\n")
    asked = ("--configfile", SMOKE, "more.yaml", "--config", "seeds=[3, 04]", "-n", "leakage_table")
    done = command(project, "-m", "snakemake", "--cores", "1", *asked)
    assert done.returncode == 0 and "results/second/private/seed4/prompts/direct.jsonl" in done.stdout
    (project / "more.yaml").write_text("study: second\nstudy: third\n")
    done = command(project, "-m", "snakemake", "--cores", "1", *asked)
    assert done.returncode == 1 and "study is given twice" in done.stdout and "more.yaml" in done.stdout


def test_a_folder_with_braces_is_refused(tmp_path: Path):
    done = snakemake(copy_project(tmp_path / "a {b}"), "-n")
    assert done.returncode == 1 and "takes the braces in" in done.stdout and "Traceback" not in done.stdout


def test_no_gpu_is_said_before_any_job(project: Path):
    change(project, "model.device", "cuda:99")
    done = snakemake(project)
    assert done.returncode == 1 and "config error: model.device = 'cuda:99': this machine has" in done.stdout
    assert "Traceback" not in done.stdout and not (project / "results/smoke/models").exists()
