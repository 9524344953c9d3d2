"""Claims about geometry: which R is chosen and where, the layer of H, effective rank, drift (arXiv 2604.27019, sections
4.2-4.3).

Layers of H, ranks and angles have no interval below a seed: their seeds are the only replicates, and both verdicts are
the generalising one.
"""

import math

import pandas as pd

from safety_geometry.claims.evidence import ADVERSARIAL, PLAIN, Evidence, roomy, shared
from safety_geometry.claims.rules import Measured, NotApplicable
from safety_geometry.stats.pooling import Estimate, combined, normal

QUARTER = 0.25  # share of the layers: the least that counts as moving from late to early


def depth(evidence: Evidence, regime: str) -> int:
    """Layers of the model."""
    profile = evidence.rows("profile", regime)
    return int(profile.loc[profile["carrier"] == "H", "layer"].max()) + 1


def layers_of_r(evidence: Evidence, regime: str, step: int) -> dict[int, Estimate]:
    """Layer of R as a share of the layers, by seed.

    The site is a choice: with the share q of resamples that make it, it is the layer, and else any layer alike, which
    has the variance (1 − q) / 12 about it. Three such choices are not normal; their interval is three quarters longer.
    """
    rows = evidence.rows("coupling", regime)
    rows = rows[(rows["step"] == step) & rows["layer_r"].notna() & rows["site_share"].notna()]
    if not len(rows):
        raise NotApplicable(f"{regime} has no refusal carrier at step {step}")
    layers = depth(evidence, regime)
    reach = [choice_error(q) for q in rows["site_share"]]
    values = zip(rows["seed"], rows["layer_r"] / layers, reach, strict=True)
    return {int(seed): Estimate(value, value - r, value + r, 1) for seed, value, r in values}


def choice_error(share: float) -> float:
    """Half of the interval of a layer, as a share of the layers, that this share of resamples chooses."""
    return 1.75 * normal(0.975) * math.sqrt((1 - share) / 12)


def r_relocates(evidence: Evidence) -> Measured:
    first, last = evidence.reference(ADVERSARIAL), evidence.last(ADVERSARIAL)
    layers = [layers_of_r(evidence, ADVERSARIAL, step) for step in (first, last)]
    by_seed = {seed: unresampled(combined((1, -1), [part[seed] for part in layers])) for seed in shared(*layers)}
    return Measured(by_seed, f"layer of R in r2d2, step {first} minus {last}, as a share of the layers")


def sft_relocates_first(evidence: Evidence) -> Measured:
    """How far R has moved down from the reference at the first equal step after both references, sft minus r2d2."""
    moves, references = [], {regime: evidence.reference(regime) for regime in (PLAIN, ADVERSARIAL)}
    steps = [set(evidence.rows("coupling", regime)["step"]) for regime in references]
    later = sorted(step for step in set.intersection(*steps) if step > max(references.values()))
    if not later:
        raise NotApplicable("the regimes have no equal step after their references")
    for regime, first in references.items():
        layers = [layers_of_r(evidence, regime, step) for step in (first, later[0])]
        moves.append({seed: combined((1, -1), [part[seed] for part in layers]) for seed in shared(*layers)})
    by_seed = {seed: unresampled(combined((1, -1), [part[seed] for part in moves])) for seed in shared(*moves)}
    return Measured(by_seed, f"how far R has moved down by step {later[0]}, as a share of the layers, sft minus r2d2")


def unresampled(estimate: Estimate) -> Estimate:
    """More prompts make a choice surer, but not as 1/√n: no n is promised."""
    return Estimate(estimate.value, estimate.lo, estimate.hi)


def h_layer_constant(evidence: Evidence) -> Measured:
    """Largest distance of H's layer from that of the regime's reference, as a share of the layers."""
    by_seed = {}
    for regime in (ADVERSARIAL, PLAIN):
        layers, step = depth(evidence, regime), evidence.reference(regime)
        for seed, part in evidence.rows("five_anchor", regime).groupby("seed"):
            own = part.set_index("step")["layer_h"]
            if step in own.index:
                by_seed.setdefault(int(seed), []).append(float((own - own[step]).abs().max()) / layers)
    what = "largest move of H's layer from the reference, as a share of the layers, both regimes"
    return Measured({seed: Estimate(max(moves)) for seed, moves in by_seed.items()}, what)


def rank_constant(evidence: Evidence) -> Measured:
    """log of the effective rank, last anchor over reference, mean of both regimes."""
    by_seed = {}
    for regime in (ADVERSARIAL, PLAIN):
        rows = evidence.rows("geometry", regime)
        rows = rows[rows["erank"].notna()]
        ranks = rows.pivot_table(index="seed", columns="step", values="erank")
        first, last = evidence.reference(regime), evidence.last(regime)
        if not {first, last} <= set(ranks):
            raise NotApplicable(f"the field of {regime} has no rank at its reference and last anchor")
        for seed, row in ranks.dropna(subset=[first, last]).iterrows():
            by_seed.setdefault(int(seed), []).append(math.log(row[last] / row[first]))
    estimates = {seed: Estimate(sum(x) / len(x)) for seed, x in by_seed.items()}
    return Measured(estimates, "log of the effective rank, last anchor over reference, both regimes")


