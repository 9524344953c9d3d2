"""Text files as people have them: UTF-8 with or without a byte-order mark, any line ends, CSV and JSON read strictly.

Nothing is guessed and no row is lost: what cannot be read raises TextFileError, which names line or row and never quotes
the text. Lines end at LF, CRLF or CR alone: `str.splitlines` also cuts at U+2028, U+2029 and U+0085, which JSON allows in a
string and which a CSV cell may hold.
"""

import codecs
import csv
import io
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from safety_geometry.artefacts.errors import ArtefactError

LARGEST_CELL = 2**31 - 1  # characters; the csv module's own limit is 131,072, and a context can be longer
WIDE = {codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}
NAME = re.compile(
    r"\s*\w+( \w+)?\s*"
)  # of a column: where there is no header, the first row is a text that no log should have

log = logging.getLogger(__name__)


class TextFileError(ValueError):
    """A file, or a line or row of it, is not what it has to be. One plain line."""


def read_text(path: Path) -> str:
    """The text of a file, its line ends as LF. Raises TextFileError when there is no such file, or it is no text in UTF-8."""
    if path.is_dir():
        raise TextFileError("a folder where a file is expected; name the file in it")
    if not path.is_file():
        raise TextFileError("neither a file nor a folder" if path.exists() else "there is no such file")
    return one_line_end(decoded(path.read_bytes()))


def text_of(path: Path) -> str:
    """The text of a file that has one. Raises ArtefactError when it is missing, a folder, empty or not text in UTF-8."""
    try:
        text = read_text(path)
    except TextFileError as error:
        raise ArtefactError(f"{path}: {error}") from error
    if not text.strip():
        raise ArtefactError(f"{path}: the file is empty")
    return text


def decoded(content: bytes) -> str:
    """Text without its byte-order mark. Raises TextFileError when it is not UTF-8, or holds a NUL."""
    for mark, name in WIDE.items():
        if content.startswith(mark):
            raise TextFileError(f"not UTF-8 text (byte 0) but {name}; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TextFileError(f"not UTF-8 text (byte {error.start}), in line {line}; save it as UTF-8") from error
    if "\0" in text:
        raise TextFileError(
            f"line {text[: text.index(chr(0))].count(chr(10)) + 1} holds a NUL character; is the file damaged?"
        )
    return text


def one_line_end(text: str) -> str:
    """The text with LF for CRLF and CR."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def json_value(text: str, kind: type, place: str = "the file"):
    """The JSON value in `text`, a `kind` (dict or list).

    Raises TextFileError when it is none, has a key twice, or half of a surrogate pair, which no file can hold; `place` is what
    the message calls it.
    """
    try:
        value = json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise TextFileError(f"{place} is not JSON ({error.msg}, line {error.lineno})") from error
    except TextFileError as error:
        raise TextFileError(f"{place} {error}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets in brackets without end
        raise TextFileError(f"{place} is no JSON that can be read ({type(error).__name__})") from error
    if not isinstance(value, kind):
        raise TextFileError(f"{place} holds a JSON {type(value).__name__} where a {kind.__name__} is expected")
    if "\\ud" in text or "\\uD" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise TextFileError(f"{place} holds half of a surrogate pair (\\ud8… without the other)") from error
    return value


def json_lines(text: str) -> Iterator[tuple[int, dict]]:
    """(line number from 1, object) of each line that is not blank."""
    for number, line in enumerate(one_line_end(text).split("\n"), 1):
        if line.strip():
            yield number, json_value(line, dict, f"line {number}")


def below_comments(text: str) -> str:
    """The text below the lines at its head that begin with ``#``, quoted or not."""
    while text.lstrip(" \t").startswith(("#", '"#')):
        text = text.partition("\n")[2]
    return text


def table(text: str, columns: Sequence[str], name: str = "the file") -> Iterator[dict[str, str]]:
    """Rows of a CSV file with a header, line ends in cells as LF. `columns` have to be there; `name` is for the log.

    Cells beyond the header are left out, and that is logged; where they come from a comma of the prose that no quotes
    enclose, which shows in cells that begin with a blank, the row is refused.

    Raises TextFileError for a missing or repeated column, a row too short, a quote that is never closed, and text after a
    closing quote.
    """
    csv.field_size_limit(LARGEST_CELL)
    reader = csv.reader(io.StringIO(one_line_end(text), newline=""), strict=True)
    number, begun, wide = 0, 1, []
    try:
        header = next(reader, [])
        _check_header(header, columns)
        begun = reader.line_num + 1
        for cells in reader:
            place = f"row {number + 1} (from line {begun} on)"
            begun = reader.line_num + 1
            if not cells:  # an empty line
                continue
            number += 1
            if len(cells) < len(header):
                raise TextFileError(
                    f"{place} has {len(cells)} cells where the header has {len(header)}; is a cell or a quote missing?"
                )
            if any(cells[len(header) :]):
                if any(cell.startswith(" ") for cell in cells[1:]):
                    raise TextFileError(
                        f"{place} has {len(cells)} cells where the header has {len(header)}; put quotes around a text that has "
                        "commas"
                    )
                wide.append(number)
            yield dict(zip(header, cells, strict=False))
    except csv.Error as error:
        raise TextFileError(
            f"row {number + 1} (from line {begun} on) is no CSV ({error}); is a quote not closed, or not doubled inside a "
            "quoted text?"
        ) from error
    if wide:
        log.warning(
            "%s: %d row(s) have more cells than the header (first: row %d); what is beyond is left out",
            name,
            len(wide),
            wide[0],
        )


def shown_names(header: Iterable[str]) -> list[str]:
    """Column names as a message may have them: what looks like a text is not quoted."""
    return [name if NAME.fullmatch(name) else "…" for name in header]


def _check_header(header: list[str], columns: Sequence[str]) -> None:
    if missing := [name for name in columns if name not in header]:
        other = {";": "semicolons", "\t": "tabs"}
        apart = next(
            (
                f" (cells stand apart by {word}: save it with commas)"
                for sign, word in other.items()
                if sign in "".join(header)
            ),
            "",
        )
        raise TextFileError(
            f"the CSV file has no column {', '.join(missing)}; it has {shown_names(header)}, and {', '.join(columns)} are needed{apart}"
        )
    if twice := [name for name, times in Counter(header).items() if times > 1 and name.strip()]:
        raise TextFileError(
            f"the CSV file has the column {twice[0]} twice; which of them is meant? Remove the other one"
        )


def _once(pairs: list[tuple[str, object]]) -> dict:
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise TextFileError(f"has the key {twice[:40]!r} twice")
    return value
