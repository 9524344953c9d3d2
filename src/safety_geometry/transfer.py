"""Transfer of attacks between checkpoints, and what predicts it (arXiv 2606.16349, Eq. 26 and Table 5).

TASR(s → t) is the share of the attacks made on checkpoint s that succeed on checkpoint t. Few checkpoints make many rows, so
rows are not independent: the test relabels checkpoints, the interval resamples sources and targets, and beside each ρ stands
the greatest that ties permit.
"""

import hashlib
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import pandas as pd

from safety_geometry.behaviour import Metric, compare
from safety_geometry.stats import Interval, average_ranks, spearman, spearman_tie_ceiling, wilson

ARMS = {"gcg": "gcg_init", "autodan": "seeds"}  # optimised attack: the same before optimisation
UNOPTIMISED = tuple(ARMS.values())
FAMILIES = {"all": tuple(ARMS), "gcg": ("gcg",), "autodan": ("autodan",), "seeds": ("seeds",)}
CROSS = "cross"  # regime of rows whose source and target regimes differ
JUDGED = ("seed", "attack", "source_regime", "source_step", "target_regime", "target_step", "behaviour", "success")
CELL = ["seed", "attack", "source_regime", "source_step", "target_regime", "target_step"]
TRANSFER = ("seed", "regime", "source_regime", "target_regime", "attack", "source", "target", "n", "tasr", "lo", "hi", "diagonal",
            "fixed_source", "gain", "gain_lo", "gain_hi", "gain_n", "gain_p", "gain_p_smallest")  # fmt: skip
COLUMNS = ("seed", "regime", "attack", "predictor", "family", "rho", "p", "p_smallest", "lo", "hi", "rho_tie_ceiling", "n", "n_sources",
           "n_targets")  # fmt: skip
EXHAUSTIVE = 5040  # orders of seven targets
FEWEST_LABELS = 5  # sources and targets that an interval takes
KEY = ["seed", "regime", "step"]


@dataclass(frozen=True)
class Predictor:
    """A number of the target checkpoint, or of the target less the source (`gap`), held against TASR."""

    name: str
    family: str  # coupling | behaviour | refusal_score | harmfulness | gap
    quantity: str  # column of `checkpoint_values`
    gap: bool = False


PREDICTORS = (
    Predictor("target_hrci", "coupling", "hrci"),
    Predictor("target_hrci_repr", "coupling", "hrci_repr"),
    Predictor("target_fixed_asr", "behaviour", "fixed_asr"),
    Predictor("target_refusal_score_drift", "refusal_score", "s_total_drift"),
    Predictor("target_h_drift", "harmfulness", "drift_h_ref"),
    Predictor("target_h_norm", "harmfulness", "norm_h"),
    Predictor("gap_hrci_repr", "gap", "hrci_repr", gap=True),
    Predictor("gap_refusal_score", "gap", "s_total", gap=True),
)
BY_NAME = {predictor.name: predictor for predictor in PREDICTORS}


@dataclass(frozen=True)
class Rows:
    """Rows of one analysis: TASR [n], and the index of each row's source and target among L checkpoints with `scores` [L].

    `targets` [T] are the indices that occur as a target; a row's number is its target's score, less its source's if `gap`.
    """

    tasr: np.ndarray
    source: np.ndarray
    target: np.ndarray
    scores: np.ndarray
    targets: np.ndarray
    gap: bool

    def numbers(self, scores: np.ndarray) -> np.ndarray:
        """Predictor of the rows [..., n] from scores of the labels [..., L]."""
        if not self.gap:
            return scores[..., self.target]
        gap = scores[..., self.target] - scores[..., self.source]
        return np.round(gap, 12)  # equal gaps that differ in their last bits are ties


def attack_id(attack: str, source: str, behaviour: str, steps: int, width: int) -> str:
    """Name of an attack, 12 hex digits: of its method, source (regime:step), behaviour id and budget, so without any text.

    Equal over seeds: an attack is one by seed and id.
    """
    return hashlib.sha256(f"{attack}/{source}/{behaviour}/{steps}/{width}".encode()).hexdigest()[:12]


