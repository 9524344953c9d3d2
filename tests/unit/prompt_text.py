"""Prompts that stand in a text, read as those of a file."""

import tempfile
from pathlib import Path

from safety_geometry.prompts.files import read_prompts


def parse(format: str, text: str, source: str, targets: str | None = None) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        file, openings = Path(folder) / "prompts", Path(folder) / "targets"
        file.write_bytes(text.encode())
        openings.write_bytes((targets or "").encode())
        return read_prompts([file], format, source, [openings] if targets is not None else ())
