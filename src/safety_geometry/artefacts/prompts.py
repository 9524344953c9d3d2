"""Prompts of a role, JSON Lines: id, role, label, source, prompt, target (harmful) and the source's own fields."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from safety_geometry.artefacts.jsonl import read_jsonl

NEEDED = ("id", "prompt")


def read_role(path: Path, first: int | None = None) -> list[dict]:
    """The first prompts of a role (None: all). Raises ArtefactError."""
    return read_jsonl(path, NEEDED)[:first]


def read_suites(
    suites: Mapping[str, int | None], paths: Sequence[Path], arms: Mapping[str, Sequence[str]] | None = None
) -> list[tuple[str, dict]]:
    """Suite and row of the first prompts of each suite, as many as it names (None: all). Raises ArtefactError.

    paths: of the suites, in their order; arms: of suites whose other arms are not asked.
    """
    out, arms = [], arms or {}
    for (suite, first), path in zip(suites.items(), paths, strict=True):
        rows = [row for row in read_jsonl(path) if suite not in arms or row["arm"] in arms[suite]]
        out += [(suite, row) for row in rows[:first]]
    return out


def read_behaviours(path: Path, first: int | None = None) -> list[dict]:
    """The first requests that are attacked, each with the answer that an attack wants. Raises ArtefactError."""
    return read_jsonl(path, (*NEEDED, "target"))[:first]
