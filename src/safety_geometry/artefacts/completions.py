"""Answers of a model, JSON Lines, private: the prompts' requests and the completions, with what judges need of the prompt.

Beside the fields of NEEDED: request (the plain behaviour, where the prompt carries an attack), bucket, type, must, min_words, arm,
pair, context, where the prompt's row has them.
"""

import hashlib
from pathlib import Path

from safety_geometry.artefacts.jsonl import read_jsonl

NEEDED = ("id", "suite", "prompt_id", "prompt", "completion", "n_tokens", "hit_limit")


def read_completions(path: Path) -> list[dict]:
    """Raises ArtefactError with file and row when one lacks a field."""
    return read_jsonl(path, NEEDED)


def digest(completion: str) -> str:
    """What hand labels know an answer by: the first 12 hex digits of its SHA-256."""
    return hashlib.sha256(completion.encode()).hexdigest()[:12]


def request(row: dict) -> str:
    """The plain behaviour that was asked for."""
    return row.get("request") or row["prompt"]
