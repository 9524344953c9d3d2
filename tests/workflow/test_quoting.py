"""A study whose own files have names that no shell should read: what Snakemake would run has each of them as one word."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

from harness import ROOT
from pipeline.config_file import read_config, written
from pipeline.snakemake_internals import dry_run
from plans import forget_modules

ODD = 'my {b c} it\'s $(touch PWN) `touch PWN` "q" [1]'
CHECKPOINTS = "configs/checkpoints.yaml"


def hostile(project: Path) -> Path:
    """The study of existing checkpoints, every file of the user's in such a folder. Nothing is read in a plan."""
    folder = project / ODD
    folder.mkdir()
    config = read_config(ROOT / CHECKPOINTS)

    def own(name: str) -> str:
        (folder / name).write_text("{}")
        return f"{ODD}/{name}"

    for name in ("utility", "benign"):
        config["prompts"]["sets"][name]["files"] = [own(f"{name} 1.jsonl"), own(f"{name};2.jsonl")]
    config["checkpoints"]["refuser"]["chat_template"] = own("t.jinja")
    labelled = {"source": None, "files": [own("a b.jsonl"), own("c*.jsonl")], "name": "own"}
    config["judges"] |= {
        "labelled": {"refusal": labelled, "harm": labelled, "folds": 2},
        "hand_labels": own("hand labels.csv"),
    }
    judge = {"kind": "next_word", "source": "pyrit", "template": own("judge.txt"), "reads": "both"}
    config["judges"]["models"] = {"mine": judge | {"says": {"harm": {"scores": {"yes": 1}}}}}
    config["model"]["system"] = "You are {name}, {regime}."
    file = project / "my {x} study.yaml"
    file.write_text(written(config))
    return file


def names(word: str) -> list[str]:
    """Texts with the command in them, of the parameters that a word may be: JSON, so one word whatever they hold."""
    texts = []
    json.loads(word, object_hook=lambda part: texts.extend(flat(part.values())))
    return [text for text in texts if "PWN" in text]


def flat(values) -> Iterator[str]:
    for value in values:
        yield from [value] if isinstance(value, str) else flat(value) if isinstance(value, list) else []


def test_every_file_is_one_word(project: Path):
    file = hostile(project)
    forget_modules()
    jobs, _ = dry_run(project, file)
    met = set()
    for job in jobs:
        words = shlex.split(job.shellcmd)
        met |= set(words)
        # A command names all that it writes, and its own files among what it reads.
        assert {str(path) for path in job.output} <= set(words), job.rule.name
        assert {str(path) for path in job.input if ODD in str(path)} <= set(words), job.rule.name
        strays = [word for word in words if "PWN" in word and not word.startswith(f"{ODD}/")]
        assert not [name for word in strays for name in names(word) if not name.startswith(f"{ODD}/")], job.rule.name
    assert len({word for word in met if word.startswith(f"{ODD}/")}) == 9
    assert not (project / "PWN").exists()
