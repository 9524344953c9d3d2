"""Two studies side by side, claim by claim: verdicts, estimates, and whether the estimates lie apart."""

import math
from collections.abc import Mapping

import pandas as pd

from safety_geometry.artefacts.tables.comparison import COMPARISON, SIDES
from safety_geometry.claims.rules import NOT_APPLICABLE
from safety_geometry.stats.pooling import Estimate, combined

SAME = ("rule", "quantity", "unit", "success_means")  # what makes two estimates comparable
EARLIER = {"value": "estimate"}  # names in tables whose claims were decided by earlier rules


def compared(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Rows of `COMPARISON`, in A's order and then B's, from two tables of claims; those of earlier rules have `value`
    for `estimate`, no quantity and no verdict over seeds, and are compared with their like only."""
    sides = [frame.rename(columns=EARLIER).set_index("id") for frame in (a, b)]
    by_rules = [set(SAME) <= set(side) for side in sides]
    ids = dict.fromkeys([*sides[0].index, *sides[1].index])
    records = [side.astype(object).where(side.notna(), None).to_dict("index") for side in sides]
    rows = [row(name, *(record.get(name, {}) for record in records), by_rules[0] == by_rules[1]) for name in ids]
    return pd.DataFrame(rows, columns=COMPARISON.names)


def row(name: str, a: Mapping, b: Mapping, same_rules: bool) -> dict:
    said = a or b
    out = {"id": name, "claim": said["claim"], "unit": said.get("unit"), "verdicts": verdicts(a, b)}
    for column in COMPARISON.names:
        stem, _, side = column.rpartition("_")
        if side in SIDES:
            out[column] = (a if side == "a" else b).get(stem)
    out["comparable"] = bool(a and b) and same_rules and all(a.get(key) == b.get(key) for key in SAME)
    out["apart"] = None
    if out["comparable"]:
        estimates = [Estimate(*(number(side.get(key)) for key in ("estimate", "lo", "hi"))) for side in (b, a)]
        gap = combined((1, -1), estimates)
        found = (("difference", gap.value), ("difference_lo", gap.lo), ("difference_hi", gap.hi))
        out |= {key: value for key, value in found if math.isfinite(value)}
        if math.isfinite(gap.lo) and math.isfinite(gap.hi):
            out["apart"] = bool(gap.lo > 0 or gap.hi < 0)
    return out


def verdicts(a: Mapping, b: Mapping) -> str:
    """Whether they are the same, by one of `comparison.VERDICTS`."""
    applies = [bool(side) and side["verdict"] != NOT_APPLICABLE for side in (a, b)]
    if all(applies):
        return "same" if a["verdict"] == b["verdict"] else "differ"
    return "only a" if applies[0] else "only b" if applies[1] else "neither"


def axis_of(unit: str) -> str:
    """What estimates of a unit are drawn against: shares of whatever have one axis."""
    return "share" if unit.startswith("share of ") else unit


def number(value: object) -> float:
    return math.nan if value is None else float(value)
