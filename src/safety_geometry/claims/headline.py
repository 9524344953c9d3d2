"""What a run has to share with its reference: the verdicts, and the headline values within the reference's intervals.

Headline values are the claims' estimates and the behaviour rates of five_anchor. All other cells may differ: on another
processor one greedy token differs, and with it bytes of many tables.
"""

import math
from collections.abc import Iterator

import pandas as pd

from safety_geometry.artefacts.tables.behaviour import WIDE_METRICS

HEADLINE = ("claims", "five_anchor")
VERDICTS = ("verdict", "verdict_over_seeds")
SLACK = 1e-6
EARLIER = "the reference's claims were decided by earlier rules: not compared (make the reference anew)"


def claims_differ(new: pd.DataFrame, reference: pd.DataFrame) -> list[str]:
    """Claims whose verdict differs or whose estimate lies outside the reference's interval, in words. Both have the
    columns of `CLAIMS`."""
    return [*verdicts_differ(new, reference), *estimates_differ(new, reference)]


def verdicts_differ(new: pd.DataFrame, reference: pd.DataFrame) -> Iterator[str]:
    new = new.set_index("id")
    for row in reference.to_dict("records"):
        if row["id"] not in new.index:
            yield f"claim {row['id']}: not in this run"
            continue
        for name in VERDICTS:
            if (now := new.loc[row["id"], name]) != row[name]:
                where = " over seeds" if name != "verdict" else ""
                yield f"claim {row['id']}{where}: {now}, the reference has {row[name]}"


def estimates_differ(new: pd.DataFrame, reference: pd.DataFrame) -> Iterator[str]:
    now = new.set_index("id")["estimate"]
    for row in reference[reference["id"].isin(new["id"]) & reference["estimate"].notna()].to_dict("records"):
        lows, highs = ([row[f"{end}{which}"] for which in ("", "_seeds")] for end in ("lo", "hi"))
        said = beyond(now[row["id"]], row["estimate"], lows, highs)
        if said:
            yield f"claim {row['id']}: {said}"


def rates_differ(new: pd.DataFrame, reference: pd.DataFrame) -> list[str]:
    """Rates of five_anchor that lie outside the reference's interval and outside the range of its seeds, of the seeds
    that both have."""
    key = ["seed", "regime", "step"]
    both = reference.merge(new, on=key, suffixes=("", "_now"))
    out = []
    for metric in (name for name in WIDE_METRICS if name in reference and name in new):
        spread = reference.groupby(["regime", "step"])[metric].agg(["min", "max"])
        for row in both[both[metric].notna()].to_dict("records"):
            least, most = spread.loc[(row["regime"], row["step"])]
            ends = [row[f"{metric}_lo"], least], [row[f"{metric}_hi"], most]
            if said := beyond(row[f"{metric}_now"], row[metric], *ends):
                out.append(f"{metric} of {row['regime']}:{row['step']}, seed {row['seed']}: {said}")
    return out


def beyond(now: float, was: float, lows: list[float], highs: list[float]) -> str:
    """In words how a value lies outside all the reference's intervals; empty where it does not."""
    lo, hi = (pick([x for x in ends if math.isfinite(x)] or [was]) for pick, ends in ((min, lows), (max, highs)))
    lo, hi = min(lo, was), max(hi, was)
    if lo - SLACK <= now <= hi + SLACK:
        return ""
    return f"{now:.4g} lies outside [{lo:.4g}, {hi:.4g}] about the reference's {was:.4g}"
