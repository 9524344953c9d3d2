"""What a study could decide, before it is run: least detectable effect and deciding n of every claim.

The variance of a claim is that of a stored run, where one was made and says it, and else the one that `margins`
assumes.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd
from scipy.special import stdtrit

from safety_geometry.claims.catalogue import CONFIGURATIONS, Claim
from safety_geometry.stats.pooling import POWER, least_detectable, normal, planned_n

COLUMNS = ("id", "quantity", "per", "n", "n_seeds", "sd", "sd_from", "margin", "detectable", "n_decides", "decides",
           "decided_by")  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """A configuration as its claims see it. sizes: units a seed by what a quantity is resampled over (`Quantity.per`);
    0: it has none. regimes: those that are trained, brought or swept."""

    name: str
    seeds: int
    sizes: Mapping[str, float]
    regimes: frozenset[str]


def power_table(claims: Iterable[Claim], plan: Plan, stored: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row per claim: n (units a seed; seeds, where only they vary), sd of one unit, the effect that would be
    detected with a power of .8, the n at which an effect of the margin and none would both be decided, and whether
    this n does.

    stored: a claims table with the variances to assume. Claims that the plan has nothing for have n = 0.
    """
    rows = []
    for claim in claims:
        scale, known = claim.scale, spread(claim, stored)
        n = float(plan.sizes.get(scale.per, 0)) if set(claim.needs) <= plan.regimes else 0.0
        sd, source = (known, "stored") if math.isfinite(known) else (scale.sd, "assumed")
        row = {"id": claim.id, "quantity": claim.quantity, "per": scale.per, "n": n, "n_seeds": plan.seeds}
        row |= {"sd": sd, "sd_from": source if math.isfinite(sd) else "not known", "margin": scale.margin}
        row |= needed(scale.per, sd, n, plan.seeds, scale.margin)
        row["decides"] = n > 0 and (row["detectable"] <= scale.margin if scale.margin else True)
        rows.append(row | {"decided_by": " ".join(claim.decided_by)})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def needed(per: str, sd: float, n: float, seeds: int, margin: float) -> dict[str, float]:
    """Detectable effect and deciding n; NaN where they are not known."""
    out = {"detectable": math.nan, "n_decides": math.nan}
    if not math.isfinite(sd) or n <= 0:
        return out
    if per == "seeds":
        if seeds > 1:
            out["detectable"] = float(stdtrit(seeds - 1, 0.975) + stdtrit(seeds - 1, POWER)) * sd / math.sqrt(seeds)
        return out
    out["detectable"] = least_detectable(sd, n, seeds)
    if margin:
        out["n_decides"] = planned_n(sd, margin, seeds)
    return out


def spread(claim: Claim, stored: pd.DataFrame | None) -> float:
    """sd of one unit in a stored run, from the interval that it gave: half-length / z · √(n S); NaN: it does not
    say."""
    if stored is None or not {"lo_seeds", "n_seeds"} <= set(stored) or claim.id not in set(stored["id"]):
        return math.nan
    row = stored.set_index("id").loc[claim.id]
    half, seeds = (row["hi"] - row["lo"]) / 2, int(row["n_seeds"])
    if claim.scale.per == "seeds":
        return half / float(stdtrit(seeds - 1, 0.975)) * math.sqrt(seeds) if seeds > 1 else math.nan
    sd = half / normal(0.975) * math.sqrt(row["n"] * seeds)
    return sd if sd > 0 else math.nan


def shown(table: pd.DataFrame, plan: Plan) -> list[str]:
    """The table in words, a line a claim, with what decides what at the end."""
    lines = [f"{plan.name}: {plan.seeds} seeds. Effect detected with a power of {POWER:g}, and n a seed that decides:"]
    lines.append(f"{'claim':36} {'n':>5} {'sd':>7} {'':9} {'margin':>7} {'detects':>8} {'n decides':>9}  decides")
    for row in table.to_dict("records"):
        numbers = (word(row["n"], ".0f"), word(row["sd"], ".3g"), row["sd_from"], word(row["margin"], ".3g"))
        numbers += (word(row["detectable"], ".3g"), word(row["n_decides"], ".0f"), "yes" if row["decides"] else "no")
        lines.append("{:36} {:>5} {:>7} {:9} {:>7} {:>8} {:>9}  {}".format(row["id"], *numbers))
    able = table["decides"].sum()
    lines.append(
        f"{able} of {(table['n'] > 0).sum()} claims that apply are decided by this n; {len(table)} claims in all."
    )
    for name in CONFIGURATIONS:
        declared = table["decided_by"].str.split().map(lambda names, name=name: name in names)
        lines.append(f"declared to be decided by {name}: {declared.sum()}")
    return lines


def word(value: float, form: str) -> str:
    return "-" if not math.isfinite(value) or value == 0 else format(value, form)
