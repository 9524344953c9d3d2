"""Intervals, rank correlations and tests that the tables use. Every random draw comes from a generator passed in."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import bdtr, ndtri  # scipy.stats would double the start of every job that makes a table or figure


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval; `n` is the number of units or pairs behind it."""

    value: float
    lo: float
    hi: float
    n: int


@dataclass(frozen=True)
class PairedDifference:
    """Mean of first − second over the same units, percentile interval; McNemar's exact p for binary outcomes, else
    NaN."""

    value: float
    lo: float
    hi: float
    n: int
    p_mcnemar: float


@dataclass(frozen=True)
class PermutationP:
    """p = (1 + #{null ≥ observed}) / (1 + R), and `smallest` = 1 / (1 + R), the least p that R draws can give."""

    p: float
    smallest: float
    n: int


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a rate. n = 0 gives NaN throughout."""
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes out of {n}")
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    z, rate = float(ndtri(0.5 + confidence / 2)), successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return Interval(rate, max(0.0, min(centre - half, rate)), min(1.0, max(centre + half, rate)), n)


def paired_difference(
    first: Sequence[float],
    second: Sequence[float],
    rng: np.random.Generator,
    draws: int = 2000,
    confidence: float = 0.95,
) -> PairedDifference:
    """first − second on the same units [n], bootstrap over units; McNemar's p when every outcome is 0 or 1."""
    a, b = _paired(first, second)
    lo, hi = percentiles(resampling_weights(len(a), draws, rng) @ (a - b), confidence)
    binary = bool(np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all())
    return PairedDifference(float((a - b).mean()), lo, hi, len(a), mcnemar_exact(a, b) if binary else math.nan)


def resampling_weights(n: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """[draws, n]: shares with which n units count when n of them are drawn with replacement; a row sums to 1.

    `weights @ values` are the bootstrap means of values [n] or [n, k].
    """
    return rng.multinomial(n, np.full(n, 1 / n), size=draws) / n


def ordered(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """[n, m] of scores [n] and [m]: 1 where the first is higher, ½ where they are equal; the mean is the AUROC."""
    return (high[:, None] > low[None]) + 0.5 * (high[:, None] == low[None])


def percentiles(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Ends of the percentile interval of bootstrap values."""
    tail = round((1 - confidence) / 2, 12)  # .025 for .95, without the rounding of the subtraction
    lo, hi = np.quantile(values, [tail, 1 - tail])
    return float(lo), float(hi)


def least_mcnemar_p(changed: float) -> float:
    """Least p that `mcnemar_exact` can give with so many discordant pairs (rounded): all of them change the same
    way."""
    return min(1.0, 2.0 * 0.5 ** round(changed))


def mcnemar_exact(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided exact McNemar p of paired binary outcomes: a fair-coin test of the discordant pairs."""
    a, b = _paired(first, second)
    only_a, only_b = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    return float(min(1.0, 2 * bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's ρ with average ranks for ties; NaN when a variable is constant or has fewer than 3 values."""
    a, b = _paired(x, y)
    return float(_spearman_rows(a[None], b[None])[0]) if len(a) > 2 else math.nan


def spearman_block_bootstrap(
    x: Sequence[float], y: Sequence[float], block_length: int, rng: np.random.Generator,
    draws: int = 2000, confidence: float = 0.95,
) -> Interval:  # fmt: skip
    """ρ with a moving-block bootstrap interval for two series in time order.

    Blocks of consecutive pairs start anywhere and are joined and cut to n (Künsch 1989). Resamples in which a variable
    is constant are left out; if half or more are, the interval is NaN.
    """
    a, b = _paired(x, y)
    n = len(a)
    if not 1 <= block_length <= n:
        raise ValueError(f"block length {block_length} does not fit a series of {n}")
    starts = rng.integers(0, n - block_length + 1, size=(draws, math.ceil(n / block_length)))
    index = (starts[:, :, None] + np.arange(block_length)).reshape(draws, -1)[:, :n]
    rho = _spearman_rows(a[index], b[index])
    rho = rho[np.isfinite(rho)]
    lo, hi = percentiles(rho, confidence) if len(rho) > draws / 2 else (math.nan, math.nan)
    return Interval(spearman(a, b), lo, hi, n)


def spearman_range(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Least and greatest ρ that any pairing of these values can reach: ties in x and y keep it inside (−1, 1).

    By the rearrangement inequality: both sorted the opposite way, and both sorted the same way.
    """
    a, b = (np.sort(v) for v in _paired(x, y))
    return spearman(a, b[::-1]), spearman(a, b)


def spearman_tie_ceiling(x: Sequence[float], y: Sequence[float]) -> float:
    """Greatest |ρ| that the ties of x and y permit; print it beside a ρ from few, tied rows."""
    return max(abs(bound) for bound in spearman_range(x, y))


def permutation_p(observed: float, null: Sequence[float], alternative: str = "greater") -> PermutationP:
    """p of `observed` against R null draws; alternative: greater, less or two-sided (on absolute values)."""
    draws = np.asarray(null, np.float64)
    if not (np.isfinite(draws).all() and np.isfinite(observed)) or draws.size == 0:
        raise ValueError("permutation p needs a finite observation and at least one finite null draw")
    folded = {"greater": (observed, draws), "less": (-observed, -draws), "two-sided": (abs(observed), abs(draws))}
    if alternative not in folded:
        raise ValueError(f"unknown alternative {alternative!r}; choose greater, less or two-sided")
    value, draws = folded[alternative]
    return PermutationP((1 + int((draws >= value).sum())) / (1 + draws.size), 1 / (1 + draws.size), draws.size)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p, in the given order. A NaN (a test that was not made) stays NaN and is not counted."""
    p = np.asarray(p_values, np.float64)
    adjusted = np.full(p.shape, np.nan)
    tested = np.flatnonzero(np.isfinite(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * (len(order) - np.arange(len(order)))), 1.0)
    return adjusted


def sign_flip_exact(differences: Sequence[int]) -> tuple[float, float]:
    """Two-sided p of a sum of whole differences [n] when every sign is as likely as the other, and the least p that
    their sizes allow.

    All 2ⁿ sums are counted, one difference after the other. With differences of −1, 0 and 1 it is McNemar's exact test.
    Raises ValueError for differences that are not whole numbers.
    """
    d = np.asarray(differences, np.float64)
    if d.ndim != 1 or not np.isfinite(d).all() or (d != np.round(d)).any():
        raise ValueError("sign_flip_exact takes whole differences")
    sizes = np.abs(d[d != 0]).astype(int)
    reach = int(sizes.sum())
    chance = np.zeros(2 * reach + 1)  # of every sum from −reach to reach
    chance[reach] = 1.0
    for size in sizes:
        chance = (np.roll(chance, size) + np.roll(chance, -size)) / 2  # nothing reaches round the ends
    far = np.abs(np.arange(-reach, reach + 1)) >= abs(int(d.sum()))
    return float(min(1.0, chance[far].sum())), least_mcnemar_p(len(sizes))


def average_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1 within each row of [B, n]; equal values share the mean of theirs."""
    return pd.DataFrame(values).rank(axis=1).to_numpy()


def _spearman_rows(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """ρ per row of [B, n]; NaN where a row is constant."""
    a, b = (average_ranks(v) - (v.shape[1] + 1) / 2 for v in (x, y))
    scale = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return np.divide((a * b).sum(1), scale, out=np.full(len(a), np.nan), where=scale > 0)


def _paired(first: Sequence[float], second: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise ValueError(f"two series of one length are needed, got shapes {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("missing or infinite values: drop them pairwise before")
    return a, b
