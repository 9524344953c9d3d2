"""Statistics against scipy, closed forms and loops."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats as reference

from safety_geometry.stats.estimates import (
    holm,
    least_mcnemar_p,
    mcnemar_exact,
    paired_difference,
    percentiles,
    permutation_p,
    resampling_weights,
    sign_flip_exact,
    spearman,
    spearman_block_bootstrap,
    spearman_range,
    spearman_tie_ceiling,
    wilson,
)


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 10), (10, 10), (100, 400), (1, 1)])
def test_wilson_equals_scipy(successes, n):
    found = wilson(successes, n)
    expected = reference.binomtest(successes, n).proportion_ci(method="wilson")
    assert (found.lo, found.hi) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.lo <= found.value <= found.hi


def test_wilson_of_nothing_and_of_nonsense():
    assert math.isnan(wilson(0, 0).lo) and wilson(0, 0).n == 0
    with pytest.raises(ValueError, match="5 successes out of 4"):
        wilson(5, 4)


def test_mcnemar_equals_the_binomial_test():
    a = np.r_[np.ones(9), np.zeros(3), np.ones(5), np.zeros(5)]
    b = np.r_[np.zeros(9), np.ones(3), np.ones(5), np.zeros(5)]
    assert mcnemar_exact(a, b) == pytest.approx(reference.binomtest(3, 12).pvalue)
    assert mcnemar_exact(b, a) == mcnemar_exact(a, b)
    assert mcnemar_exact(a, a) == 1.0


def test_paired_difference():
    rng = np.random.default_rng(0)
    a = rng.random(80)
    b = a - 0.2 + 0.05 * rng.normal(size=80)
    found = paired_difference(a, b, np.random.default_rng(1), 4000)
    half = 1.96 * (a - b).std() / math.sqrt(80)
    assert found.value == pytest.approx((a - b).mean())
    assert (found.lo, found.hi) == pytest.approx((found.value - half, found.value + half), abs=0.1 * half)
    assert math.isnan(found.p_mcnemar)
    binary = paired_difference([1, 1, 1, 0], [0, 0, 0, 0], np.random.default_rng(1))
    assert binary.p_mcnemar == pytest.approx(0.25)
    with pytest.raises(ValueError, match="one length"):
        paired_difference([1, 2], [1], np.random.default_rng(0))


def test_spearman_equals_scipy_with_ties():
    rng = np.random.default_rng(2)
    for _ in range(20):
        x, y = rng.integers(0, 5, 15), rng.integers(0, 7, 15)
        assert spearman(x, y) == pytest.approx(reference.spearmanr(x, y).statistic)
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))
    with pytest.raises(ValueError, match="missing"):
        spearman([1, np.nan, 2], [1, 2, 3])


def test_block_bootstrap_matches_a_loop():
    rng = np.random.default_rng(3)
    x, n, block, draws = np.cumsum(rng.normal(size=23)), 23, 5, 40
    y = x + rng.normal(size=23)
    found = spearman_block_bootstrap(x, y, block, np.random.default_rng(9), draws)
    starts = np.random.default_rng(9).integers(0, n - block + 1, size=(draws, 5))
    rho = []
    for row in starts:
        index = [s + i for s in row for i in range(block)][:n]
        rho.append(reference.spearmanr(x[index], y[index]).statistic)
    assert (found.lo, found.hi) == pytest.approx(tuple(np.quantile(rho, [0.025, 0.975])))
    assert found.value == pytest.approx(reference.spearmanr(x, y).statistic) and found.n == 23
    with pytest.raises(ValueError, match="does not fit"):
        spearman_block_bootstrap(x, y, 24, rng)


def test_longer_blocks_widen_the_interval_of_autocorrelated_series():
    rng = np.random.default_rng(5)
    x, y = np.cumsum(rng.normal(size=(2, 100)), axis=1)
    widths = [
        (lambda i: i.hi - i.lo)(spearman_block_bootstrap(x, y, b, np.random.default_rng(0), 800)) for b in (1, 20)
    ]
    assert widths[1] > 1.5 * widths[0]


def test_block_bootstrap_of_a_constant_is_nan():
    found = spearman_block_bootstrap(np.ones(10), np.arange(10.0), 2, np.random.default_rng(0), 50)
    assert math.isnan(found.value) and math.isnan(found.lo)


def test_tie_ceiling_of_the_sparse_transfer_tables():
    """12 rows, three target levels, four tied zero rates: √(1536/1656) = .963; one more tied pair: √(1536/1650) = .965."""
    x = np.repeat([0.1, 0.2, 0.3], 4)
    y = np.r_[np.zeros(4), np.arange(1, 9)]
    assert spearman_tie_ceiling(x, y) == pytest.approx(math.sqrt(1536 / 1656))
    y[-1] = y[-2]
    assert spearman_tie_ceiling(x, y) == pytest.approx(math.sqrt(1536 / 1650))
    assert spearman_tie_ceiling(np.random.default_rng(0).permutation(x), y) == pytest.approx(0.965, abs=5e-4)


def test_range_is_reached_by_the_best_permutation():
    x, y = [1, 1, 2, 3, 3, 3], [5, 1, 1, 2, 2, 9]
    every = [reference.spearmanr(x, order).statistic for order in set(itertools.permutations(y))]
    assert spearman_range(x, y) == pytest.approx((min(every), max(every)))
    assert spearman_tie_ceiling(x, y) == pytest.approx(max(np.abs(every)))
    assert spearman_tie_ceiling([1, 2, 3, 4], [9, 3, 1, 0]) == pytest.approx(1)


def test_permutation_p():
    null = np.arange(199) / 100
    found = permutation_p(1.5, null)
    assert found.p == pytest.approx((1 + np.sum(null >= 1.5)) / 200)
    assert found.smallest == 1 / 200 == permutation_p(9, null).p
    assert permutation_p(-9, null, "less").p == 1 / 200
    assert permutation_p(-9, null, "two-sided").p == 1 / 200
    assert permutation_p(-9, null).p == 1
    with pytest.raises(ValueError, match="choose greater"):
        permutation_p(0, null, "both")
    with pytest.raises(ValueError, match="finite"):
        permutation_p(0, [np.nan])


def test_holm_known_example():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1, 1])
    np.testing.assert_allclose(holm([0.01, np.nan, 0.02]), [0.02, np.nan, 0.02])
    assert holm([]).shape == (0,)


def test_least_mcnemar_p_is_that_of_changes_in_one_direction():
    for n in (0, 1, 5, 6, 20):
        assert least_mcnemar_p(n) == pytest.approx(mcnemar_exact([1] * n + [0], [0] * n + [0]))
    assert least_mcnemar_p(5.6) == least_mcnemar_p(6)


def test_sign_flips_are_counted_and_equal_mcnemar_on_single_differences():
    differences = [3, -1, 2, 0, 1, 2]
    sums = [
        sum(s * d for s, d in zip(signs, differences, strict=True)) for signs in itertools.product((-1, 1), repeat=6)
    ]
    p, smallest = sign_flip_exact(differences)
    assert p == pytest.approx(np.mean(np.abs(sums) >= sum(differences))) and smallest == 2 / 2**5
    a, b = np.r_[np.ones(9), np.zeros(7)], np.r_[np.zeros(6), np.ones(2), np.zeros(1), np.zeros(5), np.ones(2)]
    assert sign_flip_exact(a - b)[0] == pytest.approx(mcnemar_exact(a, b))
    assert sign_flip_exact([0, 0]) == (1.0, 1.0)
    with pytest.raises(ValueError, match="whole differences"):
        sign_flip_exact([0.5])


def test_resampling_weights_are_drawn_counts_over_n():
    weights = resampling_weights(7, 2000, np.random.default_rng(3))
    assert weights.shape == (2000, 7) and np.allclose(weights.sum(1), 1)
    assert np.array_equal(weights * 7, np.round(weights * 7))
    assert (weights * 7).var(0).mean() == pytest.approx(1 - 1 / 7, rel=0.05)  # of a binomial count (7, 1/7)


def test_percentiles():
    assert percentiles(np.arange(1001)) == (25, 975)
    assert percentiles(np.arange(1001), 0.8) == (100, 900)
