"""A configuration file, read and checked as the Snakefile does it, for the commands beside `snakemake`."""

from collections.abc import Mapping
from pathlib import Path

import yaml
from combinations import check_combinations
from config_check import check
from study import Study

SCHEMA = Path(__file__).parents[1] / "schemas" / "config.schema.yaml"


def read_config(path: Path, overlay: Mapping | None = None) -> dict:
    """The configuration of a file, with the keys of `overlay` in place of its own.

    Raises:
        SystemExit: there is no such file, or it is no YAML, or does not fit the schema.
    """
    if not path.is_file():
        raise SystemExit(f"error: no configuration {path}; give one with CONFIG=FILE")
    try:
        config = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SystemExit(f"config error: {path} is not YAML: {error}") from error
    if not isinstance(config, dict):
        raise SystemExit(f"config error: {path} holds no keys; config.yaml shows every key and says what it does")
    config |= overlay or {}
    check(config, SCHEMA)
    return config


def read_study(path: Path) -> Study:
    """The study of a configuration file. Raises SystemExit as `read_config`, and for settings that cannot go together."""
    study = Study(read_config(path))
    check_combinations(study)
    return study
