"""The shell command of every rule, given paths that no shell should read: each stays one word, and nothing in it runs."""

import ast
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from command import given_gpus, options, patterns
from snakemake.iocontainers import InputFiles, Log, OutputFiles, Params
from snakemake.utils import format as snakemake_format

ROOT = Path(__file__).parents[2]
HOSTILE = 'my {x} {{y}} it\'s $(touch PWN) `touch PWN` "q" a;b&c|d>e *.[ab]? #h ~ é'
OPTIONS = {
    "files",
    "adapters",
    "labels",
    "previous",
    "model",
    "refusal_files",
    "harm_files",
}  # params that are options already
FIELD = re.compile(r"\{(input|output|params|log)(?:\.(\w+))?(:q)?\}")


def commands() -> dict[str, str]:
    """File and line of every `shell:` of the rules -> its command, before Snakemake fills it."""
    found = {}
    for path in sorted(ROOT.glob("workflow/rules/*.smk")):
        text = path.read_text(encoding="utf-8")
        for match in re.finditer(r'^ *shell:\n((?: +".*"\n?)+)', text, re.M):
            line = text[: match.start()].count("\n") + 1
            found[f"{path.name}:{line}"] = ast.literal_eval("(" + match[1].strip() + ")")
        assert text.count("shell:\n") == sum(place.startswith(f"{path.name}:") for place in found)
    return found


COMMANDS = commands()


def filled(command: str) -> tuple[str, list[str]]:
    """A command as Snakemake fills it, with a hostile path for every field; and the words that it has to have."""
    groups, words = {"input": {}, "output": {}, "params": {}}, []
    for group, name, _ in FIELD.findall(command):
        if group == "log":
            continue
        path = f"{HOSTILE} {group}.{name}"
        many = [f"{path} {n}" for n in range(2)]
        if group != "params":
            groups[group][name], given = many, many
        elif name == "launcher":
            groups[group][name], given = "accelerate launch ", []
        elif name in OPTIONS:
            groups[group][name], given = options({name: many}), many
        else:
            groups[group][name], given = path, [path]
        words += given
    kinds = {"input": InputFiles, "output": OutputFiles, "params": Params}
    values = {group: kinds[group](fromdict=fields) for group, fields in groups.items()}
    log = f"{HOSTILE} log"
    return snakemake_format(command, **values, log=Log(toclone=[log])), [*words, log]


def test_the_rules_are_found():
    assert len(COMMANDS) > 30 and any("train_segment.py" in command for command in COMMANDS.values())


@pytest.mark.parametrize("place", COMMANDS)
def test_every_path_is_one_word(place):
    command, words = filled(COMMANDS[place])
    found = shlex.split(command, comments=False)
    assert [word for word in words if found.count(word) != 1] == []
    assert "PWN" not in re.sub(r"'(?:[^']|'\"'\"')*'", "", command)  # nothing of it outside quotes


@pytest.mark.parametrize("place", COMMANDS)
def test_a_field_without_quotes_is_options_that_have_them(place):
    bare = {(group, name) for group, name, quoted in FIELD.findall(COMMANDS[place]) if not quoted}
    assert bare <= {("params", name) for name in OPTIONS | {"launcher"}}


def test_those_params_are_made_of_quoted_words():
    made = r"(options\(|fixed\(|always\((JUDGE_OPTIONS|options\(|patterns\()|named\b)"
    for path in ROOT.glob("workflow/rules/*.smk"):
        text = path.read_text(encoding="utf-8")
        for block in re.findall(r"^( +)params:\n((?:\1    .*\n|\n)+)", text, re.M):
            for name, value in re.findall(r"^ +(\w+)=((?:.|\n)*?)(?=^ +\w+=|\Z)", block[1], re.M):
                assert name not in OPTIONS or re.search(made, value), (path.name, name, value)


def test_plain_words_are_left_as_they_are():
    """So that the commands of a finished study, and the params that are compared with it, are the same text."""
    files = {"model": "results/a/models/base", "harmful_labels": ["a.csv", "b/c-1.jsonl"], "none": []}
    assert options(files) == "--model results/a/models/base --harmful-labels a.csv b/c-1.jsonl"
    assert (
        patterns([], ["results/a/private/sources/s/**/*_[a-z]?.csv"]) == "results/a/private/sources/s/**/*_[a-z]?.csv"
    )


@pytest.mark.parametrize(
    "glob", ["**/*.csv", "it's (1)/*.csv", "$(touch PWN)/a[!b]c?.csv", "{x}/a b.csv", "*/`id`.csv"]
)
def test_patterns_find_the_files_of_a_source(glob, tmp_path):
    folder = tmp_path / "a b's"
    for name in ("it's (1)/x.csv", "$(touch PWN)/axc1.csv", "{x}/a b.csv", "deep/er/`id`.csv", "one/`id`.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    script = f"shopt -s globstar; printf '%s\\n' {patterns(['plain name'], [f'{folder}/{glob}'])}"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    wanted = sorted(str(path) for path in folder.glob(glob.replace("[!b]", "x")) if path.is_file())
    assert done.stdout.splitlines()[0] == "plain name" and sorted(done.stdout.splitlines()[1:]) == wanted
    assert wanted and not (tmp_path / "PWN").exists()


def test_a_gpu_that_is_not_there(monkeypatch):
    asked = []

    def torch_sees(count):
        def run(command, **_):
            asked.append(command)
            return subprocess.CompletedProcess(command, 0, stdout=f"{count}\n")

        monkeypatch.setattr(subprocess, "run", run)

    torch_sees(0)
    given_gpus("cpu")
    assert not asked
    with pytest.raises(
        SystemExit, match=r"^config error: model.device = 'cuda': this machine has no GPU that torch can use"
    ):
        given_gpus("cuda")
    torch_sees(2)
    given_gpus("cuda:1")
    with pytest.raises(SystemExit, match=r"'cuda:2': this machine has 2 GPU\(s\), counted from 0; set another"):
        given_gpus("cuda:2")
