"""Where the project's own files stand for the jobs: in the working folder, or elsewhere, where another workflow has
imported this one as a module (docs/module.md). Commands and paths of the two differ here and nowhere else."""

import shlex
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from pipeline import ROOT
from pipeline.config_file import ABSENT, DEFAULT, Layers, lay_over, standing_at, take_out
from pipeline.strict_yaml import read_keys
from safety_geometry.artefacts.integrity import RESULTS

# Before each command of a run in the project. Model jobs read what the first rules fetched and ask no hub; fetch_source
# gets the user's own setting back.
PREFIX = (
    "set -euo pipefail; unset PYTHONDONTWRITEBYTECODE; export PYTHONUTF8=1 PYTHONPATH=src TOKENIZERS_PARALLELISM=false"
    " USER_HUB_OFFLINE=${{HF_HUB_OFFLINE:-0}} HF_HUB_OFFLINE=1; "
)
ONLINE = "export HF_HUB_OFFLINE=$USER_HUB_OFFLINE; "
# The same for a job of an importer, whose other rules it must not reach.
VARIABLES = {"PYTHONUTF8": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": str(ROOT / "src")}
OF_A_MODULE = "config of the module"  # name of the importer's keys in messages
TEXTS = ("chat_template", "hand_labels", "template", "contextual_template")  # keys whose text is the name of a file


@dataclass(frozen=True)
class Home:
    """Of the jobs of a run. results: None where they run in the project; else the folder that stands for `results/`, in
    the importer's working folder."""

    results: str | None = None

    @property
    def imported(self) -> bool:
        return self.results is not None

    def file(self, path: str) -> str:
        """A file of the project for a job: by its place in it, or in full."""
        return str(ROOT / path) if self.imported else path

    def study(self, name: str) -> Path:
        """The folder of a study's results."""
        return Path(self.results) / name if self.imported else ROOT / "results" / name

    def command(self, script: str, online: bool = False) -> str:
        """`python SCRIPT`, with the environment that PREFIX gives elsewhere. online: it may ask a hub."""
        if not self.imported:
            return f"python {script}"
        values = VARIABLES | {RESULTS: self.results} | ({} if online else {"HF_HUB_OFFLINE": "1"})
        words = ["env", "-u", "PYTHONDONTWRITEBYTECODE", *(f"{name}={value}" for name, value in values.items())]
        return shlex.join([*words, "python", self.file(script)])


HERE = Home()


# -------------------------------------------------------------------------------------- the importer's configuration


def imported_config(given: Mapping) -> tuple[dict, Layers]:
    """The whole configuration of a module, for which its importer says what differs from config.yaml, and both.

    Raises SystemExit where the study has no name.
    """
    if "study" not in given:
        raise SystemExit(
            "config error: the module safety-geometry needs a `config:` with at least `study`, the name of its results,"
            " and what differs from the project's config.yaml (config/README.md)"
        )
    layers = {"config.yaml": read_keys(DEFAULT), OF_A_MODULE: given}
    config = lay_over(deepcopy(layers["config.yaml"]), deepcopy(dict(given)))
    take_out(config)
    for place, keys, key in file_keys(config):
        asked = standing_at(given, (*place, key)) is not ABSENT
        found = [_in_full(path, asked) for path in _listed(keys[key])]
        keys[key] = found if isinstance(keys[key], list) else found[0]
    return config, layers


def file_keys(keys: Mapping, place: tuple = ()) -> Iterator[tuple[tuple, dict, str]]:
    """(place, mapping, key) of everything in a configuration that names files of this machine by their path."""
    for key, value in keys.items():
        if isinstance(value, Mapping):
            yield from file_keys(value, (*place, key))
        elif (
            (key in TEXTS and isinstance(value, str))
            or (key == "files" and keys.get("source", ABSENT) is None)
            or (
                key == "path"
                and (place[:1] == ("sources",) or (place[:1], place[-1:]) == (("checkpoints",), ("source",)))
            )
            or (key == "file" and place[:2] == ("sweep", "directions"))
        ):
            yield place, keys, key


def _listed(value: object) -> list:
    return value if isinstance(value, list) else [value]


def _in_full(path: object, asked: bool) -> object:
    """A path of config.yaml is the project's. One that the importer gives is looked for in its working folder, and then
    in the project."""
    if not isinstance(path, str) or path.startswith(("-", "~")):
        return path  # which the check refuses
    places = [Path.cwd() / path, ROOT / path] if asked else [ROOT / path]
    return str(next((place for place in places if place.exists()), places[0]))
