"""Human-labelled responses as one frame `request, response, label`: what judges are trained on and measured against.

The label files are CSV with `#` comment lines before the header, a request column (`objective`), a response column
(`assistant_response`) and one or several human scores per row (`human_score`, `human_score_1`, `human_score_2` …), each
in [0, 1]. Parsers take text; `read_labels` takes files.
"""

import logging
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from safety_geometry.artefacts.errors import ArtefactError
from safety_geometry.artefacts.text_files import TextFileError, below_comments, decoded, json_lines, shown_names, table
from safety_geometry.judges.features import content_stems
from safety_geometry.prompts.rows import normalise

log = logging.getLogger(__name__)

REQUEST_COLUMNS = ("objective", "request", "prompt")
RESPONSE_COLUMNS = ("assistant_response", "response", "completion")
SCORE = re.compile(r"human_score(?:_\d+)?$")
NEAR_DUPLICATE = 0.6
OFF_TOPIC_WORDS = 25


class LabelError(ValueError):
    """A labelled set cannot be read: says what is missing."""


def read_labels(paths: Sequence[Path], patterns: Sequence[str], field: str) -> pd.DataFrame:
    """All labelled sets of these files in one frame (`combine`).

    A folder stands for its files that the patterns name; JSON Lines have their scores in `field`. `dataset` is the name
    of a row's file, without its ending. Raises ArtefactError
    when there is no file, a pattern fits none, or one cannot be read.
    """
    files = [file for path in paths for file in (matched(path, patterns) if path.is_dir() else [path])]
    if not files:
        raise ArtefactError("give at least one file of labelled responses")
    frames = []
    for file in sorted(files, key=lambda file: file.name):
        try:
            if file.suffix == ".jsonl":
                rows = parse_labels_jsonl(file.read_bytes(), field, name=file.name)
            else:
                rows = parse_labels(file.read_bytes(), name=file.name)
        except (LabelError, ValueError, OSError) as error:
            raise ArtefactError(f"{file}: no labelled set that can be read ({error})") from error
        frames.append(rows.assign(dataset=file.stem))
    return combine(frames)


