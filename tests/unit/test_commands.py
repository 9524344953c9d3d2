"""The shell command of every rule, given paths that no shell should read: each stays one word, and nothing in it runs."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from pipeline.costs.facts import Facts
from pipeline.costs.rates import read_rates
from pipeline.stages import STAGES, Stages
from pipeline.stages.stage import GUARDS, briefly, options
from pipeline.study import Study
from snakemake.iocontainers import InputFiles, Log, OutputFiles, Params
from snakemake.utils import format as snakemake_format

from safety_geometry.artefacts.errors import ArtefactError
from safety_geometry.judges.labels import matched

ROOT = Path(__file__).parents[2]
HOSTILE = 'my {x} {{y}} it\'s $(touch PWN) `touch PWN` "q" a;b&c|d>e *.[ab]? #h ~ é'
ALONE = {
    '"export HF_HUB_OFFLINE=$USER_HUB_OFFLINE; " + ',
    '"{params.launcher}" + ',
}  # what stands before a stage's command


def bound(name: str):
    study = Study(yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8")))
    stages = Stages(study, Facts(study, read_rates("cpu", ROOT)), ROOT)
    return stages.groups(name)[0] if name in ("train", "probe_saves") else stages[name]


def test_every_rule_runs_the_command_of_its_stage():
    met = 0
    for path in sorted(ROOT.glob("workflow/rules/*.smk")):
        for command in re.findall(r"^ *shell:\n +(.*)$", path.read_text(encoding="utf-8"), re.M):
            met += 1
            assert re.fullmatch(f"(?:{'|'.join(map(re.escape, ALONE))})?[a-z_]+\\.command", command), (
                path.name,
                command,
            )
    assert met > 25


@pytest.mark.parametrize("name", ["train", "sweep", "tables", "judge", "prompt_sets"])
def test_every_path_is_one_word(name):
    """As Snakemake fills it, with a hostile path for every file and a hostile setting."""
    stage, paths = bound(name), [f"{HOSTILE} {n}" for n in range(3)]
    files = {"some_input": paths[0], "others": paths[1:], "none": []}
    setting = f'{{"system": "{HOSTILE}"}}'
    params = Params(fromdict={"files": briefly(options(files)), "settings": briefly([setting]), "code": "0a1b"})
    command = snakemake_format(
        stage.command, input=InputFiles(), output=OutputFiles(), params=params, log=Log(toclone=[f"{HOSTILE} log"])
    )
    words = shlex.split(command.removeprefix("export OMP_NUM_THREADS=1; "))
    script = f"workflow/scripts/{STAGES[name].script}.py"
    end = ["--params", setting, "--code", "0a1b", ">", f"{HOSTILE} log", "2>&1"]
    assert words == ["python", script, "--some-input", paths[0], "--others", *paths[1:], *end]
    assert "PWN" not in re.sub(r"'(?:[^']|'\"'\"')*'", "", command)  # nothing of it outside quotes


def test_plain_words_are_left_as_they_are_and_guards_are_no_options():
    """So that the commands of a finished study, and the params that are compared with it, are the same text."""
    files = {
        "model": "results/a/models/base",
        "harmful_labels": ["a.csv", "b/c-1.jsonl"],
        "none": [],
        "layers": "l.json",
    }
    words = options(files, GUARDS)
    assert briefly(words) == "--model results/a/models/base --harmful-labels a.csv b/c-1.jsonl"


@pytest.mark.parametrize(
    "glob", ["**/*.csv", "it's (1)/*.csv", "$(touch PWN)/a[!b]c?.csv", "{x}/a b.csv", "*/`id`.csv"]
)
def test_patterns_find_the_files_of_a_source(glob, tmp_path):
    folder = tmp_path / "a b's"
    for name in ("it's (1)/x.csv", "$(touch PWN)/axc1.csv", "{x}/a b.csv", "deep/er/`id`.csv", "one/`id`.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    wanted = sorted(path for path in folder.glob(glob.replace("[!b]", "x")) if path.is_file())
    assert wanted and matched(folder, [glob]) == wanted
    with pytest.raises(ArtefactError, match=r"has no file none\*\.csv; correct the names"):
        matched(folder, [glob, "none*.csv"])
