"""Attacks on one source, JSON Lines, private, and their numbers, CSV: the table `attacks` without success, which others judge."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from safety_geometry.artefacts.columns import NUMBER_OR_NONE, TEXT, WHOLE, read_columns, write_columns
from safety_geometry.artefacts.jsonl import read_jsonl

NEEDED = ("id", "arm", "request", "prompt", "target")
PARTS = {
    "seed": WHOLE, "attack": TEXT, "source": TEXT, "behaviour": TEXT, "budget_steps": WHOLE, "width": WHOLE, "steps": WHOLE,
    "loss_start": NUMBER_OR_NONE, "loss": NUMBER_OR_NONE, "candidates": WHOLE, "rejected": WHOLE, "tokens": WHOLE,
    "batch_size": WHOLE, "stopped": TEXT,
}  # fmt: skip


def attack(behaviour: dict, arm: str, prompt: str) -> dict:
    """An attacked request: behaviour {id, prompt, target} asked as `prompt`."""
    return {
        "id": behaviour["id"], "arm": arm, "request": behaviour["prompt"], "prompt": prompt, "target": behaviour["target"],
    }  # fmt: skip


def read_attacks(path: Path) -> list[dict]:
    """Raises ArtefactError."""
    return read_jsonl(path, NEEDED)


def of_first(attacks: Sequence[dict], behaviours: int) -> list[dict]:
    """The attacks on the first behaviours."""
    first = list(dict.fromkeys(row["id"] for row in attacks))[:behaviours]
    return [row for row in attacks if row["id"] in first]


def write_attack_parts(path: Path, rows: Iterable[dict]) -> None:
    write_columns(pd.DataFrame(list(rows), columns=list(PARTS)), PARTS, path)


def read_attack_parts(path: Path) -> pd.DataFrame:
    """Raises ArtefactError."""
    return read_columns(path, PARTS)
