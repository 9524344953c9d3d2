"""How an interval decides a claim: five verdicts, three rules, fixed before a run.

An interval decides, never a point. θ is the quantity, signed so that the claim says it is large; Δ its margin, the
least that would matter; τ what the claim asks it to exceed.

difference  no effect: the 90 % interval lies within ±Δ (both one-sided tests at 5 %). Else holds: the 95 % interval
lies
            above τ ≥ 0. fails: it lies below −τ, the opposite.
level       holds: the 95 % interval lies above τ. fails: below it. no effect does not exist.
constant    the claim is that θ stays within ±Δ. holds: the 90 % interval does. fails: the 95 % interval lies wholly
            outside. no effect does not exist.
"""

import math
from dataclasses import dataclass, replace

from safety_geometry.stats.pooling import Ends, Estimate, Pooled, needed_n, pooled

ALPHA = 0.05
HOLDS, FAILS, NO_EFFECT, INCONCLUSIVE = "holds", "fails", "no effect", "inconclusive"
NOT_APPLICABLE = "not applicable"
VERDICTS = (HOLDS, FAILS, NO_EFFECT, INCONCLUSIVE, NOT_APPLICABLE)
DECIDED = (HOLDS, FAILS, NO_EFFECT)
REACHABLE = {
    "difference": (HOLDS, FAILS, NO_EFFECT, INCONCLUSIVE),
    "level": (HOLDS, FAILS, INCONCLUSIVE),
    "constant": (HOLDS, FAILS, INCONCLUSIVE),
}


class NotApplicable(Exception):
    """The claim needs something that the study does not have: the message says what."""


class Undecidable(Exception):
    """The study has it all, and yet nothing can be said: the message is the reason."""


@dataclass(frozen=True)
class Measured:
    """What the tables say of a claim: an estimate of θ a seed, and what else has to be true.

    threshold: τ. margin: Δ where the data give it (the width of a null); None: that of the claim. p: of the test that
    has to pass as well before a difference holds or fails (NaN: none), with the least that it can be. barrier: why the
    claim may not hold, whatever the interval says; barrier_fails: why it may not fail; empty: nothing. interval: value
    and ends (95 %) over all seeds, where they were made together; None: `by_seed` is pooled.
    """

    by_seed: dict[int, Estimate]
    what: str
    threshold: float = 0.0
    margin: float | None = None
    p: float = math.nan
    p_smallest: float = math.nan
    barrier: str = ""
    barrier_fails: str = ""
    interval: tuple[float, float, float] | None = None

    def pooled(self) -> Pooled:
        if self.interval is None:
            return pooled(self.by_seed)
        value, lo, hi = self.interval
        estimate = Estimate(value, lo, hi, pooled(self.by_seed).n)
        return replace(together := pooled({0: estimate}), n_seeds=len(self.by_seed), wide_seeds=together.wide,
                       narrow_seeds=together.narrow)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """A row's numbers and both verdicts; NaN where a number does not exist."""

    verdict: str
    verdict_over_seeds: str
    reason: str
    estimate: float = math.nan
    lo: float = math.nan
    hi: float = math.nan
    lo_seeds: float = math.nan
    hi_seeds: float = math.nan
    threshold: float = math.nan
    margin: float = math.nan
    detectable: float = math.nan
    n: float = math.nan
    n_decides: float = math.nan
    p: float = math.nan
    p_smallest: float = math.nan
    by_seed: str = ""


def decide(rule: str, wide: Ends, narrow: Ends, margin: float, threshold: float = 0.0) -> str:
    """Verdict of an interval of 95 % and the same of 90 %; inconclusive where they are not finite."""
    if not all(map(math.isfinite, (*wide, *narrow))):
        return INCONCLUSIVE
    within = -margin < narrow[0] and narrow[1] < margin
    if rule == "constant":
        outside = wide[0] > margin or wide[1] < -margin
        return HOLDS if within else FAILS if outside else INCONCLUSIVE
    if rule == "level":
        return HOLDS if wide[0] > threshold else FAILS if wide[1] < threshold else INCONCLUSIVE
    if rule != "difference":
        raise ValueError(f"unknown rule {rule!r}; choose {', '.join(REACHABLE)}")
    if within:
        return NO_EFFECT
    return HOLDS if wide[0] > threshold else FAILS if wide[1] < -threshold else INCONCLUSIVE


