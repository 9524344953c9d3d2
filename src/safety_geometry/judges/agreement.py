"""How well a judge agrees with people: accuracy with Wilson's interval, Cohen's kappa with a bootstrap interval."""

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from safety_geometry.artefacts.errors import ArtefactError
from safety_geometry.artefacts.tables.checks import JUDGES
from safety_geometry.artefacts.text_files import TextFileError, table, text_of
from safety_geometry.judges.ordering import FEWEST_BY_HAND, LEAST_BY_HAND, UNKNOWN, Ordering, ordering, verdict
from safety_geometry.stats.estimates import wilson

log = logging.getLogger(__name__)

# Column of the hand labels → column of the judged frame that states the same.
HAND_TARGETS = {
    "refusal": "refusal",
    "any_refusal": "any_refusal",
    "attack_success": "attack_success",
    "degenerate": "degenerate",
    "helpful": "utility",
}


@dataclass(frozen=True)
class Agreement:
    """`n` labelled rows in `n_groups` groups; `lo`, `hi`: 95 % Wilson interval of the accuracy; `majority`: accuracy of
    always saying the commonest label; kappa's interval from a bootstrap over groups (NaN where kappa is undefined)."""

    n: int
    n_groups: int
    accuracy: float
    lo: float
    hi: float
    kappa: float
    kappa_lo: float
    kappa_hi: float
    majority: float


def cohen_kappa(said: ArrayLike, truth: ArrayLike) -> float:
    """(p_o − p_e)/(1 − p_e); NaN when both sides use one and the same label throughout."""
    _, codes = np.unique(
        np.concatenate([np.asarray(said).astype(str), np.asarray(truth).astype(str)]), return_inverse=True
    )
    n = len(codes) // 2
    k = int(codes.max()) + 1
    return float(_kappa(_confusion(codes[:n], codes[n:], k)))


def compare(
    said: ArrayLike, truth: ArrayLike, groups: ArrayLike | None = None, *, seed: int = 0, draws: int = 2000
) -> Agreement:
    """Agreement of a judge's labels with people's, both shape (n,). `groups` (n,): what the bootstrap resamples whole
    (each row by itself when None). Raises ValueError for n = 0."""
    said, truth = np.asarray(said).astype(str), np.asarray(truth).astype(str)
    n = len(truth)
    if n == 0:
        raise ValueError("no labelled rows to compare")
    values, codes = np.unique(np.concatenate([said, truth]), return_inverse=True)
    a, b, k = codes[:n], codes[n:], len(values)
    _, group = np.unique(np.arange(n) if groups is None else np.asarray(groups), return_inverse=True)
    n_groups = int(group.max()) + 1
    tables = np.zeros((n_groups, k, k))
    np.add.at(tables, (group, a, b), 1)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=draws)  # (draws, groups)
    kappas = _kappa(np.tensordot(weights, tables, axes=1))
    finite = kappas[np.isfinite(kappas)]
    kappa_lo, kappa_hi = np.quantile(finite, [0.025, 0.975]) if len(finite) else (np.nan, np.nan)
    hits = int((a == b).sum())
    interval = wilson(hits, n)
    return Agreement(
        n,
        n_groups,
        hits / n,
        interval.lo,
        interval.hi,
        float(_kappa(tables.sum(axis=0))),
        float(kappa_lo),
        float(kappa_hi),
        float(np.bincount(b).max() / n),
    )


def row(
    judge: str,
    dataset: str,
    target: str,
    result: Agreement,
    *,
    held_out: str = "all",
    subset: str = "all",
    order: Ordering = UNKNOWN,
    orders: bool | None = None,
) -> dict:
    """One row of tables/judges.csv; `orders`: the verdict of a row that decides whether the judge orders answers."""
    named = {"judge": judge, "dataset": dataset, "target": target, "subset": subset, "held_out": held_out}
    return named | asdict(result) | asdict(order) | {"orders_answers": orders}


