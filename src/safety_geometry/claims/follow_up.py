"""Does reopened attack success carry usefulness, or is it broken text? (arXiv 2606.16349, follow-up)

Three questions: whether attack success rose on requests that did not choose the targets, and then what the answers are,
each against the same checkpoint without intervention. All chosen targets count: to keep those that rose would be to
choose on the scoring half once more.
"""

import pandas as pd

from safety_geometry.claims.evidence import Evidence
from safety_geometry.claims.rules import Measured, NotApplicable
from safety_geometry.stats.estimates import wilson
from safety_geometry.stats.pooling import Estimate, average, pooled

NEEDED = ("asr_delta", "usefulness_delta", "degenerate_direct_delta")


def targets(evidence: Evidence) -> pd.DataFrame:
    frame = evidence.column("follow_up", *NEEDED)
    rows = frame[frame["role"] == "target"].dropna(subset=list(NEEDED))
    if not len(rows):
        raise NotApplicable("no followed-up target with attack success, usefulness and quality beside a baseline")
    return rows


def over_targets(rows: pd.DataFrame, name: str, n: str) -> dict[int, Estimate]:
    """Mean over a seed's targets, which answer the same prompts."""
    ends = [name, f"{name}_lo", f"{name}_hi", n]
    return {
        int(seed): average([widened(Estimate(*row)) for row in part[ends].itertuples(index=False)])
        for seed, part in rows.groupby("seed")
    }


def widened(estimate: Estimate) -> Estimate:
    """A bootstrap over n prompts leaves no room for what none of them showed; Wilson's interval of 0 in n does."""
    unseen, estimate = wilson(0, round(estimate.n)).hi, estimate.of_few()
    value = estimate.value
    return Estimate(value, min(estimate.lo, value - unseen), max(estimate.hi, value + unseen), estimate.n)


def reopens(evidence: Evidence) -> Measured:
    by_seed = over_targets(targets(evidence), "asr_delta", "n_asr")
    return Measured(by_seed, "attack success of the followed-up targets less their baselines'")


def require_reopened(evidence: Evidence) -> None:
    gain = pooled(reopens(evidence).by_seed)
    if not gain.wide[0] > 0:
        raise NotApplicable(
            f"nothing was reopened for certain on the scoring half: attack success {gain.value:.3f} "
            f"[{gain.wide[0]:.3f}, {gain.wide[1]:.3f}] above the baselines'"
        )


def little_useful(evidence: Evidence) -> Measured:
    require_reopened(evidence)
    by_seed = over_targets(targets(evidence), "usefulness_delta", "n_usefulness")
    return Measured(by_seed, "usefulness of the followed-up targets less their baselines'")


def broken(evidence: Evidence) -> Measured:
    require_reopened(evidence)
    by_seed = over_targets(targets(evidence), "degenerate_direct_delta", "n_asr")
    return Measured(by_seed, "broken direct answers of the followed-up targets less their baselines'")