def matched(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """Files of a folder that patterns name. Raises ArtefactError for a pattern that fits none."""
    files = []
    for pattern in patterns:
        if not (fitting := sorted(path for path in folder.glob(pattern) if path.is_file())):
            raise ArtefactError(f"{folder} has no file {pattern}; correct the names of the labelled set's files")
        files += fitting
    return files


def to_prompts(rows: pd.DataFrame, prompts: Iterable[str]) -> pd.DataFrame:
    """Rows whose request is one of the prompts, both normalised as prompt ids are. Raises LabelError when none is
    left."""
    known = {normalise(prompt) for prompt in prompts}
    kept = rows[[normalise(request) in known for request in rows["request"]]].reset_index(drop=True)
    if kept.empty:
        raise LabelError(
            f"none of the {len(rows)} labelled answers is to a prompt of their role; give that role the set of these"
            " files"
        )
    return kept


def parse_labels(content: str | bytes, *, threshold: float = 0.5, name: str = "labels") -> pd.DataFrame:
    """Rows of one labelled CSV file: `request`, `response`, `score` (mean human score), `label` (score >= threshold).

    `label` is bool; `n_scores` counts the human scores of the row. Rows without request, response or score are left
    out, and how many is logged. Raises LabelError when a column is missing, a row is broken, or a score is no number in
    [0, 1].
    """
    with _of_file(name):
        body = below_comments(_text(content))
        if not body.strip():
            raise LabelError(f"{name}: no header line below the comments")
        frame = pd.DataFrame(list(table(body, (), name)), dtype=str)
    if frame.empty:
        raise LabelError(f"{name}: no row below the header")
    request, response = _column(frame, REQUEST_COLUMNS, name), _column(frame, RESPONSE_COLUMNS, name)
    scores = [column for column in frame.columns if SCORE.match(column)]
    if not scores:
        has = shown_names(frame.columns)
        raise LabelError(f"{name}: no column of human scores (human_score, human_score_1 …) in {has}")
    values = np.array([[_score(cell, row, name) for row, cell in enumerate(frame[column], 1)] for column in scores]).T
    n_scores = np.isfinite(values).sum(axis=1)
    score = np.nansum(values, axis=1) / np.maximum(n_scores, 1)
    rows = pd.DataFrame({"request": frame[request], "response": frame[response], "score": score, "n_scores": n_scores})
    keep = rows["request"].ne("") & rows["response"].ne("") & (n_scores > 0)
    if not keep.all():
        log.warning("%s: %d of %d rows have no request, response or score: left out", name, (~keep).sum(), len(keep))
    rows = rows[keep].reset_index(drop=True)
    return rows.assign(label=rows["score"] >= threshold)


def parse_labels_jsonl(
    content: str | bytes, field: str, *, threshold: float = 0.5, name: str = "labels"
) -> pd.DataFrame:
    """The same frame from JSON Lines with `request`, `response` and a score in [0, 1] named `field`.

    Raises LabelError when a line is no JSON object, lacks one of them, or has another kind of value there.
    """
    rows = []
    with _of_file(name):
        for number, row in json_lines(_text(content)):
            if missing := {"request", "response", field} - set(row):
                raise LabelError(f"{name}: fields {sorted(missing)} are missing in line {number}")
            if not all(isinstance(row[key], str) and row[key] for key in ("request", "response")):
                raise LabelError(f"{name}: request and response of line {number} have to be texts")
            if not isinstance(row[field], bool | int | float) or not 0 <= row[field] <= 1:
                raise LabelError(f"{name}: {field} has to lie in [0, 1]; in line {number} it does not")
            rows.append(row)
    if not rows:
        raise LabelError(f"{name}: no labelled response; fields are request, response and {field}")
    frame = pd.DataFrame({"request": [r["request"] for r in rows], "response": [r["response"] for r in rows]})
    score = np.array([float(r[field]) for r in rows])
    return frame.assign(score=score, n_scores=1, label=score >= threshold)


def _text(content: str | bytes) -> str:
    return decoded(content) if isinstance(content, bytes) else content.removeprefix("\ufeff")


def _score(cell: str, row: int, name: str) -> float:
    """A human score; NaN for an empty cell."""
    if not cell.strip():
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise LabelError(f"{name}: human scores have to lie in [0, 1]; in row {row} one does not")
    return value


@contextmanager
def _of_file(name: str) -> Iterator[None]:
    try:
        yield
    except TextFileError as error:
        raise LabelError(f"{name}: {error}") from error


def combine(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """All label sets in one frame; a request–response pair that occurs twice becomes one row with the mean score, of
    the first `dataset` that has it."""
    rows = pd.concat(list(frames), ignore_index=True)
    first = {"dataset": ("dataset", "first")} if "dataset" in rows else {}
    merged = rows.groupby(["request", "response"], sort=False, as_index=False).agg(
        score=("score", "mean"), n_scores=("n_scores", "sum"), **first
    )
    return merged.assign(label=merged["score"] >= 0.5)


def with_further(rows: pd.DataFrame, further: pd.DataFrame) -> pd.DataFrame:
    """Labelled rows, `measured`, and below them rows that a judge only learns from: those of `further` with another
    pair of request and response. A further file that has the name of a measured one in its own (`violence` in
    `violence_multi_score`) counts as part of it: one subject is left out as a whole."""
    pairs = set(zip(rows["request"], rows["response"], strict=True))
    new = [pair not in pairs for pair in zip(further["request"], further["response"], strict=True)]
    files = list(dict.fromkeys(rows["dataset"]))
    subjects = [next((file for file in files if file in name), name) for name in further["dataset"]]
    extra = further.assign(dataset=subjects, measured=False)[new]
    return pd.concat([rows.assign(measured=True), extra], ignore_index=True)


def request_groups(requests: Sequence[str], responses: Sequence[str]) -> NDArray[np.int64]:
    """Group per row, shape (n,), for cross-validation: rows that share a request, a near-duplicate of it (Jaccard of
    content stems >= 0.6) or the response itself are never split. Groups are numbered in order of appearance."""
    requests, responses = list(requests), list(responses)  # a Series is slow to index
    stems = [content_stems(request) for request in requests]
    parent = list(range(len(stems)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i in range(len(stems)):
        for j in range(i):
            shared, union = len(stems[i] & stems[j]), len(stems[i] | stems[j])
            near = union > 0 and shared >= NEAR_DUPLICATE * union
            if near or requests[i] == requests[j] or responses[i] == responses[j]:
                parent[root(i)] = root(j)
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(root(i), len(numbers)) for i in range(len(stems))], dtype=np.int64)


def off_topic_rows(frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Rows labelled as refusals whose response is in truth an answer to something else, shape (n,).

    The annotators of the refusal sets count a non-sequitur as a refusal; XSTest's classes do not. Found without any
    refusal rule: the same response is accepted for another request, or it has more than 25 words and not one content
    word of its request.
    """
    accepted = set(frame.loc[~frame["label"], "response"])
    flags = []
    for request, response, label in zip(frame["request"], frame["response"], frame["label"], strict=True):
        stems = content_stems(request)
        strange = bool(stems) and len(response.split()) > OFF_TOPIC_WORDS and not stems & content_stems(response)
        flags.append(bool(label) and (response in accepted or strange))
    return np.array(flags, dtype=bool)


def _column(frame: pd.DataFrame, names: Sequence[str], where: str) -> str:
    for name in names:
        if name in frame.columns:
            return name
    raise LabelError(f"{where}: none of the columns {list(names)} among {shown_names(frame.columns)}")
