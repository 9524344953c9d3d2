"""Verdicts of the rules on intervals, every one of them; p, barriers, n; rows without an answer."""

import math

import pytest

from safety_geometry.claims.rules import (
    FAILS,
    HOLDS,
    INCONCLUSIVE,
    NO_EFFECT,
    NOT_APPLICABLE,
    REACHABLE,
    Measured,
    decide,
    deciding_n,
    judged,
)
from safety_geometry.stats.pooling import Estimate

MARGIN = 0.1


def verdict(rule, value, half, threshold=0.0):
    return decide(rule, (value - half, value + half), (value - 0.84 * half, value + 0.84 * half), MARGIN, threshold)


@pytest.mark.parametrize(
    ("rule", "value", "half", "threshold", "expected"),
    [
        ("difference", 0.3, 0.1, 0.0, HOLDS),
        ("difference", -0.3, 0.1, 0.0, FAILS),
        ("difference", 0.0, 0.05, 0.0, NO_EFFECT),
        ("difference", 0.05, 0.04, 0.0, NO_EFFECT),  # above 0 for certain, and less than what matters
        ("difference", 0.1, 0.2, 0.0, INCONCLUSIVE),
        ("difference", 0.0, 0.115, 0.0, NO_EFFECT),  # the 90 % interval decides
        ("difference", 0.3, 0.1, 0.25, INCONCLUSIVE),
        ("difference", 0.3, 0.04, 0.25, HOLDS),
        ("difference", -0.3, 0.04, 0.25, FAILS),
        ("level", 0.7, 0.1, 0.5, HOLDS),
        ("level", 0.3, 0.1, 0.5, FAILS),
        ("level", 0.5, 0.1, 0.5, INCONCLUSIVE),
        ("constant", 0.0, 0.05, 0.0, HOLDS),
        ("constant", 0.3, 0.05, 0.0, FAILS),
        ("constant", -0.3, 0.05, 0.0, FAILS),
        ("constant", 0.12, 0.05, 0.0, INCONCLUSIVE),
    ],
)
def test_an_interval_decides(rule, value, half, threshold, expected):
    assert verdict(rule, value, half, threshold) == expected


def test_every_verdict_of_every_rule_is_reached_and_no_other():
    grid = [(v / 20, h / 20) for v in range(-20, 21) for h in range(1, 20)]
    for rule, verdicts in REACHABLE.items():
        assert {verdict(rule, value, half, 0.2 if rule == "level" else 0.0) for value, half in grid} == set(verdicts)
    assert decide("difference", (math.nan, 1.0), (0.0, 1.0), MARGIN) == INCONCLUSIVE
    with pytest.raises(ValueError, match="unknown rule"):
        verdict("majority", 0.1, 0.1)


def measured(values, half=0.05, n=40, **more):
    by_seed = {seed: Estimate(value, value - half, value + half, n) for seed, value in enumerate(values, start=42)}
    return Measured(by_seed, "the difference", **more)


def test_seeds_are_replicates_and_none_has_a_veto():
    split = judged("difference", measured([0.5, 0.4, -0.02]), MARGIN)
    assert (split.verdict, split.verdict_over_seeds) == (HOLDS, INCONCLUSIVE)
    assert split.by_seed == "42: 0.5; 43: 0.4; 44: -0.02" and split.estimate == pytest.approx(0.88 / 3)
    assert split.lo_seeds < split.lo < split.hi < split.hi_seeds
    agreed = judged("difference", measured([0.3, 0.31, 0.32]), MARGIN)
    assert (agreed.verdict, agreed.verdict_over_seeds) == (HOLDS, HOLDS)
    alone = judged("difference", measured([0.3]), MARGIN)
    assert (alone.verdict, alone.verdict_over_seeds) == (HOLDS, NOT_APPLICABLE) and math.isnan(alone.lo_seeds)


def test_p_and_barriers_stop_a_verdict_and_leave_no_effect():
    for sign, side in ((1, HOLDS), (-1, FAILS)):
        strong = [0.3 * sign, 0.31 * sign]
        assert judged("difference", measured(strong, p=0.04, p_smallest=0.001), MARGIN).verdict == side
        weak = judged("difference", measured(strong, p=0.2, p_smallest=0.001), MARGIN)
        assert weak.verdict == INCONCLUSIVE and weak.reason.endswith("but p is 0.2 (least possible 0.001)")
        assert math.isnan(weak.n_decides)  # more prompts would not help
    assert judged("difference", measured([0.0, 0.0], p=0.9), MARGIN).verdict == NO_EFFECT
    assert judged("difference", measured([0.3, 0.3], barrier="it may not"), MARGIN).verdict == INCONCLUSIVE
    assert judged("difference", measured([-0.3, -0.3], barrier="it may not"), MARGIN).verdict == FAILS
    assert judged("difference", measured([-0.3, -0.3], barrier_fails="it may not"), MARGIN).verdict == INCONCLUSIVE


def test_an_interval_that_was_made_over_all_seeds_is_taken_as_it_is():
    outcome = judged("difference", measured([0.2, 0.6], interval=(0.4, 0.1, 0.7)), MARGIN)
    ends = (outcome.lo, outcome.hi, outcome.lo_seeds, outcome.hi_seeds)
    assert outcome.estimate == 0.4 and ends == pytest.approx((0.1, 0.7) * 2)
    assert (outcome.verdict, outcome.verdict_over_seeds) == (HOLDS, HOLDS)


def test_a_margin_of_the_data_comes_before_the_claims():
    assert judged("difference", measured([0.15, 0.15], margin=0.3, threshold=0.3), MARGIN).verdict == NO_EFFECT
    assert judged("difference", measured([0.15, 0.15], threshold=0.3), MARGIN).verdict == INCONCLUSIVE


@pytest.mark.parametrize(("rule", "value", "threshold"), [("difference", 0.04, 0.0), ("difference", 0.25, 0.0),
                                                          ("level", 0.6, 0.5), ("constant", 0.03, 0.0), ("constant", 0.2, 0.0)])  # fmt: skip
def test_n_that_would_decide(rule, value, threshold):
    """At that n it is decided, and with one unit less it is not."""
    n, half = 10, 0.4
    ends = ((value - half, value + half), (value - 0.84 * half, value + 0.84 * half))
    assert decide(rule, *ends, MARGIN, threshold) == INCONCLUSIVE
    enough = deciding_n(rule, value, *ends, n, MARGIN, threshold)

    def at(units):
        return verdict(rule, value, half * math.sqrt(n / units), threshold)

    assert at(enough + 1) != INCONCLUSIVE and at(enough - 1) == INCONCLUSIVE
    outcome = judged(rule, measured([value], half, n, threshold=threshold), MARGIN)
    assert outcome.n_decides == pytest.approx(enough, rel=0.02) and f"{outcome.n_decides:.0f} a seed" in outcome.reason


def test_at_the_margin_no_n_decides():
    assert deciding_n("constant", 0.1, (-0.3, 0.5), (-0.2, 0.4), 10, 0.1, 0.0) == math.inf
