"""Prompt files on the disk: text or Parquet, one after the other, each fault with the name of its file.

A large file can stand for itself by a sample: the prompts with the smallest hash of (seed, id), so that the same ones are
drawn wherever they stand in the file.
"""

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from safety_geometry.prompts import CHAT_COLUMNS, PromptError, checked, conversation, parse, read_targets


def read_prompts(
    files: Iterable[Path],
    format: str,
    source: str,
    targets: Iterable[Path] = (),
    sample: int | None = None,
    seed: int = 0,
) -> list[dict]:
    """Rows of all files, each prompt once, as `prompts.parse` gives them; only `sample` of them if that is a number.

    `targets` are JSON files {behaviour id: openings}, together for all files. Raises PromptError, which names the file.
    """
    openings: dict[str, list[str]] = {}
    for path in targets:
        openings |= _named(path, lambda path=path: read_targets(_text(path, source), source))
    found = (row for path in files for row in _rows(path, format, source, openings))
    rows: dict[str, dict] = {}
    for row in found if sample is None else _drawn(found, sample, seed):
        rows.setdefault(row["id"], row)
    if not rows:
        raise PromptError(f"{source}: no prompts in its files; are they of format {format}?")
    return list(rows.values())


def _rows(path: Path, format: str, source: str, openings: Mapping[str, list[str]]) -> Iterator[dict]:
    if path.suffix != ".parquet":
        yield from _named(path, lambda: parse(format, _text(path, source), source, openings or None))
    elif format != "ultrachat":
        raise PromptError(f"{source}, file {path.name}: Parquet is read as format ultrachat, not as {format}")
    else:
        rows = checked(_parquet_chats(path, source), format, source)
        while row := _named(path, lambda: next(rows, None)):
            yield row


def _drawn(rows: Iterable[dict], n: int, seed: int) -> list[dict]:
    """n rows with the smallest hashes, in their order; memory holds no more than these."""
    seen: set[str] = set()

    def fresh() -> Iterator[tuple[str, str, dict]]:
        for row in rows:
            if row["id"] not in seen:
                seen.add(row["id"])
                yield hashlib.sha256(f"{seed}|{row['id']}".encode()).hexdigest(), row["id"], row

    return [row for _, _, row in heapq.nsmallest(n, fresh(), key=lambda entry: entry[:2])]


def _parquet_chats(path: Path, source: str) -> Iterator[dict]:
    """UltraChat's conversations, a batch at a time. Raises PromptError for a broken file or other columns."""
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        file = ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise PromptError(f"{source}: not a Parquet file ({str(error).splitlines()[0][:120]})") from error
    columns = file.schema_arrow.names
    if missing := [name for name in CHAT_COLUMNS if name not in columns]:
        raise PromptError(
            f"{source}: no column {', '.join(missing)}; it has {columns}, and {', '.join(CHAT_COLUMNS)} are needed"
        )
    number = 0
    for batch in file.iter_batches(batch_size=1024, columns=["messages"]):
        for messages in batch.column(0).to_pylist():
            number += 1
            yield from conversation(messages, source, number)


def _text(path: Path, source: str) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")  # bytes: line ends inside CSV cells stay as they are
    except UnicodeDecodeError as error:
        raise PromptError(f"{source}: not UTF-8 text (byte {error.start}); give files that are") from error


def _named(path: Path, read):
    """What `read` returns; a PromptError says which file."""
    try:
        return read()
    except PromptError as error:
        raise PromptError(f"{error} (file {path.name})") from error