def deciding_n(rule: str, value: float, wide: Ends, narrow: Ends, n: float, margin: float, threshold: float) -> float:
    """Least n at which one of the verdicts would be reached if the estimate stayed and intervals shrank as 1/√n; ∞:
    none.

    The reach of an interval is half its length.
    """
    reach, inner = (wide[1] - wide[0]) / 2, (narrow[1] - narrow[0]) / 2
    size = abs(value)
    inside = needed_n(n, inner, margin - size)
    if rule == "constant":
        return min(inside, needed_n(n, reach, size - margin))
    if rule == "level":
        return needed_n(n, reach, abs(value - threshold))
    return min(inside, needed_n(n, reach, size - threshold))


def judged(rule: str, measured: Measured, margin: float) -> Outcome:
    """Both verdicts on what was measured."""
    margin = margin if measured.margin is None else measured.margin
    whole = measured.pooled()
    verdicts = [
        decide(rule, wide, narrow, margin, measured.threshold)
        for wide, narrow in ((whole.wide, whole.narrow), (whole.wide_seeds, whole.narrow_seeds))
    ]
    plain = verdicts[0]  # what the interval says before p and barrier
    reasons = [words(plain, rule, margin, measured.threshold, measured.what)]
    needs_p = rule == "difference" and math.isfinite(measured.p)
    if needs_p and measured.p >= ALPHA and not set(verdicts).isdisjoint((HOLDS, FAILS)):
        verdicts = [INCONCLUSIVE if verdict in (HOLDS, FAILS) else verdict for verdict in verdicts]
        reasons.append(f"but p is {measured.p:.2g} (least possible {measured.p_smallest:.2g})")
    for side, barrier in ((HOLDS, measured.barrier), (FAILS, measured.barrier_fails)):
        if barrier and side in verdicts:
            verdicts = [INCONCLUSIVE if verdict == side else verdict for verdict in verdicts]
            reasons.append(f"but {barrier}")
    if whole.n_seeds < 2:
        verdicts[1] = NOT_APPLICABLE
    enough = math.nan
    if plain == INCONCLUSIVE and math.isfinite(whole.wide[0]) and math.isfinite(whole.n):
        ends = (whole.value, whole.wide, whole.narrow, whole.n)
        enough = deciding_n(rule, *ends, margin, measured.threshold)
        if math.isfinite(enough) and enough > whole.n:
            reasons.append(f"{enough:.0f} a seed would decide it if the estimate stayed, here are {whole.n:.0f}")
        enough = enough if math.isfinite(enough) else math.nan
    if not math.isfinite(whole.wide[0]):
        reasons.append("its only replicates are seeds, and there is one")
    return Outcome(
        verdicts[0], verdicts[1], "; ".join(reasons), whole.value, *whole.wide, *whole.wide_seeds, measured.threshold,
        margin, whole.detectable, whole.n, enough, measured.p, measured.p_smallest, listed(measured.by_seed),
    )  # fmt: skip


def words(verdict: str, rule: str, margin: float, threshold: float, what: str) -> str:
    """What the interval did, after what was measured."""
    below = "below" if rule == "level" else "below -" if threshold else "below "
    below = f"{below}{threshold:g}" if below.endswith(("-", " ")) else f"{below} {threshold:g}"
    said = {
        HOLDS: f"within {margin:g} of 0" if rule == "constant" else f"above {threshold:g}",
        FAILS: f"more than {margin:g} from 0" if rule == "constant" else below,
        NO_EFFECT: f"within {margin:g} of 0",
        INCONCLUSIVE: "too wide to tell",
    }
    return f"{what}: the interval is {said[verdict]}"


def listed(by_seed: dict[int, Estimate]) -> str:
    """`42: 0.317; 43: 0.267`"""
    return "; ".join(f"{seed}: {estimate.value:.3g}" for seed, estimate in sorted(by_seed.items()))


def undecided(reason: str) -> Outcome:
    return Outcome(INCONCLUSIVE, INCONCLUSIVE, reason)


def not_applicable(reason: str) -> Outcome:
    return Outcome(NOT_APPLICABLE, NOT_APPLICABLE, reason)


def over_seeds_only(outcome: Outcome, n_seeds: int) -> Outcome:
    """The verdict over seeds of a claim that is undecided needs seeds as well."""
    return outcome if n_seeds > 1 else replace(outcome, verdict_over_seeds=NOT_APPLICABLE)