def agreement(
    judged: pd.DataFrame, labels: pd.DataFrame, *, dataset: str = "own outputs", seed: int = 0
) -> pd.DataFrame:
    """Agreement of judged completions with hand labels, one row of tables/judges.csv per labelled target.

    `labels`: column `id` and any of `refusal` (none, partial, full), `any_refusal`, `attack_success`, `degenerate`
    (0/1) and `helpful` (0, 1, 2); an empty cell is not judged. `judged`: the output of `judge_completions`. With
    `refusal` there is a row for `any_refusal` as well; with `attack_success`, and scores of harm, one of the answers
    that are neither refused nor degenerate, with their AUROC. Raises ValueError for repeated or unknown ids, or when
    nothing matches.
    """
    if labels["id"].duplicated().any() or judged["id"].duplicated().any():
        raise ValueError("ids of hand labels and of judged completions have to be unique")
    unknown = set(labels["id"]) - set(judged["id"])
    if unknown:
        raise ValueError(
            f"{len(unknown)} of {len(labels)} hand labels have no judged completion (first: {min(unknown, key=str)}): "
            "the labels belong to another run"
        )
    if "refusal" in labels and "any_refusal" not in labels:
        refused = labels["refusal"].map({"none": 0, "partial": 1, "full": 1})
        labels = labels.assign(any_refusal=refused)
    both = labels.merge(judged, on="id", suffixes=("_hand", ""), validate="one_to_one")
    rows = []
    for target, column in HAND_TARGETS.items():
        if target not in labels or column not in judged:
            continue
        truth = both[f"{target}_hand" if target in judged else target]
        present = (truth.notna() & both[column].notna()).to_numpy()
        if present.any():
            said, true = _plain(both.loc[present, column]), _plain(truth[present])
            judge = _judge_name(both.loc[present], target)
            rows.append(row(judge, dataset, target, compare(said, true, seed=seed)))
        if target == "attack_success" and {"any_refusal", "degenerate", "harm_score"} <= set(judged):
            refused, broken = both["any_refusal"].astype(bool), both["degenerate"].astype(bool)
            present = present & (both["harm_score"].notna() & ~refused & ~broken).to_numpy()
            rows += _among_answered(both[present], truth[present], both[column][present], dataset, seed)
    if not rows:
        raise ValueError(f"hand labels have none of the columns {sorted(HAND_TARGETS)} with a value")
    return pd.DataFrame(rows, columns=JUDGES.names)


def _among_answered(both: pd.DataFrame, truth: pd.Series, said: pd.Series, dataset: str, seed: int) -> list[dict]:
    """The row of hand-labelled answers that are neither refused nor degenerate; none without any."""
    if not len(both):
        return []
    true = _plain(truth)
    order = ordering(both["harm_score"], true == "1", seed=seed)
    result = compare(_plain(said), true, seed=seed)
    judge, fewest = _judge_name(both, "attack_success"), min((true == "1").sum(), (true != "1").sum())
    orders = verdict(order, LEAST_BY_HAND) if fewest >= FEWEST_BY_HAND else None
    return [row(judge, dataset, "attack_success", result, subset="answered", order=order, orders=orders)]


def read_hand_labels(path: Path) -> pd.DataFrame:
    """Cells as texts, NaN where one is empty; lines that begin with # are comments. Raises ArtefactError."""
    lines = [line for line in text_of(path).split("\n") if not line.startswith("#")]
    try:
        rows = list(table("\n".join(lines), ("id",), path.name))
    except TextFileError as error:
        raise ArtefactError(f"{path}: {error}") from error
    if not rows:
        raise ArtefactError(f"{path}: no label below the header")
    labels = pd.DataFrame(rows).replace("", np.nan)
    if extra := set(labels.columns) - {"id", "digest", *HAND_TARGETS}:
        raise ArtefactError(f"{path}: columns are id and any of {', '.join(HAND_TARGETS)}; remove {sorted(extra)}")
    return labels


def fitting(labels: pd.DataFrame, judged: pd.DataFrame) -> pd.DataFrame:
    """Labels whose digest, where they have one, is that of the judged answer of their id: the others are of another
    run's answers."""
    if "digest" not in labels:
        return labels
    fits = labels.merge(judged[["id", "digest"]], on=["id", "digest"])["id"]
    log.info("hand labels: %d of %d are of answers that this run gave", len(fits), len(labels))
    return labels[labels["id"].isin(fits)].drop(columns="digest")


def with_prefixes(judged: Iterable[tuple[str, pd.DataFrame]]) -> pd.DataFrame:
    """Judged answers of several checkpoints in one frame, their ids behind a prefix of each, since they repeat."""
    return pd.concat([frame.assign(id=prefix + frame["id"]) for prefix, frame in judged], ignore_index=True)


def _judge_name(rows: pd.DataFrame, target: str) -> str:
    column = {"attack_success": "judge_harm", "refusal": "judge_refusal", "any_refusal": "judge_refusal"}.get(target)
    return str(rows[column].iloc[0]) if column in rows else {"helpful": "utility_rules"}.get(target, "quality_rules")


def _plain(values: pd.Series) -> NDArray:
    """Labels as comparable strings: True, 1, "1" and 1.0 are one label; a class name stays a name."""
    text = values.astype(str).str.strip().str.lower().replace({"true": "1", "false": "0"})
    numbers = pd.to_numeric(text, errors="coerce")
    return text.where(numbers.isna(), numbers.map(lambda v: f"{v:g}")).to_numpy(dtype=str)


def _confusion(a: NDArray, b: NDArray, k: int) -> NDArray[np.float64]:
    table = np.zeros((k, k))
    np.add.at(table, (a, b), 1)
    return table


def _kappa(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kappa of confusion tables, shape (…, k, k) → (…)."""
    n = table.sum(axis=(-2, -1))
    observed = np.trace(table, axis1=-2, axis2=-1) / n
    expected = (table.sum(axis=-1) * table.sum(axis=-2)).sum(axis=-1) / n**2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected < 1, (observed - expected) / (1 - expected), np.nan)
