"""A configuration, checked; and its file, read for the commands beside `snakemake`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from combinations import check_combinations
from config_check import check
from study import Study

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
    config = _keys(path) | (overlay or {})
    check(config, SCHEMA)
    return config


def read_study(path: Path) -> Study:
    """The study of a configuration file. Raises SystemExit as `read_config`, and for settings that cannot go together."""
    return checked_study(_keys(path))


def results_folder(path: Path, overlay: Sequence[str]) -> Path:
    """Where the results of a configuration file lie, given the KEY=VALUE pairs that Snakemake lays over it."""
    pairs = dict(pair.split("=", 1) for pair in overlay if "=" in pair)
    named = {key: yaml.load(value, yaml.BaseLoader) for key, value in pairs.items() if key == "study"}
    return Path("results") / read_config(path, named)["study"]


def _keys(path: Path) -> dict:
    if not path.is_file():
        raise SystemExit(f"error: no configuration {path}; give one with CONFIG=FILE")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SystemExit(f"config error: {path} is not YAML: {error}") from error
    if not isinstance(config, dict):
        raise SystemExit(f"config error: {path} holds no keys; config.yaml shows every key and says what it does")
    return config
