"""Reads files that stand at every checkpoint, each with the checkpoint it belongs to."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from _job import JobError

from safety_geometry.tables import Checkpoint


def by_checkpoint(
    checkpoints: list[dict], paths: list[Path], read: Callable[[Path], object]
) -> dict[Checkpoint, object]:
    """Files in the order of params.checkpoints. Raises JobError when there are not as many, or none."""
    if len(checkpoints) != len(paths) or not paths:
        raise JobError(
            f"{len(paths)} files for the {len(checkpoints)} checkpoints of the params: one for each, at least one"
        )
    return {Checkpoint(**c): read(path) for c, path in zip(checkpoints, paths, strict=True)}


def read_cells(path: Path) -> pd.DataFrame:
    words = dict.fromkeys(("digest", "source_position_h", "source_position_r"), str)
    return _read(path, dtype=words, keep_default_na=False, na_values=[""])


def read_readout(path: Path) -> pd.DataFrame:
    return _read(path, dtype={"prompt_id": str})


def read_judged(path: Path) -> pd.DataFrame:
    """Rows of judge.py; only an empty cell is missing, since `none` is a refusal class."""
    return _read(path, keep_default_na=False, na_values=[""], dtype={"id": str, "prompt_id": str, "arm": str})


def _read(path: Path, **options) -> pd.DataFrame:
    try:
        return pd.read_csv(path, **options)
    except ValueError as error:
        raise JobError(f"{path}: not a table ({error}); run the rule that makes it") from error
