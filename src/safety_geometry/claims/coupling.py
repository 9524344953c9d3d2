"""Claims about coupling: how it moves at frozen sites and common layers, and what stands beside it (arXiv 2606.16349,
Tables 2-3).

Values at the sites that each anchor chose are mostly a reading of R's layer; they decide one claim only, that the fall
is R's relocation. Two anchors of a seed have the same fit prompts and are treated as if they had not, which is
conservative.
"""

import math

import pandas as pd

from safety_geometry.claims.evidence import ADVERSARIAL, PLAIN, Evidence, fit_prompts, shared
from safety_geometry.claims.rules import Measured, NotApplicable
from safety_geometry.geometry.dense import FEWEST_SAVES, FORMS
from safety_geometry.stats.pooling import Estimate, average, combined, pooled

THIRD = 3.0  # the papers' .0674 to .0205, and .0784 to .0205


def falls(quantity: str, regime: str):
    """Reference minus last anchor at frozen sites."""

    def measure(evidence: Evidence) -> Measured:
        first, last = evidence.reference(regime), evidence.last(regime)
        values = [evidence.frozen(quantity, regime, step) for step in (first, last)]
        by_seed = {seed: combined((1, -1), [part[seed] for part in values]) for seed in shared(*values)}
        return Measured(by_seed, f"{quantity} of {regime} at frozen sites, step {first} minus {last}")

    return measure


def falls_to_a_third(evidence: Evidence) -> Measured:
    """Reference minus three times the last anchor, HRCI_repr at frozen sites."""
    first, last = evidence.reference(ADVERSARIAL), evidence.last(ADVERSARIAL)
    values = [evidence.frozen("hrci_repr", ADVERSARIAL, step) for step in (first, last)]
    by_seed = {seed: combined((1, -THIRD), [part[seed] for part in values]) for seed in shared(*values)}
    return Measured(by_seed, f"hrci_repr of r2d2 at frozen sites, step {first} minus three times step {last}")


def falls_at_common_layers(regime: str):
    """The same with both carriers at one common layer, mean over the common layers."""

    def measure(evidence: Evidence) -> Measured:
        first, last = evidence.reference(regime), evidence.last(regime)
        values = [common_layers(evidence, regime, step) for step in (first, last)]
        by_seed = {seed: combined((1, -1), [part[seed] for part in values]) for seed in shared(*values)}
        return Measured(by_seed, f"c_cos of {regime} at common layers, step {first} minus {last}")

    return measure


def common_layers(evidence: Evidence, regime: str, step: int) -> dict[int, Estimate]:
    rows = evidence.companion("fixed_layer", "c_cos", regime, step)
    n = fit_prompts(evidence.rows("coupling", regime).iloc[0])
    return {
        int(seed): average([Estimate(*row, n) for row in part[["value", "lo", "hi"]].itertuples(index=False)])
        for seed, part in rows.groupby("seed")
    }


def at_references(
    evidence: Evidence, companion: str, quantity: str, term: str
) -> list[tuple[int, Estimate, pd.Series]]:
    """Seed, coupling term and row of a companion at the reference anchors of r2d2 and sft, of those that have an R."""
    out, lacking = [], ""
    for regime in (ADVERSARIAL, PLAIN):
        try:
            step = evidence.reference(regime)
            rows = evidence.companion(companion, quantity, regime, step).set_index("seed")
            values = evidence.frozen(term, regime, step)
        except NotApplicable as reason:
            lacking = str(reason)
            continue
        out += [(seed, values[seed], rows.loc[seed]) for seed in shared(values, dict.fromkeys(rows.index))]
    if not out:
        raise NotApplicable(lacking)
    return out


def above_shuffled(quantity: str):
    """Value minus the mean of shuffled labels at the reference anchors; the claim has to exceed what shuffled labels
    reach (their 97.5 % point less their mean), which is its margin as well."""

    def measure(evidence: Evidence) -> Measured:
        by_seed, widths = {}, []
        for seed, value, null in at_references(evidence, "shuffled", quantity, quantity):
            gap = (x - null["value"] for x in (value.value, value.lo, value.hi))
            by_seed.setdefault(seed, []).append(Estimate(*gap, value.n))
            widths.append(null["hi"] - null["value"])
        width = sum(widths) / len(widths)
        what = f"{quantity} at the reference anchors less its mean under shuffled labels (97.5 % point {width:.3f})"
        return Measured({seed: average(gaps) for seed, gaps in by_seed.items()}, what, width, width)

    return measure


