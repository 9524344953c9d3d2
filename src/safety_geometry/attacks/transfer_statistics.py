"""Rank correlation over pairs of checkpoints: rows share sources and targets, and a few seeds are put together.

ρ over several seeds is the mean of the seeds' own, so that checkpoints are compared within their seed and differences
between seeds add nothing. p deals the values anew to the targets within every seed, all seeds jointly: three seeds of
four untied targets have 24³ dealings, and the least p falls from 2/24 to 2/24³.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import permutations

import numpy as np

from safety_geometry.stats.estimates import Interval, average_ranks, spearman, spearman_tie_ceiling

EXHAUSTIVE = 5040  # orders of seven targets
JOINT = 2_000_000  # joint dealings of all seeds that are taken in full: three seeds of five targets
FEWEST_LABELS = 5  # sources and targets that an interval takes


@dataclass(frozen=True)
class Rows:
    """Rows of one analysis: TASR [n], and of each row the indices of its seed, source and target.

    Sources and targets count L labels (a regime's step), which are other checkpoints in each of G seeds: `scores` [G,
    L]. A row's number is its target's score, less its source's if `gap`.
    """

    tasr: np.ndarray
    seed: np.ndarray
    source: np.ndarray
    target: np.ndarray
    scores: np.ndarray
    gap: bool

    def numbers(self, scores: np.ndarray | None = None) -> np.ndarray:
        """Predictor of the rows [..., n] from scores [..., G, L] (default: their own)."""
        scores = self.scores if scores is None else scores
        if not self.gap:
            return scores[..., self.seed, self.target]
        gap = scores[..., self.seed, self.target] - scores[..., self.seed, self.source]
        return np.round(gap, 12)  # equal gaps that differ in their last bits are ties

    def of_seeds(self) -> list["Rows"]:
        """The rows of each seed alone, of those in which ρ is defined."""
        parts = []
        for g in range(len(self.scores)):
            in_seed = self.seed == g
            one = Rows(
                self.tasr[in_seed],
                np.zeros(in_seed.sum(), int),
                self.source[in_seed],
                self.target[in_seed],
                self.scores[[g]],
                self.gap,
            )
            if len(one.tasr) > 2 and math.isfinite(spearman(one.numbers(), one.tasr)):
                parts.append(one)
        return parts

    def count(self, labels: np.ndarray) -> int:
        """How many checkpoints these labels [n] of the rows are: one in two seeds is two."""
        return len(set(zip(self.seed.tolist(), labels.tolist(), strict=True)))


def mean_spearman(rows: Rows) -> float:
    """Mean over the seeds of ρ within the seed; NaN where it is defined in none."""
    return _mean([spearman(one.numbers(), one.tasr) for one in rows.of_seeds()])


def tie_ceiling(rows: Rows) -> float:
    """Greatest absolute ρ that the ties permit, mean over the seeds."""
    return _mean([spearman_tie_ceiling(one.numbers(), one.tasr) for one in rows.of_seeds()])


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def relabelled_p(rows: Rows, rng: np.random.Generator, orders: int = 5000) -> tuple[float, float]:
    """Two-sided p of ρ when the checkpoints' values are dealt anew to the targets, and the least p that any dealing
    could give.

    A target keeps its rows together: they are no independent draws. A source that is also a target takes its new value
    along, so that a gap stays one between two checkpoints. With several seeds values are dealt within each, and |Σ ρ|
    over the seeds is compared. All orders are taken up to EXHAUSTIVE in a seed and JOINT over the seeds, else `orders`
    random ones beside the observed. NaN where ρ is.
    """
    dealt = [_dealt(one, rng, orders) for one in rows.of_seeds()]
    if not dealt:
        return math.nan, math.nan
    if math.prod(map(len, dealt)) <= JOINT:
        total = reduce(lambda a, b: np.add.outer(a, b).ravel(), dealt)
    else:
        total = sum(np.concatenate([rho[:1], rng.choice(rho, orders)]) for rho in dealt)
    size = np.round(np.abs(total), 9)
    return float((size >= size[0]).mean()), float((size >= size.max()).mean())


def _dealt(rows: Rows, rng: np.random.Generator, orders: int) -> np.ndarray:
    """ρ of one seed under every order of its targets' values (or random ones), the observed first; 0 where a gap is
    constant."""
    targets = np.unique(rows.target)
    count = len(targets)
    if math.factorial(count) <= EXHAUSTIVE:
        order = np.array(list(permutations(range(count))))
    else:
        order = np.vstack([np.arange(count), rng.permuted(np.tile(np.arange(count), (orders, 1)), axis=1)])
    scores = np.tile(rows.scores[0], (len(order), 1))
    scores[:, targets] = rows.scores[0, targets][order]
    ranks = average_ranks(rows.numbers(scores[:, None]))
    return np.nan_to_num(np.round(_spearman(ranks, average_ranks(rows.tasr[None])), 12))


def pigeonhole(
    predictors: Sequence[Rows],
    rng: np.random.Generator,
    draws: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Mean ρ over the seeds with its interval, or |ρ| of the first predictor less |ρ| of the second over the same rows.

    Sources and targets are resampled independently, each with all its rows (Owen 2007, the pigeonhole bootstrap); a
    step that is drawn is drawn in every seed, since its checkpoints are alike; and with several seeds the seeds are
    resampled as well. Percentiles. NaN ends with fewer than FEWEST_LABELS source or target checkpoints, or where half
    or more of the resamples have a constant variable. TASR's own error, from few behaviours, is not resampled.
    """
    first = predictors[0]
    single = [mean_spearman(rows) for rows in predictors]
    value = single[0] if len(single) == 1 else abs(single[0]) - abs(single[1])
    n, sides = len(first.tasr), (first.source, first.target)
    if not math.isfinite(value) or any(first.count(side) < FEWEST_LABELS for side in sides):
        return Interval(value, math.nan, math.nan, n)
    weight = np.ones((draws, n))
    for side in sides:
        labels, place = np.unique(side, return_inverse=True)
        weight *= rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), size=draws)[:, place]
    seeds = np.unique(first.seed)
    times = (
        rng.multinomial(len(seeds), np.full(len(seeds), 1 / len(seeds)), size=draws)
        if len(seeds) > 1
        else np.ones((draws, 1))
    )
    rho = [_mean_of_draws(rows, seeds, weight, times) for rows in predictors]
    drawn = rho[0] if len(rho) == 1 else np.abs(rho[0]) - np.abs(rho[1])
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) <= draws / 2:
        return Interval(value, math.nan, math.nan, n)
    lo, hi = np.quantile(drawn, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(value, float(lo), float(hi), n)


def _mean_of_draws(rows: Rows, seeds: np.ndarray, weight: np.ndarray, times: np.ndarray) -> np.ndarray:
    """ρ [B] of each resample: the mean over its seeds, each as often as it was drawn; NaN where it is defined in none
    of them."""
    numbers = rows.numbers()
    within = np.stack(
        [weighted_spearman(numbers[m], rows.tasr[m], weight[:, m]) for m in (rows.seed == g for g in seeds)], axis=1
    )
    times = times * np.isfinite(within)
    total = times.sum(1)
    return np.divide((times * np.nan_to_num(within)).sum(1), total, out=np.full(len(total), np.nan), where=total > 0)


def weighted_spearman(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """ρ [B] of pairs [n] that occur `weight` [B, n] times, with average ranks for ties; NaN where a variable is
    constant."""
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
