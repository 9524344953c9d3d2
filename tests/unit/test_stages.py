"""The records of the stages: what rules tell their scripts, in words that a shell takes, and names that are told apart."""

import copy
import importlib
import json
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from pipeline.config_file import read_config, written
from pipeline.costs.facts import Facts
from pipeline.costs.rates import read_rates
from pipeline.snakemake_internals import dry_run
from pipeline.stages import GROUPS, STAGES, TITLES, Stages, tables
from pipeline.stages.stage import GUARDS, LISTS, LONGEST, briefly, options
from pipeline.study import Study
from snakemake.scheduling.job_scheduler import JobScheduler

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests" / "workflow"))
from harness import copy_project  # noqa: E402

ONE_WORD = 131_072  # bytes that Linux takes in one word; bash gets a command as one
NOT_OF_RULES = {"fetch_source": {"file"}}  # options for people
FOLDER = {"source": "mine", "format": "folder"}


def read(name: str) -> dict:
    return read_config(ROOT / name)


PASSING = {
    "reference": 1,
    "keep": "none",
    "source": {"kind": "hub", "repo": "me/run-{step}", "revision": "main"},
    "steps": [1, 2, 3, 4, 5],
}


def own() -> dict:
    """A study that has what no shipped one has: own checkpoints of every form, labels by behaviour, judges that are adapters."""
    c = read("configs/smoke.yaml")
    c["study"] = "own"
    c["sources"] = {"mine": {"kind": "path", "path": "/somewhere"}}
    steps = {1: FOLDER, 2: FOLDER, 4: {"source": "mine", "format": "adapter"}}
    c["checkpoints"] = {
        "mine": {
            "reference": 1,
            "anchors": [4],
            "steps": steps,
            "base": FOLDER,
            "chat_template": "data/template.jinja",
        },
        "passing": PASSING,
    }
    c["refusal"]["contrast"] = "behaviour"
    c["completions"] |= {"every_save": {"direct": 2}, "sampled": {"answers": 2, "temperature": 1.0}}
    c["attacks"]["require_refusal"] = True
    c["sweep"] |= {"checkpoints": {}, "primary": []}
    c["aligned"]["anchors"] = {}
    judge = {"kind": "next_word", "source": "mine", "base": "mine", "reads": "both", "template": "a.txt"}
    judge["says"] = {"harm": {"scores": {"yes": 1, "no": 0}}}
    both = {"kind": "classifier", "source": "mine", "reads": "both", "says": {"refusal": {"scores": {"a": 1}}}}
    models = {"harmbench": judge | {"contextual_template": "b.txt"}, "strongreject": judge, "minos": both}
    decide = {"refusal": "minos", "harm": "harmbench", "usefulness": "strongreject", "decision": "either"}
    c["judges"] |= {"models": models} | decide
    return c


def with_a_light_seed() -> dict:
    """The smoke study, a seed that only trains and answers, and a direction from a file."""
    c = read("configs/smoke.yaml") | {"light_seeds": 1}
    c["sweep"]["directions"] = {"mine": {"file": "data/mine.gguf", "position": -1, "primary": True}}
    return c


def hand_labels() -> dict:
    c = read("config.yaml")
    c["judges"]["hand_labels"] = "data/hand_labels.csv"
    return c


def no_labels() -> dict:
    c = read("config.yaml")
    c["judges"]["hand_labels"] = None
    return c


class Planner:
    """Plans configurations in a copy of the project, which no results are in."""

    def __init__(self, folder: Path):
        self.folder = copy_project(folder)
        for name in ("template.jinja", "hand_labels.csv", "mine.gguf"):
            (self.folder / "data" / name).touch()
        for name in ("a.txt", "b.txt"):
            (self.folder / name).touch()

    def jobs(self, config: dict) -> list:
        file = self.folder / "planned.yaml"
        file.write_text(written(config))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "path", [*sys.path])
            patch.chdir(self.folder)
            before = JobScheduler._schedule_reevalutation
            found = dry_run(self.folder, file, everything=True)[0]
            assert JobScheduler._schedule_reevalutation is before  # a plan leaves this process its own scheduler
            return [(job, job.shellcmd, job.params) for job in found]  # made in this folder: long ones write files


@pytest.fixture(scope="module")
def planner(tmp_path_factory) -> Planner:
    return Planner(tmp_path_factory.mktemp("stages") / "project")


