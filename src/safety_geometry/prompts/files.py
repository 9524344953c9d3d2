"""Prompt files on the disk: text or Parquet, one after the other, each fault with the name of its file.

A large file can stand for itself by a sample: the prompts with the smallest hash of (seed, id), so that the same ones
are drawn wherever they stand in the file.
"""

import hashlib
import heapq
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from safety_geometry.artefacts.text_files import read_text
from safety_geometry.prompts.rows import (
    CHAT_COLUMNS,
    PromptError,
    Repeats,
    checked,
    conversations,
    of_source,
    read_targets,
    rows_in,
)

log = logging.getLogger(__name__)


def read_prompts(
    files: Iterable[Path],
    format: str,
    source: str,
    targets: Iterable[Path] = (),
    sample: int | None = None,
    seed: int = 0,
) -> list[dict]:
    """Rows of all files, each prompt once, as `rows.rows_in` gives them; only `sample` of them if that is a number.

    `targets` are JSON files {behaviour id: openings}, together for all files. How many prompts came again is logged.
    Raises PromptError, which names the file.
    """
    openings: dict[str, list[str]] = {}
    for path in targets:
        openings |= _named(path, lambda path=path: read_targets(_text(path, source), source))
    repeats = Repeats()
    fresh = (row for path in files for row in _new(_rows(path, format, source, openings), repeats, path))
    rows = list(fresh) if sample is None else _drawn(fresh, sample, seed)
    if not rows:
        raise PromptError(f"{source}: no prompts in its files; are they of format {format}?")
    if repeats.same or repeats.alike:
        log.warning("%s: %s", source, repeats)
    return rows


def _new(rows: Iterator[dict], repeats: Repeats, path: Path) -> Iterator[dict]:
    """Rows of one file that came in no other place."""
    rows = iter(rows)
    while row := _named(path, lambda: next((row for row in rows if repeats.new(row)), None)):
        yield row


def _rows(path: Path, format: str, source: str, openings: Mapping[str, list[str]]) -> Iterator[dict]:
    if path.suffix.lower() == ".parquet":
        if format != "ultrachat":
            raise PromptError(f"{source}, file {path.name}: Parquet is read as format ultrachat, not as {format}")
        yield from checked(conversations(_parquet_messages(path, source), source), format, source)
        return
    matched = not openings
    for row in rows_in(_text(path, source), format, source, openings):
        matched = matched or "targets" in row
        yield row
    if not matched:
        raise PromptError(
            f"{source}: no behaviour of the file is in its targets file; give the targets that go with it"
        )


def _drawn(rows: Iterable[dict], n: int, seed: int) -> list[dict]:
    """n rows with the smallest hashes, in their order; memory holds no more than these."""
    keyed = ((hashlib.sha256(f"{seed}|{row['id']}".encode()).hexdigest(), row["id"], row) for row in rows)
    return [row for _, _, row in heapq.nsmallest(n, keyed, key=lambda entry: entry[:2])]


def _parquet_messages(path: Path, source: str) -> Iterator[object]:
    """UltraChat's messages, a batch at a time. Raises PromptError for a broken file or other columns."""
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        if not path.is_file():
            raise OSError("there is no such file")
        file = ParquetFile(path)
        columns = file.schema_arrow.names
        if missing := [name for name in CHAT_COLUMNS if name not in columns]:
            raise PromptError(
                f"{source}: no column {', '.join(missing)}; it has {columns}, and {', '.join(CHAT_COLUMNS)} are needed"
            )
        for batch in file.iter_batches(batch_size=1024, columns=["messages"]):
            yield from batch.column(0).to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise PromptError(f"{source}: not a Parquet file ({reason})") from error


def _text(path: Path, source: str) -> str:
    with of_source(source):
        return read_text(path)


def _named(path: Path, read):
    """What `read` returns; a PromptError says which file."""
    try:
        return read()
    except PromptError as error:
        raise PromptError(f"{error} (file {path.name})") from error
