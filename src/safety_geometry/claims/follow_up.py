"""Does reopened attack success carry usefulness, or is it broken text? (arXiv 2606.16349, follow-up)

Two questions, one after the other: whether attack success rose at all on requests that did not choose the targets, and
only then what the answers are, each against the same checkpoint without intervention. All chosen targets count: to keep
those that rose would be to choose on the scoring half once more.
"""

import math

import pandas as pd
from scipy.special import ndtri

from safety_geometry.claims.evidence import ALPHA, SMALLEST_EFFECT, SMALLEST_RATE, Evidence, Outcome, Undecidable
from safety_geometry.stats.estimates import wilson

LITTLE_USEFUL = SMALLEST_EFFECT["usefulness"]
Interval = tuple[float, float, float]


def broken_text(evidence: Evidence) -> Outcome:
    """Holds when usefulness rises by less than LITTLE_USEFUL over the baseline and broken direct answers become more;
    fails when usefulness rises above baseline and controls for certain, or broken answers by less than SMALLEST_RATE.
    The numbers are those of the usefulness."""
    frame = evidence.table("follow_up")
    targets = frame[frame["role"] == "target"].dropna(
        subset=["asr_delta", "usefulness_delta", "degenerate_direct_delta"]
    )
    if not len(targets):
        raise Undecidable(
            "no followed-up target with attack success (its own and a baseline's), usefulness and quality"
        )
    n, n_useful = (round(targets[name].mean()) for name in ("n_asr", "n_usefulness"))
    gain = over_targets(targets, "asr_delta")
    rates = f"attack success of {len(targets)} targets less their baselines' {words(gain)}, n = {n}"
    if gain[1] <= 0:
        raise Undecidable(f"nothing was reopened for certain on the scoring half: {rates}")
    useful = widened(over_targets(targets, "usefulness_delta"), n_useful)
    beside = targets.dropna(subset=["usefulness_control_delta"])
    special = widened(over_targets(beside, "usefulness_control_delta"), n_useful) if len(beside) else useful
    broken = over_targets(targets, "degenerate_direct_delta")
    little = "holds" if useful[2] < LITTLE_USEFUL else "fails" if min(useful[1], special[1]) > 0 else "inconclusive"
    more = "holds" if broken[1] > 0 else "fails" if broken[2] < SMALLEST_RATE else "inconclusive"
    verdict = little if little == more else "fails" if "fails" in (little, more) else "inconclusive"
    reason = f"{rates}; usefulness less the baselines' {words(useful)}"
    reason += f", less the controls' {words(special)}" if len(beside) else ""
    reason += f"; broken direct answers less the baselines' {words(broken)}"
    return Outcome(verdict, reason, *useful, LITTLE_USEFUL, n=n_useful)


def over_targets(rows: pd.DataFrame, name: str) -> Interval:
    """Mean over targets with an interval for prompts and targets together.

    The targets answer the same prompts, so that more of them are not more answers: of the prompts the mean of their
    intervals counts. What they differ from one another by comes on top.
    """
    value, count = rows[name].mean(), len(rows)
    between = ndtri(1 - ALPHA / 2) * rows[name].std() / math.sqrt(count) if count > 1 else 0.0
    below, above = value - rows[f"{name}_lo"].mean(), rows[f"{name}_hi"].mean() - value
    return value, max(-1.0, value - math.hypot(below, between)), min(1.0, value + math.hypot(above, between))


def widened(interval: Interval, n: int) -> Interval:
    """A bootstrap over n prompts leaves no room for what none of them showed; Wilson's interval of 0 in n does."""
    value, lo, hi = interval
    unseen = wilson(0, n).hi
    return value, max(-1.0, min(lo, value - unseen)), min(1.0, max(hi, value + unseen))


def words(interval: Interval) -> str:
    return "{:.3f} [{:.3f}, {:.3f}]".format(*interval)
