"""Pooled estimates against closed forms and drawn samples."""

import math

import numpy as np
import pytest
from scipy import stats

from safety_geometry.stats.pooling import (
    Estimate,
    average,
    combined,
    conditional,
    least_detectable,
    needed_n,
    planned_n,
    pooled,
    stouffer,
    t_interval,
)

Z = stats.norm.ppf(0.975)


def normal_estimate(value: float, error: float, n: float = 50) -> Estimate:
    return Estimate(value, value - Z * error, value + Z * error, n)


def test_independent_normal_seeds_pool_as_their_mean():
    errors = (0.1, 0.2, 0.05)
    whole = pooled({seed: normal_estimate(0.3, error) for seed, error in enumerate(errors)})
    error = math.sqrt(sum(e * e for e in errors)) / 3
    assert whole.value == pytest.approx(0.3) and whole.n == 50 and whole.n_seeds == 3
    assert whole.wide == pytest.approx((0.3 - Z * error, 0.3 + Z * error))
    z90 = stats.norm.ppf(0.95)
    assert whole.narrow == pytest.approx((0.3 - z90 * error, 0.3 + z90 * error))
    assert whole.detectable == pytest.approx((Z + stats.norm.ppf(0.8)) * error)


def test_skewed_intervals_keep_their_skew():
    lo, hi = conditional([Estimate(0.0, -0.01, 0.06), Estimate(0.0, -0.02, 0.08)])
    assert (lo, hi) == pytest.approx((-math.hypot(0.01, 0.02) / 2, 0.05))


def test_over_seeds_it_is_students_interval_and_no_narrower_than_the_other():
    values = (0.1, 0.3, 0.5)
    whole = pooled({seed: normal_estimate(value, 0.01) for seed, value in enumerate(values)})
    expected = stats.t.interval(0.95, 2, loc=0.3, scale=stats.sem(values))
    assert whole.wide_seeds == pytest.approx(expected) and t_interval(values) == pytest.approx(expected)
    alike = pooled({seed: normal_estimate(0.3, 0.1) for seed in range(3)})
    assert alike.wide_seeds == alike.wide


def test_one_seed_generalises_to_nothing():
    whole = pooled({7: normal_estimate(0.3, 0.1)})
    assert whole.wide == pytest.approx((0.3 - Z * 0.1, 0.3 + Z * 0.1)) and math.isnan(t_interval([0.3])[0])
    with pytest.raises(ValueError, match="at least one seed"):
        pooled({})
    with pytest.raises(ValueError, match="finite"):
        pooled({1: Estimate(math.nan)})


def test_seeds_without_an_interval_are_the_only_replicates():
    values = (1.0, 2.0, 4.0)
    whole = pooled({seed: Estimate(value) for seed, value in enumerate(values)})
    assert (
        whole.wide == whole.wide_seeds == pytest.approx(stats.t.interval(0.95, 2, np.mean(values), stats.sem(values)))
    )
    points = stats.t.ppf(0.975, 2) + stats.t.ppf(0.8, 2)
    assert whole.detectable == pytest.approx(points * stats.sem(values))
    alone = pooled({1: Estimate(1.0)})
    assert math.isnan(alone.wide[0]) and math.isnan(alone.detectable)


def test_combinations():
    difference = combined((1, -3), (normal_estimate(0.6, 0.1), normal_estimate(0.1, 0.2, 20)))
    error = math.hypot(0.1, 0.6)
    assert (difference.value, difference.n) == (pytest.approx(0.3), 20)
    assert (difference.lo, difference.hi) == pytest.approx((0.3 - Z * error, 0.3 + Z * error))
    skewed = combined((1, -1), (Estimate(0.0, -0.1, 0.0, 5), Estimate(0.0, -0.3, 0.0, 5)))
    assert (skewed.lo, skewed.hi) == pytest.approx((-0.1, 0.3))
    assert average([normal_estimate(0.2, 0.1), normal_estimate(0.4, 0.1)]).lo == pytest.approx(0.3 - Z * 0.1)
    assert Estimate(0.1, 0.0, 0.4, 3).turned() == Estimate(-0.1, -0.4, 0.0, 3)


def test_a_bootstrap_over_few_is_widened_to_students_interval():
    x = np.random.default_rng(3).standard_normal(8)
    plain = x.std() / math.sqrt(8)  # what a bootstrap of the mean has for its SE
    few = Estimate(x.mean(), x.mean() - Z * plain, x.mean() + Z * plain, 8).of_few()
    assert (few.lo, few.hi) == pytest.approx(stats.t.interval(0.95, 7, x.mean(), stats.sem(x)))
    assert math.isnan(Estimate(1.0, 0.0, 2.0, 1).of_few().lo)
    assert Estimate(0.1, 0.0, 0.4, 10).of_rates() == Estimate(0.1, -0.05, 0.45, 10)


def test_n_for_a_length_and_for_a_margin():
    assert needed_n(50, 0.2, 0.1) == 200 and needed_n(50, 0.2, 0.0) == math.inf and needed_n(50, 0.1, 0.1) == 50
    n, seeds, sd, margin = planned_n(0.5, 0.1, 3), 3, 0.5, 0.1

    def power(units: float) -> float:
        error = sd / math.sqrt(units * seeds)
        return 2 * stats.norm.cdf(margin / error - stats.norm.ppf(0.95)) - 1  # both one-sided tests, no effect

    assert power(n) >= 0.8 > power(n - 1)
    effect = least_detectable(sd, n, seeds)
    error = sd / math.sqrt(n * seeds)
    assert stats.norm.sf(Z - effect / error) == pytest.approx(0.8)
    assert effect <= margin  # an effect of the margin is detected as well


def test_joined_p():
    assert stouffer([1.0], [0.03]) == pytest.approx(0.03)
    z = 2 * stats.norm.isf(0.02) / math.sqrt(2)
    assert stouffer([0.5, 0.1], [0.04, 0.04]) == pytest.approx(2 * stats.norm.sf(z))
    assert stouffer([1.0, -1.0], [0.01, 0.01]) == pytest.approx(1.0)
    drawn = np.random.default_rng(5)
    p = [stouffer(drawn.standard_normal(3), drawn.random(3)) for _ in range(2000)]
    assert stats.kstest(p, "uniform").pvalue > 0.01