def identified(attacks: pd.DataFrame, fixed: str) -> pd.DataFrame:
    """The attacks with `id`, and `kind`: fixed where they were made on the source `fixed` (regime:step), adaptive elsewhere."""
    names = ("attack", "source", "behaviour", "budget_steps", "width")
    ids = [attack_id(*row) for row in zip(*(attacks[name] for name in names), strict=True)]
    kind = np.where(attacks["source"] == fixed, "fixed", "adaptive")
    first = ["seed", "id", "attack", "kind"]
    attacks = attacks.assign(id=ids, kind=kind)
    return attacks[[*first, *(name for name in attacks if name not in first)]]


def transfer_table(judged: pd.DataFrame, fixed: str | None = None) -> pd.DataFrame:
    """TASR of every attack, source and target with Wilson's 95 % interval (columns `TRANSFER`), from judged attacks.

    judged: one row per attack, source, target and behaviour (columns `JUDGED`, success 0 or 1). fixed: the fixed source as
    regime:step, whose attacks are marked `fixed_source`. `gain`: TASR less that of the
    unoptimised arm on the same target and behaviours (of the same source where there is one, else the target's own), with
    Newcombe's paired interval and McNemar's p; empty for an unoptimised arm and where it was not run.

    Raises ValueError for missing columns or cells, a success that is not 0 or 1, or a behaviour that occurs twice in a cell.
    """
    if missing := [name for name in JUDGED if name not in judged]:
        raise ValueError(f"judged attacks lack the columns {', '.join(missing)}")
    frame = judged[list(JUDGED)]
    if empty := [name for name in JUDGED if frame[name].isna().any()]:
        raise ValueError(f"judged attacks have empty cells in {', '.join(empty)}")
    frame = frame.assign(success=frame["success"].astype(float))
    if not frame["success"].isin((0.0, 1.0)).all():
        raise ValueError("success has to be true or false for every judged attack")
    if frame.duplicated([*CELL, "behaviour"]).any():
        raise ValueError("a behaviour occurs twice for one attack, source and target; judge each pair once")
    cells = {key: cell.set_index("behaviour")["success"].sort_index() for key, cell in frame.groupby(CELL, sort=True)}
    rows = []
    for key, outcome in cells.items():
        run, attack, source_regime, source, target_regime, target = key
        rate = wilson(int(outcome.sum()), len(outcome))
        rows.append({
            "seed": run, "regime": source_regime if source_regime == target_regime else CROSS, "source_regime": source_regime,
            "target_regime": target_regime, "attack": attack, "source": int(source), "target": int(target), "n": rate.n, "tasr": rate.value,
            "lo": rate.lo, "hi": rate.hi, "diagonal": (source_regime, source) == (target_regime, target),
            "fixed_source": f"{source_regime}:{source}" == fixed,
        } | _gain(cells, key))  # fmt: skip
    table = pd.DataFrame(rows, columns=list(TRANSFER)).astype({"gain_n": "Int64"})
    return table.sort_values(
        ["seed", "attack", "source_regime", "source", "target_regime", "target"], kind="stable", ignore_index=True
    )


def _gain(cells: dict[tuple, pd.Series], key: tuple) -> dict:
    run, attack, source_regime, source, target_regime, target = key
    if (arm := ARMS.get(attack)) is None:
        return {}
    own, targets = (source_regime, source), (target_regime, target)
    before = next((cells[k] for by in (own, targets) if (k := (run, arm, *by, *targets)) in cells), None)
    if before is None or not len(shared := cells[key].index.intersection(before.index)):
        return {}
    a, b = (series.loc[shared].to_numpy() for series in (cells[key], before))
    found = compare(a, b, Metric("tasr", "transfer", "success", "rate"), seed=0, draws=0, flips=0)
    names = {
        "value": "gain",
        "lo": "gain_lo",
        "hi": "gain_hi",
        "n": "gain_n",
        "p": "gain_p",
        "p_smallest": "gain_p_smallest",
    }
    return {new: found[old] for old, new in names.items()}


def checkpoint_values(trajectory: pd.DataFrame, coupling: pd.DataFrame, geometry: pd.DataFrame) -> pd.DataFrame:
    """What predictors are made of, one row per checkpoint: hrci, hrci_repr, fixed_asr, s_total, s_total_drift, drift_h_ref, norm_h."""
    parts = (
        (trajectory, ["hrci", "hrci_repr", "fixed_asr"]),
        (coupling, ["s_total"]),
        (geometry, ["s_total_drift", "drift_h_ref", "norm_h"]),
    )
    indexed = [frame.set_index(KEY, verify_integrity=True)[columns] for frame, columns in parts]
    return indexed[0].join(indexed[1:], how="left").astype(float)


