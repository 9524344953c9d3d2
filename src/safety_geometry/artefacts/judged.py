"""Judged answers, CSV: one row for each completion, with what judges say of it and without any text."""

import hashlib
from pathlib import Path

import pandas as pd

from safety_geometry.artefacts.columns import (
    FLAG,
    NUMBER_OR_NONE,
    TEXT,
    TEXT_OR_NONE,
    WHOLE,
    read_columns,
    write_columns,
)

JUDGED = {
    "id": TEXT, "digest": TEXT, "suite": TEXT, "prompt_id": TEXT, "type": TEXT_OR_NONE, "arm": TEXT_OR_NONE, "refusal": TEXT,
    "any_refusal": FLAG, "refusal_score": NUMBER_OR_NONE, "harm_score": NUMBER_OR_NONE, "attack_success": FLAG, "usefulness": NUMBER_OR_NONE,
    "degenerate": FLAG, "hit_limit": FLAG, "n_tokens": WHOLE, "on_topic": FLAG, "language": TEXT, "off_topic": NUMBER_OR_NONE,
    "utility": NUMBER_OR_NONE, "judge_refusal": TEXT, "judge_harm": TEXT,
}  # fmt: skip


def digest(completion: str) -> str:
    """What hand labels know an answer by: the first 12 hex digits of its SHA-256."""
    return hashlib.sha256(completion.encode()).hexdigest()[:12]


def write_judged(path: Path, frame: pd.DataFrame) -> None:
    write_columns(frame, JUDGED, path)


def read_judged(path: Path) -> pd.DataFrame:
    """Raises ArtefactError."""
    return read_columns(path, JUDGED)