def sft_drifts_more(evidence: Evidence) -> Measured:
    """Largest principal angle to the own reference, sft minus r2d2, mean over the equal steps after both references."""
    rows = [evidence.rows("geometry", regime) for regime in (PLAIN, ADVERSARIAL)]
    rows = [part[part["step"] > part["reference"]].set_index(["seed", "step"])["angle_3"] for part in rows]
    difference = (rows[0] - rows[1]).dropna()
    if not len(difference):
        raise NotApplicable("the regimes have no angles at equal later steps")
    by_seed = {int(seed): Estimate(float(value)) for seed, value in difference.groupby(level="seed").mean().items()}
    steps = sorted({step for _, step in difference.index})
    return Measured(
        by_seed, f"third principal angle to the reference in degrees, sft minus r2d2, mean of steps {steps}"
    )


# -------------------------------------------------------------------------------------------------- the choice of R


def selection(evidence: Evidence, regime: str, step: int, selector: str) -> pd.DataFrame:
    """Rows of the table selection at a step."""
    rows = evidence.column("selection", "gain", "selector")
    rows = rows[(rows["regime"] == regime) & (rows["step"] == step) & (rows["selector"] == selector)]
    rows = rows[rows["gain"].notna()]
    if not len(rows):
        raise NotApplicable(f"selection has no choice by {selector} at step {step} of {regime}")
    return rows


def gains(rows: pd.DataFrame, less: pd.Series | float = 0.0) -> dict[int, Estimate]:
    """Gain over doing nothing by seed, less a number."""
    rows = rows.assign(_less=less)
    ends = [rows.get(name, math.nan) for name in ("gain_lo", "gain_hi", "n_harmful")]
    rows = rows.assign(_lo=ends[0], _hi=ends[1], _n=ends[2])
    return {
        int(row["seed"]): Estimate(*(row[name] - row["_less"] for name in ("gain", "_lo", "_hi")), row["_n"])
        for row in rows.to_dict("records")
    }


def r_beats_its_null(regime: str):
    """Gain of the chosen site on prompts that did not choose it, less what label-shuffled directions reach by the same
    choice (95 % point), at the reference anchor."""

    def measure(evidence: Evidence) -> Measured:
        step = evidence.reference(regime)
        evidence.column("selection", "null_95")
        rows = selection(evidence, regime, step, "effect")
        rows = rows[rows["null_95"].notna()]
        if not len(rows):
            raise NotApplicable(f"the choice of R at step {step} of {regime} has no null")
        return Measured(gains(rows, rows["null_95"]), f"gain of R of {regime} at step {step} over its null, log-odds")

    return measure


def score_falls(evidence: Evidence) -> Measured:
    """Gain of the papers' score over doing nothing, (S_refuse + S_comply − 2c0) / (2(1 − c0)), reference minus last
    anchor on the same selection prompts: c0's own fall is taken off each."""
    first, last = evidence.reference(ADVERSARIAL), evidence.last(ADVERSARIAL)
    evidence.column("selection", "fall", "fall_lo", "fall_hi", "fall_n")
    rows = selection(evidence, ADVERSARIAL, last, "cosmic").dropna(subset=["fall"])
    if not len(rows):
        raise NotApplicable("r2d2's candidates were not scored at its reference and its last anchor")
    ends = rows[["seed", "fall", "fall_lo", "fall_hi", "fall_n"]].itertuples(index=False)
    by_seed = {int(seed): Estimate(*map(float, values)).of_few() for seed, *values in ends}
    return Measured(by_seed, f"S_total of r2d2 less c0, step {first} minus {last} on the same prompts")


# ------------------------------------------------------------------------------------------------------------ rulers

RULERS = {"length": "their length", "words": "a bag of their words"}


def beyond_ruler(carrier: str, ruler: str, regime: str):
    """AUROC of a carrier at its own site of the regime's reference anchor less that of a plain property of the same
    select prompts. The carrier separates the classes; whether the model has anything to do with it, the ruler says."""

    def measure(evidence: Evidence) -> Measured:
        step = evidence.reference(regime)
        rows = evidence.column("separability", "difference", "changed")
        rows = rows[(rows["regime"] == regime) & (rows["step"] == step) & (rows["carrier"] == carrier)]
        rows = rows[rows["ruler"] == ruler]
        if not len(rows):
            raise NotApplicable(f"{regime} has no {carrier} of its own at step {step}")
        by_seed = {}
        for row in rows.to_dict("records"):
            n = float(min(row["n_harmful"], row["n_benign"]))
            estimate = Estimate(*(row[f"difference{end}"] for end in ("", "_lo", "_hi")), n).of_few()
            by_seed[int(row["seed"])] = roomy(estimate, row["changed"], 1.0)
        own, other = (f"{rows[name].mean():.3f}" for name in ("auroc", "ruler_auroc"))
        what = f"AUROC of {carrier} of {regime} at step {step} less that of {RULERS[ruler]} ({own} and {other})"
        return Measured(by_seed, what)

    return measure