def transfer_predictors(
    transfer: pd.DataFrame, trajectory: pd.DataFrame, coupling: pd.DataFrame, geometry: pd.DataFrame,
    seed: int = 0, draws: int = 2000, orders: int = 5000,
) -> pd.DataFrame:  # fmt: skip
    """Spearman's ρ of every predictor with TASR, within each regime and across (columns `COLUMNS`).

    `attack` all, gcg and autodan take off-diagonal rows. Of seeds a source only picks one, it makes none: all its rows are taken, and
    it has no gap and no cross. p is two-sided (`relabelled_p`, at most `orders` random orders); lo and hi are `pigeonhole`'s. Rows whose
    checkpoint lacks the number are left out. Raises ValueError for a checkpoint that the trajectory does not have.
    """
    values, rows = checkpoint_values(trajectory, coupling, geometry), []
    for (run, regime), part in transfer.groupby(["seed", "regime"], sort=True):
        for attack, predictor, found in analyses(part, values):
            rng = np.random.default_rng([seed, zlib.crc32(f"{regime}/{attack}/{predictor.name}".encode())])
            x = found.numbers(found.scores)
            p, smallest = relabelled_p(found, rng, orders)
            interval = pigeonhole(found, [x], rng, draws, by_source=attack not in UNOPTIMISED)
            rows.append({
                "seed": int(run), "regime": regime, "attack": attack, "predictor": predictor.name, "family": predictor.family,
                "rho": interval.value, "p": p, "p_smallest": smallest, "lo": interval.lo, "hi": interval.hi,
                "rho_tie_ceiling": spearman_tie_ceiling(x, found.tasr) if len(x) else math.nan, "n": len(x),
                "n_sources": len(set(found.source)) if attack not in UNOPTIMISED else 0, "n_targets": len(found.targets),
            })  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def analyses(transfer: pd.DataFrame, values: pd.DataFrame) -> Iterator[tuple[str, Predictor, Rows]]:
    """Attack family, predictor and rows of one seed and regime."""
    for family, attacks in FAMILIES.items():
        mine = family_rows(transfer, attacks)
        for predictor in PREDICTORS if len(mine) else ():
            if not (predictor.gap and family in UNOPTIMISED):
                yield family, predictor, analysis_rows(mine, values, predictor)


def family_rows(transfer: pd.DataFrame, attacks: Sequence[str]) -> pd.DataFrame:
    """Off-diagonal rows of optimised attacks; all rows of an unoptimised one, but across regimes they would say nothing new."""
    rows = transfer[transfer["attack"].isin(attacks)]
    free = rows["attack"].isin(UNOPTIMISED)
    return rows[(free & (rows["regime"] != CROSS)) | (~free & ~rows["diagonal"].astype(bool))]


def analysis_rows(transfer: pd.DataFrame, values: pd.DataFrame, *predictors: Predictor) -> Rows | tuple[Rows, ...]:
    """Rows in which every one of the predictors is known, once per predictor. Raises ValueError for an unknown checkpoint."""
    sides = [
        list(zip(transfer["seed"], transfer[f"{side}_regime"], transfer[side], strict=True))
        for side in ("source", "target")
    ]
    labels = sorted(set(sides[0]) | set(sides[1]))
    if strangers := [label for label in labels if label not in values.index]:
        raise ValueError(f"transfer from or to a checkpoint that the trajectory does not have: {strangers[0]}")
    number = {label: i for i, label in enumerate(labels)}
    source, target = (np.array([number[label] for label in side], int) for side in sides)
    at = [values[p.quantity].loc[labels].to_numpy(np.float64) for p in predictors]
    known = np.ones(len(transfer), bool)
    for p, v in zip(predictors, at, strict=True):
        known &= np.isfinite(v[target]) & (np.isfinite(v[source]) if p.gap else True)
    tasr, source, target = transfer["tasr"].to_numpy(np.float64)[known], source[known], target[known]
    found = tuple(Rows(tasr, source, target, v, np.unique(target), p.gap) for p, v in zip(predictors, at, strict=True))
    return found if len(found) > 1 else found[0]


