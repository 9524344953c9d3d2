"""A table of claims as forest plots: areas, scales within an area, and where on its scale each number stands."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from safety_geometry.claims.catalogue import SWEPT, claims_for
from safety_geometry.claims.compare import axis_of
from safety_geometry.claims.compare_report import interval_words
from safety_geometry.claims.rules import NOT_APPLICABLE, VERDICTS

AREAS = {  # by the module that measures
    "behaviour": "Behaviour", "coupling": "Coupling of H and R", "geometry": "Carriers", "causal": "Interventions",
    "inversion": "Interventions", "follow_up": "Follow-up of interventions", "transfer": "Transfer of attacks",
}  # fmt: skip
OTHER = "Other claims"
TICKS = 4  # about so many


@dataclass(frozen=True)
class Row:
    """A claim. places: per cent of the scale, by name (estimate, lo, hi, threshold, margin_lo, margin_hi, zero); what
    does not exist has none."""

    record: Mapping
    words: str
    places: dict[str, float]


@dataclass(frozen=True)
class Scale:
    """Claims whose estimates have one unit; ticks: per cent of the scale, and its number."""

    unit: str
    rows: list[Row]
    ticks: list[tuple[float, str]]


def forests(claims: pd.DataFrame) -> dict[str, list[Scale]]:
    """Area -> its scales, of the claims that apply, in the order of the table `claims`."""
    module = {c.quantity: c.measure.__module__.rpartition(".")[2] for c in claims_for(SWEPT)}
    grouped: dict[str, dict[str, list[dict]]] = {area: {} for area in (*AREAS.values(), OTHER)}
    frame = claims[claims["verdict"] != NOT_APPLICABLE]
    for record in frame.astype(object).where(frame.notna(), None).to_dict("records"):
        area = AREAS.get(module.get(record["quantity"], ""), OTHER)
        grouped[area].setdefault(axis_of(record["unit"]), []).append(record)
    return {area: [scale(unit, records) for unit, records in units.items()] for area, units in grouped.items() if units}


def scale(unit: str, records: list[dict]) -> Scale:
    every = [numbers(record) for record in records]
    ends = [value for values in every for value in values.values()]
    left, right = min(ends), max(ends)
    room = 0.04 * (right - left) or 0.5
    left, right = left - room, right + room

    def place(value: float) -> float:
        return round(100 * (value - left) / (right - left), 2)

    rows = [
        Row(record, interval_words(record), {name: place(value) for name, value in values.items()})
        for record, values in zip(records, every, strict=True)
    ]
    return Scale(unit, rows, [(place(value), f"{value:g}") for value in round_numbers(left, right)])


def numbers(record: Mapping) -> dict[str, float]:
    """What of a claim is drawn, by name; zero always."""
    found = {"zero": 0.0} | {name: record[name] for name in ("estimate", "lo", "hi", "threshold")}
    if record["margin"] and record["rule"] != "level":
        found |= {"margin_lo": -record["margin"], "margin_hi": record["margin"]}
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


def round_numbers(left: float, right: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between two numbers."""
    rough = (right - left) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= rough)
    return [round(i * step, 12) for i in range(math.ceil(left / step), math.floor(right / step) + 1)]


def why_not(claims: pd.DataFrame) -> dict[str, list[str]]:
    """Reason -> the claims that do not apply for it, the most frequent first."""
    rows = claims[claims["verdict"] == NOT_APPLICABLE]
    reasons = {str(reason): list(group["claim"]) for reason, group in rows.groupby("reason", sort=False)}
    return dict(sorted(reasons.items(), key=lambda item: -len(item[1])))


def tally(verdicts: Iterable[str]) -> dict[str, int]:
    """How many there are of each verdict, in the order of `rules.VERDICTS`."""
    found = list(verdicts)
    return {verdict: found.count(verdict) for verdict in VERDICTS if verdict in found}
