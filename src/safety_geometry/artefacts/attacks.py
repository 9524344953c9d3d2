"""Attacks on one source, JSON Lines, private. Their numbers stand in the working table `attack_parts`."""

from collections.abc import Sequence
from pathlib import Path

from safety_geometry.artefacts.jsonl import read_jsonl

NEEDED = ("id", "arm", "request", "prompt", "target")


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