# ------------------------------------------------------------------------------------------------ options of the scripts


class Declared(Exception):
    pass


def declared(script: str) -> tuple[list[str], list[str]]:
    """Names of the inputs and outputs of a script, with their endings: `*` several, `?` none or one."""

    def told(doc: str, inputs=(), outputs=()):
        raise Declared(list(inputs), list(outputs))

    module = importlib.import_module(script)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "Job", told)
        with pytest.raises(Declared) as found:
            module.main()
    return found.value.args


def parsed(words: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for word in words:
        if word.startswith("--"):
            name = word.removeprefix("--").replace("-", "_")
            assert name not in found
            found[name] = []
        else:
            found[name].append(word)
    return found


def given(text: str, folder: Path) -> list[str]:
    """Words of a command, those of files among them."""
    words = shlex.split(text)
    return (folder / words[0][1:]).read_text().splitlines() if words[0].startswith("@") else words


def test_rules_tell_their_scripts_what_these_accept(planner):
    seen: dict[str, set[str]] = {}
    ran = set()
    known = {script: declared(script) for script in {stage.script for stage in STAGES.values()}}
    for config in (with_a_light_seed(), own(), hand_labels(), read("configs/paper.yaml")):
        for job, command, params in planner.jobs(config):
            name = job.rule.name.split("__")[0]
            stage = STAGES[name]
            assert f"python workflow/scripts/{stage.script}.py" in command
            inputs, outputs = known[stage.script]
            files = parsed(given(params["files"], planner.folder))
            endings = {option.rstrip("*?"): option[len(option.rstrip("*?")) :] for option in (*inputs, *outputs)}
            assert set(files) <= set(endings), job.rule.name
            assert {option for option, ending in endings.items() if not ending} <= set(files), job.rule.name
            for option, paths in files.items():
                assert len(paths) == 1 or (paths and endings[option] == "*"), (job.rule.name, option)
            read_files = [str(path) for path in job.input if str(path) not in map(str, guards(job))]
            assert sorted(path for paths in files.values() for path in paths) == sorted(
                [*read_files, *map(str, job.output)]
            ), job.rule.name
            seen.setdefault(stage.script, set()).update(files)
            ran.add(name)
    assert ran == set(STAGES)
    for script, (inputs, outputs) in known.items():
        names = {option.rstrip("*?") for option in (*inputs, *outputs)}
        assert names - seen[script] == NOT_OF_RULES.get(script, set()), script


def guards(job) -> list[str]:
    named = [job.input[name] for name in GUARDS if name in job.input.keys()]  # noqa: SIM118
    return [path for value in named for path in ([value] if isinstance(value, str) else value)]


@pytest.mark.parametrize("config", [no_labels, hand_labels, own])
def test_the_table_of_judges_has_a_prefix_for_each_file_of_answers(planner, config):
    ((_, _, params),) = [job for job in planner.jobs(config()) if job[0].rule.name == "judge_agreement"]
    files = parsed(given(params["files"], planner.folder))
    settings = json.loads(given(params["settings"], planner.folder)[0])
    assert len(settings["prefixes"]) == len(files.get("judged", []))
    assert len(settings.get("verdict_prefixes", [])) == len(files.get("verdicts", []))
    assert bool(files.get("judged")) == (config is not no_labels)


# ----------------------------------------------------------------------------------------------------- words of a shell

HOSTILE = [
    "a b.csv",
    "it's.csv",
    'a "quoted" one',
    "{wildcards.seed}",
    "$HOME/`pwd`",
    "*.csv",
    "a;b&c|d>e",
    "naïve ü.csv",
    "back\\slash",
]


def test_hostile_paths_are_one_word_each():
    files = {"parts": HOSTILE, "the_table": HOSTILE[0], "nothing": [], "layers": "layers.json"}
    words = options(files, GUARDS)
    assert words == ["--parts", *HOSTILE, "--the-table", HOSTILE[0]]
    command = briefly(words)
    assert shlex.split(command) == words
    done = subprocess.run(["bash", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == words


def test_a_long_command_goes_through_a_file_and_comes_back_equal(tmp_path, monkeypatch):
    from _job import Job

    monkeypatch.chdir(tmp_path)
    paths = [f"{name.replace('/', '_')} {i}" for i in range(300) for name in HOSTILE]
    for path in paths:
        Path(path).touch()
    words = options({"parts": paths}) + options({"table": "out.csv"})
    settings = '{"texts": ["' + "it's {a} \\u00fc " * 4000 + '"]}'
    commands = [briefly(words), briefly([settings])]
    assert [shlex.split(command) == [command] and command.startswith(f"@{LISTS}") for command in commands] == [True] * 2
    assert commands == [briefly(words), briefly([settings])] and len(list(LISTS.iterdir())) == 2
    monkeypatch.setattr(sys, "argv", ["script.py", *shlex.split(f"{commands[0]} --params {commands[1]} --code abc")])
    job = Job("a script", inputs=["parts*"], outputs=["table"])
    assert [str(path) for path in job.parts] == paths and str(job.table) == "out.csv"
    assert job.params["texts"][0].startswith("it's {a} ü ") and job.code == "abc"


@pytest.mark.parametrize("word", ["'" * 29_000, "ü" * 16_000])
def test_what_quotes_and_other_letters_make_long_goes_through_a_file(word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(word) < LONGEST and briefly([word]).startswith("@")


def test_no_command_of_a_wide_study_is_more_than_linux_takes(planner):
    c = read("configs/paper.yaml")
    c["seeds"] = [1, 2, 3, 4, 5, 6]
    jobs = planner.jobs(c)
    assert len(jobs) > 1000
    prefix = 500  # shell.prefix of the rules
    sizes = [(job.rule.name, len(command.encode())) for job, command, _ in jobs]
    assert [(rule, size) for rule, size in sizes if size + prefix > ONE_WORD] == []
    assert any("@" in command for _, command, _ in jobs)  # the tables of all checkpoints would be longer


# ------------------------------------------------------------------------------------------------------------ names


def test_groups_whose_names_are_alike_are_told_apart(planner):
    """Saves 0 to 20 of the regime r2d2, and step 20 of checkpoints called r2d2_0."""
    c = read("configs/full.yaml")
    c["sources"]["mine"] = {"kind": "path", "path": "/somewhere"}
    steps = dict.fromkeys((5, 20), FOLDER)
    c["checkpoints"] = {name: {"reference": 5, "anchors": [], "steps": steps} for name in ("r2d2_0", "r2d2__0")}
    c["model"]["shape"] = {"layers": 2, "hidden": 64, "intermediate": 128, "heads": 4, "vocabulary": 99}
    jobs = [job for job, *_ in planner.jobs(c)]
    rules = {job.rule.name for job in jobs}
    assert {f"probe_saves__{name}" for name in ("r2d2__0_20", "r2d2_0__20", "r2d2__0__20")} <= rules
    for kind in ("output", "log", "benchmark"):
        found = [
            str(f)
            for job in jobs
            for f in (getattr(job, kind) if kind != "benchmark" else [job.benchmark] if job.benchmark else [])
        ]
        assert found and [name for name, n in Counter(found).items() if n > 1] == [], kind
    study = Study(copy.deepcopy(c))
    stages = Stages(study, Facts(study, read_rates("cpu", ROOT)), ROOT)
    assert len(stages.by_rule) == sum(len(stages.groups(name)) for name in GROUPS) + len(set(STAGES) - set(GROUPS))
    assert rules <= set(stages.by_rule)
    assert {stages.title(rule) for rule in rules} <= set(TITLES) and stages.title(
        "probe_saves__r2d2_0__20"
    ) == "geometry"


def test_a_study_of_one_checkpoint_draws_nothing_over_steps_or_of_transfer():
    """Those figures would be one point, or a page that says there is nothing to draw."""
    aligned, trained = (tables.figures(Study(read(f"configs/{name}.yaml"))) for name in ("aligned", "smoke"))
    left_out = {"trajectory", "geometry", "dense", "transfer", "transfer_predictors"}
    assert left_out <= set(trained) and not left_out & set(aligned) and "selection" in aligned


def test_graphs_are_told_to_whatever_runs_a_model_but_training(planner):
    c = read("configs/smoke.yaml")
    c["model"]["graphs"] = True
    told = {}
    for job, command, _ in planner.jobs(c):
        if found := re.search(r'"model": (\{[^{}]*"threads"[^{}]*\})', command):
            told[job.rule.name.split("__")[0]] = json.loads(found[1]).get("graphs", False)
    assert {"probe_anchor", "probe_saves", "sweep", "attack_gcg", "transfer"} <= told.keys()
    assert {rule for rule, graphs in told.items() if not graphs} == {"train"}
