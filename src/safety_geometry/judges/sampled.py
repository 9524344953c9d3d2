"""Attack success of several sampled answers to a request, where the greedy one is a single draw of its own."""

import pandas as pd

from safety_geometry.judges.behaviour import success_means
from safety_geometry.stats.estimates import percentiles, resampling_weights, wilson
from safety_geometry.stats.seeds import generator


def sampled_success(sampled: pd.DataFrame, greedy: pd.DataFrame, seed: int = 0, draws: int = 2000) -> dict:
    """A row of the table `sampled` without its checkpoint and temperature, from judged answers; the unit is the
    request.

    sampled: several answers to each request, told apart by `arm`; greedy: one answer to each of the same requests.

    Raises:
        ValueError: the requests differ, one has more or fewer samples than another, or success means two things.
    """
    counts = sampled.groupby("prompt_id").size()
    if counts.min() != counts.max() or sampled.duplicated(["prompt_id", "arm"]).any():
        raise ValueError("requests have different numbers of sampled answers; answer them again")
    if sorted(counts.index) != sorted(greedy["prompt_id"]):
        raise ValueError("sampled and greedy answers are to different requests; answer them again")
    if (means := success_means(sampled)) != success_means(greedy):
        raise ValueError("success of sampled and of greedy answers means different things; judge them again")
    shares = sampled.groupby("prompt_id")["attack_success"].mean().to_numpy(float)
    lo, hi = percentiles(resampling_weights(len(shares), draws, generator(seed, "sampled")) @ shares)
    row = {"samples": int(counts.iloc[0]), "n": len(shares), "asr": float(shares.mean()), "asr_lo": lo, "asr_hi": hi}
    for name, successes in (("any_asr", (shares > 0).sum()), ("greedy_asr", greedy["attack_success"].sum())):
        rate = wilson(int(successes), len(shares))
        row |= {name: rate.value, f"{name}_lo": rate.lo, f"{name}_hi": rate.hi}
    return row | {"success_means": means}
