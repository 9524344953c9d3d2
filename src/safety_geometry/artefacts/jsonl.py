"""JSON Lines: one object a line, UTF-8."""

import json
from collections.abc import Collection, Iterable
from pathlib import Path

from safety_geometry.artefacts.errors import ArtefactError


def read_jsonl(path: Path, needed: Collection[str] = ()) -> list[dict]:
    """Rows of the file, each with the fields that are `needed`.

    Raises ArtefactError with file and line when one is no JSON object or lacks a field, or the file no UTF-8.
    """
    rows = []
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ArtefactError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ArtefactError(f"{path}, line {number}: not a JSON object ({error.msg})") from error
        if not isinstance(row, dict):
            raise ArtefactError(f"{path}, line {number}: not a JSON object but a {type(row).__name__}")
        if missing := [name for name in needed if name not in row]:
            raise ArtefactError(f"{path}, row {len(rows) + 1}: missing {', '.join(missing)}")
        rows.append(row)
    return rows


def write_jsonl(rows: Iterable[dict], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