def distinct_directions(evidence: Evidence) -> Measured:
    """1 − C_cos over what two noisy copies of one direction would reach, at the reference anchors."""
    by_seed = {}
    for seed, value, top in at_references(evidence, "split_half", "ceiling", "c_cos"):
        gap = (1 - x / top["value"] for x in (value.value, value.hi, value.lo))
        by_seed.setdefault(seed, []).append(Estimate(*gap, value.n))
    return Measured({seed: average(gaps) for seed, gaps in by_seed.items()}, "1 - C_cos over its split-half ceiling")


def relocation_explains(evidence: Evidence) -> Measured:
    """Fall of HRCI_repr at each anchor's own sites minus its fall at frozen ones; at the reference they are one."""
    last = evidence.last(ADVERSARIAL)
    frozen = evidence.frozen("hrci_repr", ADVERSARIAL, last)
    rows = evidence.rows("coupling", ADVERSARIAL)
    rows = rows[(rows["step"] == last) & rows["hrci_repr"].notna()]
    selected = {
        int(row["seed"]): Estimate(row["hrci_repr"], row["hrci_repr_lo"], row["hrci_repr_hi"], fit_prompts(row))
        for row in rows.to_dict("records")
    }
    if not selected:
        raise NotApplicable("r2d2 has no refusal carrier of its own at its last anchor")
    by_seed = {seed: combined((1, -1), (frozen[seed], selected[seed])) for seed in shared(frozen, selected)}
    return Measured(by_seed, f"fall of hrci_repr of r2d2 to step {last}, chosen sites less frozen sites")


def follows(metric: str, quantity: str, sign: int):
    """Spearman of a coupling term at frozen sites with a behaviour over all saves of r2d2, turned so that the paper's
    sign is positive.

    Two series that both trend always correlate: the first differences have to say the same before it holds.
    """

    def measure(evidence: Evidence) -> Measured:
        evidence.rows("five_anchor", ADVERSARIAL)
        levels, changes = (correlation(evidence, quantity, metric, form) for form in FORMS)
        evidence.require_attack(metric)
        levels, changes = ({s: e if sign > 0 else e.turned() for s, e in part.items()} for part in (levels, changes))
        together = pooled(changes)
        trend = "the changes from save to save do not go the same way: a shared trend"
        barriers = ["" if shown else trend for shown in (together.wide[0] > 0, together.wide[1] < 0)]
        what = f"Spearman's rho of {quantity} with {metric} over r2d2's saves, times the paper's sign"
        what += f" (of first differences {together.value:.3f} [{together.wide[0]:.3f}, {together.wide[1]:.3f}])"
        return Measured(levels, what, barrier=barriers[0], barrier_fails=barriers[1])

    return measure


def correlation(evidence: Evidence, quantity: str, metric: str, form: str) -> dict[int, Estimate]:
    """r2d2's correlation at frozen sites by seed, with the widest interval over the block lengths that fit."""
    rows = evidence.table("dense_correlations")
    rows = rows[(rows["regime"] == ADVERSARIAL) & (rows["predictor"] == quantity) & (rows["outcome"] == metric)]
    rows = rows[(rows["sites"] == "frozen") & (rows["form"] == form) & rows["rho"].notna()]
    rows = rows[~rows["seed"].isin(evidence.at_candidates(ADVERSARIAL, evidence.reference(ADVERSARIAL)))]
    least = FEWEST_SAVES - (form != FORMS[0])
    rows = rows[(rows["n"] >= least) & (2 * rows["block_length"] <= rows["n"])]
    if not len(rows):
        raise NotApplicable(f"r2d2 has no series of {quantity} and {metric}: it takes {FEWEST_SAVES} saves")
    out = {}
    for seed, part in rows.groupby("seed"):
        first = part.iloc[0]
        ends = part["lo"].min(skipna=False), part["hi"].max(skipna=False)
        if all(map(math.isfinite, ends)):
            out[int(seed)] = Estimate(first["rho"], min(ends[0], first["rho"]), max(ends[1], first["rho"]), first["n"])
    if not out:
        raise NotApplicable(f"no interval of the correlation of {quantity} with {metric}")
    return out
