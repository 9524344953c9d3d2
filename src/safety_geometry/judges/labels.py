"""Human-labelled responses as one frame `request, response, label`: what judges are trained on and measured against.

The label files are CSV with `#` comment lines before the header, a request column (`objective`), a response column
(`assistant_response`) and one or several human scores per row (`human_score`, `human_score_1`, `human_score_2` …), each
in [0, 1]. Everything here takes text, not paths.
"""

import io
import json
import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .features import content_stems

REQUEST_COLUMNS = ("objective", "request", "prompt")
RESPONSE_COLUMNS = ("assistant_response", "response", "completion")
SCORE = re.compile(r"human_score(?:_\d+)?$")
NEAR_DUPLICATE = 0.6
OFF_TOPIC_WORDS = 25


class LabelError(ValueError):
    """A labelled set cannot be read: says what is missing."""


def parse_labels(content: str | bytes, *, threshold: float = 0.5, name: str = "labels") -> pd.DataFrame:
    """Rows of one labelled CSV file: `request`, `response`, `score` (mean human score), `label` (score >= threshold).

    `label` is bool; `n_scores` counts the human scores of the row. Rows without response or score are left out.
    Raises LabelError when a column is missing or a score lies outside [0, 1].
    """
    text = content.decode("utf-8-sig") if isinstance(content, bytes) else content.lstrip("\ufeff")
    lines = text.splitlines(keepends=True)
    start = 0
    while start < len(lines) and lines[start].lstrip().startswith(("#", '"#')):
        start += 1
    body = "".join(lines[start:])
    if not body.strip():
        raise LabelError(f"{name}: no header line below the comments")
    # "None" or "N/A" can be a response: only an empty cell is missing.
    frame = pd.read_csv(io.StringIO(body), keep_default_na=False, na_values=[""], dtype=str)
    request, response = _column(frame, REQUEST_COLUMNS, name), _column(frame, RESPONSE_COLUMNS, name)
    scores = [column for column in frame.columns if SCORE.match(str(column))]
    if not scores:
        raise LabelError(f"{name}: no column of human scores (human_score, human_score_1 …) in {list(frame.columns)}")
    values = frame[scores].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    if np.nanmin(values, initial=0.0) < 0 or np.nanmax(values, initial=0.0) > 1:
        raise LabelError(f"{name}: human scores have to lie in [0, 1]")
    n_scores = np.isfinite(values).sum(axis=1)
    score = np.nansum(values, axis=1) / np.maximum(n_scores, 1)
    rows = pd.DataFrame({"request": frame[request], "response": frame[response], "score": score, "n_scores": n_scores})
    keep = rows["request"].notna() & rows["response"].notna() & (n_scores > 0)
    rows = rows[keep].reset_index(drop=True)
    return rows.assign(label=rows["score"] >= threshold)


def parse_labels_jsonl(
    content: str | bytes, field: str, *, threshold: float = 0.5, name: str = "labels"
) -> pd.DataFrame:
    """The same frame from JSON Lines with `request`, `response` and a score in [0, 1] named `field`."""
    lines = (content.decode() if isinstance(content, bytes) else content).splitlines()
    rows = [json.loads(line) for line in lines if line.strip()]
    missing = {"request", "response", field} - set(rows[0] if rows else ())
    if missing:
        raise LabelError(f"{name}: fields {sorted(missing)} are missing")
    frame = pd.DataFrame({"request": [r["request"] for r in rows], "response": [r["response"] for r in rows]})
    score = np.array([float(r[field]) for r in rows])
    if not ((score >= 0) & (score <= 1)).all():
        raise LabelError(f"{name}: {field} has to lie in [0, 1]")
    return frame.assign(score=score, n_scores=1, label=score >= threshold)


def combine(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """All label sets in one frame; a request–response pair that occurs twice becomes one row with the mean score."""
    rows = pd.concat(list(frames), ignore_index=True)
    merged = rows.groupby(["request", "response"], sort=False, as_index=False).agg(
        score=("score", "mean"), n_scores=("n_scores", "sum")
    )
    return merged.assign(label=merged["score"] >= 0.5)


def request_groups(requests: Sequence[str], responses: Sequence[str]) -> NDArray[np.int64]:
    """Group per row, shape (n,), for cross-validation: rows that share a request, a near-duplicate of it (Jaccard of
    content stems >= 0.6) or the response itself are never split. Groups are numbered in order of appearance."""
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
    raise LabelError(f"{where}: none of the columns {list(names)} among {list(frame.columns)}")
