"""Dense diagnostics: how coupling goes with behaviour over all saves of a regime, and when it falls.

Two series that both trend always correlate, whatever moves them. So each Spearman's ρ over the saves (arXiv 2606.16349,
Table 3) stands beside that of the first differences, where a trend is a constant and drops out. With fewer than
`FEWEST_SAVES` saves there is ρ and n only. A series jumps where an anchor chooses another site, so each coupling term
stands twice: at the sites that the anchors chose (`selected`), and at the reference anchor's throughout (`frozen`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from safety_geometry.artefacts.tables.dense import COUPLING_TRANSITION, DENSE_CORRELATIONS
from safety_geometry.artefacts.tables.families import SITE_H, SITE_R, TERMS
from safety_geometry.artefacts.tables.specification import names
from safety_geometry.stats.estimates import spearman, spearman_block_bootstrap, spearman_tie_ceiling
from safety_geometry.stats.seeds import generator

FEWEST_SAVES = 20
PREDICTORS = TERMS
OUTCOMES = ("fixed_asr", "direct_asr", "any_refusal", "benign_refusal", "benign_mean", "usefulness")
FORMS = ("levels", "first_differences")
READ = {"selected": "", "frozen": "_frozen"}  # sites: what the trajectory's columns of coupling terms end in
SITES = names((*SITE_H, *SITE_R))
FEWEST_SIDE = 3  # saves on either side of a change


@dataclass(frozen=True)
class Change:
    """A change in mean: `index` is the first value after it, and it lies after value `before` and by value `by`."""

    index: int
    before: int
    by: int
    drop: float  # mean before - mean after
    ratio: float  # mean before / mean after; NaN unless both are positive
    r2_step: float  # share of the variance that the step explains
    r2_line: float  # share that a straight line explains
    p: float
    p_smallest: float
    block_length: int


def dense_correlations(
    trajectory: pd.DataFrame, block_lengths: Sequence[int] = (5, 10, 20), draws: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Spearman's ρ of each coupling term with each behaviour over the saves that have both, long
    (`DENSE_CORRELATIONS`).

    Of each coupling term there are rows at `selected` and at `frozen` sites (`READ`). One row per block length of the
    moving-block bootstrap (Künsch 1989; 95 %, percentile); blocks longer than half a series leave too few different
    resamples, and their interval is NaN. Pairs with fewer than three common saves have no row. First differences are of
    consecutive common saves; n counts the pairs that ρ is made of. `seed` is the bootstrap's.

    Raises ValueError for a block length below 1 or none at all.
    """
    lengths = sorted(set(block_lengths))
    if not lengths or lengths[0] < 1:
        raise ValueError(f"block lengths {list(block_lengths)}: at least one is needed, and each from 1 on")
    rows = []
    for (run, regime), saves in _series(trajectory):
        for predictor, (sites, ending), outcome in product(PREDICTORS, READ.items(), OUTCOMES):
            column = predictor + ending
            if outcome not in saves or column not in saves:
                continue
            both = saves[[column, outcome]].dropna().to_numpy(np.float64)
            if len(both) < 3:
                continue
            for form in FORMS:
                # Equal differences that differ in their last bits are ties.
                pairs = both if form == "levels" else np.round(np.diff(both, axis=0), 12)
                words = {
                    "seed": run,
                    "regime": regime,
                    "predictor": predictor,
                    "sites": sites,
                    "outcome": outcome,
                    "form": form,
                }
                shared = {"n": len(pairs), "rho": spearman(*pairs.T), "rho_tie_ceiling": spearman_tie_ceiling(*pairs.T)}
                if len(both) < FEWEST_SAVES:
                    rows.append(words | shared)
                    continue
                for length in lengths:
                    lo, hi = math.nan, math.nan
                    if 2 * length <= len(pairs) and math.isfinite(shared["rho"]):
                        rng = generator(seed, column, outcome, form, length)
                        interval = spearman_block_bootstrap(*pairs.T, length, rng, draws)
                        lo, hi = interval.lo, interval.hi
                    rows.append(words | shared | {"block_length": length, "lo": lo, "hi": hi})
    table = pd.DataFrame(rows, columns=DENSE_CORRELATIONS.names)
    return table.astype({"block_length": "Int64", "n": "Int64", "lo": float, "hi": float})


def transition(
    trajectory: pd.DataFrame,
    quantity: str,
    seed: int = 0,
    draws: int = 2000,
    block_length: int | None = None,
    sites: str = "selected",
) -> pd.DataFrame:
    """When a quantity changes level, for each seed and regime: one change point in mean (`COUPLING_TRANSITION`).

    `step` is the first save at the later level; the change lies after `lo` and no later than `hi` (95 %). The whole is
    empty but for n where fewer than `FEWEST_SAVES` saves have the quantity. `site_moved`: a carrier was read at another
    layer or position than at the save before, so that the change may be the site's and not the model's; never at
    `frozen` sites. Raises ValueError where the trajectory lacks the column.
    """
    column = quantity + READ[sites]
    if column not in trajectory:
        raise ValueError(f"the trajectory has no column {column}")
    rows = []
    for (run, regime), frame in _series(trajectory):
        saves = frame.dropna(subset=[column]).reset_index(drop=True)
        row = {"seed": run, "regime": regime, "quantity": quantity, "sites": sites, "n": len(saves)}
        if len(saves) >= FEWEST_SAVES:
            change = change_point(
                saves[column].to_numpy(np.float64), generator(seed, column, "change"), draws, block_length
            )
            row |= {k: v for k, v in vars(change).items() if k in COUPLING_TRANSITION.names}
            row |= {
                "step": saves["step"][change.index],
                "lo": saves["step"][change.before],
                "hi": saves["step"][change.by],
            }
            where = saves[[name for name in SITES if name in saves]].astype(str)
            moved = bool((where.iloc[change.index] != where.iloc[change.index - 1]).any())
            row["site_moved"] = moved and sites == "selected"
        rows.append(row)
    table = pd.DataFrame(rows, columns=COUPLING_TRANSITION.names)
    whole = dict.fromkeys(("step", "lo", "hi", "block_length", "n"), "Int64")
    numbers = dict.fromkeys(("drop", "ratio", "r2_step", "r2_line", "p", "p_smallest"), float)
    return table.astype(whole | numbers | {"site_moved": "boolean"})


