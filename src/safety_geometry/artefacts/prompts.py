"""Prompts of a role, JSON Lines: id, role, label, source, prompt, target (harmful) and the source's own fields."""

from pathlib import Path

from safety_geometry.artefacts.jsonl import read_jsonl

NEEDED = ("id", "prompt")


def read_role(path: Path, first: int | None = None) -> list[dict]:
    """The first prompts of a role (None: all). Raises ArtefactError."""
    return read_jsonl(path, NEEDED)[:first]


def read_behaviours(path: Path, first: int | None = None) -> list[dict]:
    """The first requests that are attacked, each with the answer that an attack wants. Raises ArtefactError."""
    return read_jsonl(path, (*NEEDED, "target"))[:first]
