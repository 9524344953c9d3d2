"""A configuration, checked; and its file, read for the commands beside `snakemake`.

python workflow/lib/config_file.py FILE        says what is wrong with it, or nothing
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "src"))  # `combinations` asks the library what a model can do

from combinations import check_combinations, check_word  # noqa: E402
from config_check import check  # noqa: E402
from strict_yaml import read_keys  # noqa: E402
from study import Study  # noqa: E402

SCHEMA = Path(__file__).parents[1] / "schemas" / "config.schema.yaml"


def checked_study(config: Mapping) -> Study:
    """Raises SystemExit with the key, the value and the fix where the configuration is wrong."""
    check(config, SCHEMA)
    study = Study(config)
    check_combinations(study)
    return study


def read_config(path: Path, overlay: Mapping | None = None) -> dict:
    """The configuration of a file, with the keys of `overlay` in place of its own.

    Raises:
        SystemExit: there is no such file, or it is no YAML, or does not fit the schema.
    """
    config = read_keys(path) | (overlay or {})
    check(config, SCHEMA)
    return config


def read_study(path: Path) -> Study:
    """The study of a configuration file. Raises SystemExit as `read_config`, and for settings that cannot go together."""
    return checked_study(read_keys(path))


def results_folder(path: Path, overlay: Sequence[str]) -> Path:
    """Where the results of a configuration file lie, given the KEY=VALUE pairs that Snakemake lays over it."""
    pairs = dict(pair.split("=", 1) for pair in overlay if "=" in pair)
    named = {key: yaml.load(value, yaml.BaseLoader) for key, value in pairs.items() if key == "study"}
    study = read_config(path, named)["study"]
    check_word("study", study)
    return Path("results") / study


if __name__ == "__main__":
    read_study(Path(sys.argv[1]))