def coupling_transition(trajectory: pd.DataFrame, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """`transition` of every coupling term, at selected and at frozen sites, below each other."""
    parts = [transition(trajectory, name, seed, draws, sites=sites) for name in PREDICTORS for sites in READ]
    return pd.concat(parts, ignore_index=True)


def change_point(
    values: np.ndarray, rng: np.random.Generator, draws: int = 2000, block_length: int | None = None
) -> Change:
    """One change in the mean of a series [n] by least squares, at least `FEWEST_SIDE` values on either side.

    Interval: moving-block bootstrap of the residuals about the fitted step, each resample fitted anew, percentiles
    (Hušková and Kirch 2008). Not a parametric bootstrap: residuals of neighbouring saves are dependent and need not be
    normal. p against no change: the series is cut into blocks, whose order is permuted (Kirch 2007); `p_smallest` is
    the p of the strongest step among these orders. Blocks have ceil(n^(1/3)) values unless told otherwise. A trend is a
    change too: compare r2_step with r2_line. Simulated at n = 20, 40 and 100: independent noise is rejected in 3 to 6
    %, noise of lag-1 autocorrelation .5 in 11 to 13 % and of .8 in 26 to 30 %; intervals of a step of two sd hold it in
    93 to 96 %, 87 to 91 % and 79 to 86 %.

    Raises ValueError for fewer than 2 · FEWEST_SIDE values, missing values, or a block length that does not fit.
    """
    n = len(values)
    length = math.ceil(n ** (1 / 3)) if block_length is None else block_length
    if n < 2 * FEWEST_SIDE or not np.isfinite(values).all():
        raise ValueError(f"a change point needs at least {2 * FEWEST_SIDE} values, none of them missing")
    if not 1 <= length <= n // 2:
        raise ValueError(f"block length {length} does not fit a series of {n}")
    (index,), (gain,) = best_split(values[None])
    before, after = values[:index].mean(), values[index:].mean()
    fit = np.where(np.arange(n) < index, before, after)
    total = ((values - values.mean()) ** 2).sum()
    residuals = (values - fit) * math.sqrt(n / (n - 2))  # two fitted means make them too small
    starts = rng.integers(0, n - length + 1, size=(draws, math.ceil(n / length)))
    drawn = (starts[:, :, None] + np.arange(length)).reshape(draws, -1)[:, :n]
    again, _ = best_split(fit + residuals[drawn])
    low, high = np.quantile(again, [0.025, 0.975], method="inverted_cdf")
    _, null = best_split(values[_block_orders(n, length, rng, draws)])
    null, gain = np.round(null / max(total, 1e-300), 12), round(gain / max(total, 1e-300), 12)
    strongest = max(gain, null.max())
    return Change(
        index=int(index),
        before=int(min(low, index)) - 1,
        by=int(max(high, index)),
        drop=float(before - after),
        ratio=float(before / after) if before > 0 and after > 0 else math.nan,
        r2_step=float(gain) if total > 0 else math.nan,
        r2_line=float(np.corrcoef(np.arange(n), values)[0, 1] ** 2) if total > 0 else math.nan,
        p=(1 + int((null >= gain).sum())) / (1 + draws),
        p_smallest=(int(gain >= strongest) + int((null >= strongest).sum())) / (1 + draws),
        block_length=length,
    )


def best_split(series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each series of [B, n]: first index of the second part, and the sum of squares that two means take off one."""
    n = series.shape[1]
    first = np.arange(FEWEST_SIDE, n - FEWEST_SIDE + 1)
    sums = np.cumsum(series - series.mean(1, keepdims=True), axis=1)[:, first - 1]
    gain = sums**2 * n / (first * (n - first))
    best = gain.argmax(1)
    return first[best], gain[np.arange(len(series)), best]


def _block_orders(n: int, length: int, rng: np.random.Generator, draws: int) -> np.ndarray:
    """Indices [draws, n]: 0 to n − 1 cut into blocks (the last may be shorter), in random order."""
    block = np.arange(n) // length
    rank = rng.random((draws, block[-1] + 1))
    return np.argsort(rank[:, block], axis=1, kind="stable")


def _series(trajectory: pd.DataFrame):
    """(seed, regime) and its saves in order of steps; regimes in order of appearance within a seed."""
    for run, frame in trajectory.groupby("seed", sort=True):
        for regime, saves in frame.groupby("regime", sort=False):
            yield (int(run), regime), saves.sort_values("step", kind="stable").reset_index(drop=True)