def relabelled_p(rows: Rows, rng: np.random.Generator, orders: int = 5000) -> tuple[float, float]:
    """Two-sided p of ρ when the checkpoints' values are dealt anew to the targets, and the least p that any dealing could give.

    A target keeps its rows together: they are no independent draws. A source that is also a target takes its new value along,
    so that a gap stays one between two checkpoints. All orders are taken up to EXHAUSTIVE (seven targets), else `orders` random
    ones beside the observed. NaN where ρ is.
    """
    x = rows.numbers(rows.scores)
    if len(x) < 3 or not np.isfinite(spearman(x, rows.tasr)):
        return math.nan, math.nan
    count = len(rows.targets)
    if math.factorial(count) <= EXHAUSTIVE:
        dealt = np.array(list(permutations(range(count))))
    else:
        dealt = np.vstack([np.arange(count), rng.permuted(np.tile(np.arange(count), (orders, 1)), axis=1)])
    scores = np.tile(rows.scores, (len(dealt), 1))
    scores[:, rows.targets] = rows.scores[rows.targets][dealt]
    size = np.round(np.abs(_spearman(average_ranks(rows.numbers(scores)), average_ranks(rows.tasr[None]))), 9)
    size = np.nan_to_num(size)  # a gap that is constant under one order
    return float((size >= size[0]).mean()), float((size >= size.max()).mean())


def pigeonhole(
    rows: Rows, predictors: Sequence[np.ndarray], rng: np.random.Generator, draws: int = 2000, *, by_source: bool = True,
    confidence: float = 0.95,
) -> Interval:  # fmt: skip
    """ρ of one predictor [n] with its interval, or |ρ| of the first less |ρ| of the second.

    Sources and targets are resampled independently, each with all its rows (Owen 2007, the pigeonhole bootstrap; targets only
    if not `by_source`); percentiles. NaN ends with fewer than FEWEST_LABELS sources or targets, or where half or more of the
    resamples have a constant variable. TASR's own error, from few behaviours, is not resampled.
    """
    single = [spearman(x, rows.tasr) if len(x) > 2 else math.nan for x in predictors]
    value = single[0] if len(single) == 1 else abs(single[0]) - abs(single[1])
    sides = (rows.source, rows.target) if by_source else (rows.target,)
    n = len(rows.tasr)
    if not math.isfinite(value) or any(len(np.unique(side)) < FEWEST_LABELS for side in sides):
        return Interval(value, math.nan, math.nan, n)
    weight = np.ones((draws, n))
    for side in sides:
        found, place = np.unique(side, return_inverse=True)
        weight *= rng.multinomial(len(found), np.full(len(found), 1 / len(found)), size=draws)[:, place]
    rho = [weighted_spearman(x, rows.tasr, weight) for x in predictors]
    drawn = rho[0] if len(rho) == 1 else np.abs(rho[0]) - np.abs(rho[1])
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) <= draws / 2:
        return Interval(value, math.nan, math.nan, n)
    lo, hi = np.quantile(drawn, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(value, float(lo), float(hi), n)


def weighted_spearman(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """ρ [B] of pairs [n] that occur `weight` [B, n] times, with average ranks for ties; NaN where a variable is constant."""
    return _spearman(_weighted_ranks(x, weight), _weighted_ranks(y, weight), weight)


def _weighted_ranks(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    _, group = np.unique(values, return_inverse=True)
    size = weight @ (group[:, None] == np.arange(group.max() + 1))
    return (np.cumsum(size, axis=1) - size / 2)[:, group]


def _spearman(a: np.ndarray, b: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Correlation of ranks per row of [B, n] (b may be one row)."""
    w = np.ones_like(a) if weight is None else weight
    total = np.maximum(w.sum(1, keepdims=True), 1e-300)
    a, b = (v - (w * v).sum(1, keepdims=True) / total for v in (a, np.broadcast_to(b, a.shape)))
    scale = np.sqrt((w * a * a).sum(1) * (w * b * b).sum(1))
    return np.divide((w * a * b).sum(1), scale, out=np.full(len(a), np.nan), where=scale > 1e-9)
