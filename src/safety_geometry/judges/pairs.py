"""How well refusal tells harmful requests from safe prompts that look like them: d′ over matched pairs."""

import math

import numpy as np
import pandas as pd
from scipy.special import ndtri

from safety_geometry.stats.estimates import (
    Interval,
    least_mcnemar_p,
    percentiles,
    permutation_p,
    resampling_weights,
)
from safety_geometry.stats.seeds import generator

DPRIME = "refusal_dprime"
COLUMNS_OF_PAIRS = ("prompt_id", "pair", "any_refusal", "hit_limit")
MATCHED = ("lookalike", "counterpart")  # suites of safe prompts and of their harmful matches


def matched_pairs(judged: pd.DataFrame) -> pd.DataFrame:
    """Look-alikes and their harmful counterparts that were both answered, a row each: `pair` (id of the look-alike),
    `safe` and `harmful` (1: refused partly or fully), `hit_limit` (of either)."""
    if "pair" not in judged:
        return pd.DataFrame()
    safe, harmful = (judged.loc[judged["suite"] == suite, [*COLUMNS_OF_PAIRS]] for suite in MATCHED)
    both = harmful.merge(safe, left_on="pair", right_on="prompt_id", suffixes=("_harmful", "_safe"))
    refused = {kind: both[f"any_refusal_{kind}"].astype(float) for kind in ("harmful", "safe")}
    limits = both["hit_limit_harmful"].astype(bool) | both["hit_limit_safe"].astype(bool)
    return pd.DataFrame({"pair": both["prompt_id_safe"]} | refused | {"hit_limit": limits})


def dprime(harmful: np.ndarray, safe: np.ndarray, n: int) -> np.ndarray:
    """z(refusal of harmful prompts) − z(refusal of their safe matches) of rates [B] over n pairs, each rate as
    (k + ½)/(n + 1) (log-linear correction, Hautus 1995), so that rates of 0 and 1 have a z."""
    hits, alarms = (ndtri((n * rate + 0.5) / (n + 1)) for rate in (harmful, safe))
    return hits - alarms


def refusal_dprime(harmful: np.ndarray, safe: np.ndarray, seed: int = 0, draws: int = 2000) -> Interval:
    """d′ of refusals 0 or 1 [n] in matched order with a percentile bootstrap over pairs; without a pair NaN."""
    n = len(harmful)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    weights = _weights(n, seed, draws)
    values = dprime(weights @ harmful, weights @ safe, n)
    return Interval(float(values[0]), *percentiles(values[1:]), n)


def pair_contrast(
    first: pd.DataFrame, second: pd.DataFrame, seed: int = 0, draws: int = 2000, flips: int = 9999
) -> pd.DataFrame:
    """d′ of the first checkpoint less that of the second on the pairs that both answered, a row as of
    `behaviour.contrast`, or none. Both are frames of `matched_pairs`.

    The bootstrap resamples pairs for both; p exchanges the two checkpoints within pairs; changed: pairs of which either
    prompt has another outcome.
    """
    if not (len(first) and len(second)):
        return pd.DataFrame()
    both = first.merge(second, on="pair", suffixes=("_a", "_b"), validate="one_to_one").sort_values("pair")
    if not (n := len(both)):
        return pd.DataFrame()
    outcomes = {name: both[name].to_numpy(float) for name in ("harmful_a", "safe_a", "harmful_b", "safe_b")}
    weights = _weights(n, seed, draws)
    drawn = {name: weights @ values for name, values in outcomes.items()}
    values = dprime(drawn["harmful_a"], drawn["safe_a"], n) - dprime(drawn["harmful_b"], drawn["safe_b"], n)
    shifts = [outcomes[f"{kind}_b"] - outcomes[f"{kind}_a"] for kind in ("harmful", "safe")]
    changed = int(np.any(shifts, axis=0).sum())
    value, p, smallest = float(values[0]), 1.0, 1.0
    if changed:
        swapped = generator(seed, DPRIME, "flips").integers(0, 2, size=(flips, n)) / n
        rates = {kind: swapped @ shift for kind, shift in zip(("harmful", "safe"), shifts, strict=True)}
        one, other = (
            dprime(*(outcomes[f"{kind}_{side}"].mean() + sign * rates[kind] for kind in ("harmful", "safe")), n)
            for side, sign in (("a", 1), ("b", -1))
        )
        test = permutation_p(round(value, 12), np.round(one - other, 12), "two-sided")
        p, smallest = test.p, max(test.smallest, least_mcnemar_p(changed))
    lo, hi = percentiles(values[1:])
    row = {"metric": DPRIME, "value": value, "lo": lo, "hi": hi, "n": n, "changed": changed}
    return pd.DataFrame([row | {"test": "sign_flip", "p": p, "p_smallest": smallest}])


def _weights(n: int, seed: int, draws: int) -> np.ndarray:
    """[1 + draws, n]: all pairs alike, and resamples of them."""
    return np.vstack([np.full(n, 1 / n), resampling_weights(n, draws, generator(seed, DPRIME))])
