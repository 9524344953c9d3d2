"""Companions against loops that rebuild means, directions and subspaces prompt by prompt."""

from dataclasses import replace

import numpy as np
import pytest

from safety_geometry.geometry.carriers import unit
from safety_geometry.geometry.companions import (
    PairSites,
    bootstrap_intervals,
    bootstrap_weights,
    contrast_weights,
    coupled,
    fixed_layer_companions,
    half_weights,
    own_site_companions,
    reliability,
    shuffled_weights,
)
from safety_geometry.geometry.coupling import couple, position_subspace, subspace_coupling

N_H, N_B, D, P = 10, 12, 9, 5


def plain(n_h, n_b):
    return np.arange(n_h + n_b)[None] < n_h


def make_pair(seed=0, signal=1.5, same=False, layer_r=2, d=D, n_h=N_H, n_b=N_B):
    """Harmful prompts are shifted along one direction per site; `same`: H and R share the site and the layer."""
    rng = np.random.default_rng(seed)
    label = np.r_[np.ones(n_h), np.zeros(n_b)][:, None]

    def site():
        return rng.normal(size=(n_h + n_b, d)) + signal * label * rng.normal(size=d) + 0.3

    h_rows = np.stack([site() for _ in range(P)])
    h = site()
    r_rows = h_rows if same else np.stack([site() for _ in range(P)])
    r = h if same else site()
    return PairSites(h, r, h_rows, r_rows, n_h, 4, 4 if same else layer_r, 1.0, 1.0)


def by_hand(pair, harmful_h, benign_h, harmful_r, benign_r):
    """Signed cosine and C_sub with H from one set of prompts and R from another (indices within class, repeats allowed)."""

    def delta(x, harmful, benign):
        return np.mean([x[i] for i in harmful], 0) - np.mean([x[pair.n_harmful + i] for i in benign], 0)

    h, r = delta(pair.h, harmful_h, benign_h), delta(pair.r, harmful_r, benign_r)
    rows_h = np.array([delta(x, harmful_h, benign_h) for x in pair.h_rows])
    rows_r = np.array([delta(x, harmful_r, benign_r) for x in pair.r_rows])
    return unit(h) @ unit(r), subspace_coupling(position_subspace(rows_h), position_subspace(rows_r))


def observed(pair, k=3, tau=4.0):
    w = contrast_weights(pair.labels())[0]
    spaces = (position_subspace(w @ rows, k) for rows in (pair.h_rows, pair.r_rows))
    return couple(w @ pair.h, w @ pair.r, *spaces, pair.layer_h, pair.layer_r, tau)


def rng_of(name):
    return np.random.default_rng([7, *name.encode()])


def test_plain_weights_give_the_coupling_of_the_means():
    pair = make_pair()
    draws = coupled(pair, *contrast_weights(pair.labels())[:, None])
    value = observed(pair)
    assert abs(draws.cosine[0]) == pytest.approx(value.c_cos, abs=1e-12)
    assert draws.c_sub[0] == pytest.approx(value.c_sub, abs=1e-10)


def test_bootstrap_matches_a_loop():
    pair = make_pair(1)
    weights, same = bootstrap_weights(pair.labels(), 70, np.random.default_rng(3))
    assert (weights == same).all()
    draws = coupled(pair, weights, same)
    assert weights.shape == (70, N_H + N_B)
    np.testing.assert_allclose(weights[:, :N_H].sum(1), 1)
    np.testing.assert_allclose(weights[:, N_H:].sum(1), -1)
    for i in (0, 1, 69):
        harmful = np.repeat(np.arange(N_H), np.rint(weights[i, :N_H] * N_H).astype(int))
        benign = np.repeat(np.arange(N_B), np.rint(-weights[i, N_H:] * N_B).astype(int))
        cosine, c_sub = by_hand(pair, harmful, benign, harmful, benign)
        assert draws.cosine[i] == pytest.approx(cosine, abs=1e-12)
        assert draws.c_sub[i] == pytest.approx(c_sub, abs=1e-9)


def test_shuffled_weights_keep_class_sizes_and_forget_the_labels():
    weights = shuffled_weights(plain(N_H, N_B), 4000, np.random.default_rng(0))[0]
    assert ((weights > 0).sum(1) == N_H).all() and ((weights < 0).sum(1) == N_B).all()
    np.testing.assert_allclose(weights.sum(1), 0, atol=1e-12)
    assert np.abs(weights.mean(0)).max() < 0.01
    pair = make_pair(2, signal=6.0)
    planted = coupled(pair, weights[:200], weights[:200])
    assert np.abs(planted.cosine).mean() < 1 and not np.allclose(planted.cosine, planted.cosine[0])


def test_halves_are_disjoint_and_complete():
    first, second = (w[0] for w in half_weights(plain(9, 6), 30, np.random.default_rng(1)))
    assert ((first != 0) ^ (second != 0)).all()
    np.testing.assert_allclose([first[:, :9].sum(1), second[:, :9].sum(1)], 1)
    np.testing.assert_allclose([first[:, 9:].sum(1), second[:, 9:].sum(1)], -1)
    assert ((first[:, :9] > 0).sum(1) == 4).all() and ((second[:, 9:] < 0).sum(1) == 3).all()
    assert len(np.unique(first, axis=0)) > 20


def test_cross_fit_matches_a_loop_in_both_orders():
    pair = make_pair(3)
    first, second = (w[0] for w in half_weights(plain(N_H, N_B), 3, np.random.default_rng(2)))

    def prompts(w):
        return np.flatnonzero(w[:N_H]), np.flatnonzero(w[N_H:])

    for a, b in ((first, second), (second, first)):
        draws = coupled(pair, a, b)
        for i in range(3):
            cosine, c_sub = by_hand(pair, *prompts(a[i]), *prompts(b[i]))
            assert draws.cosine[i] == pytest.approx(cosine, abs=1e-12)
            assert draws.c_sub[i] == pytest.approx(c_sub, abs=1e-9)


def test_one_site_is_coupled_by_construction_unless_cross_fitted():
    pair = make_pair(4, signal=0.0, same=True)
    value = observed(pair)
    assert (value.c_cos, value.c_sub, value.hrci) == pytest.approx((1, 1, 1))
    rows = own_site_companions(pair, value, bootstrap_intervals(pair, 50, rng_of("b")), 50, 50, 50, rng_of)
    found = {(x.companion, x.quantity): x for x in rows}
    assert found["own_sites", "c_cos"].lo == pytest.approx(1)
    assert found["shuffled", "c_cos"].value == pytest.approx(1)
    assert found["cross_fitted", "c_cos"].value < 0.6


def test_companions_hold_together_with_a_strong_signal():
    pair = make_pair(5, signal=30.0, d=40)
    value = observed(pair)
    intervals = bootstrap_intervals(pair, 200, rng_of("b"))
    rows = own_site_companions(pair, value, intervals, 200, 60, 20, rng_of)
    found = {(x.companion, x.quantity): x for x in rows}
    assert len(found) == len(rows)
    assert found["split_half", "reliability_h"].value > 0.99
    assert found["split_half", "reliability_sub_r"].value > 0.95
    assert found["split_half", "ceiling"].value == pytest.approx(
        np.sqrt(found["split_half", "reliability_h"].value * found["split_half", "reliability_r"].value)
    )
    assert found["split_half", "disattenuated_c_cos"].value == pytest.approx(value.c_cos, abs=0.02)
    assert found["cross_fitted", "hrci_repr"].value == pytest.approx(value.hrci_repr, abs=0.05)
    assert found["isotropic", "c_sub"].value == pytest.approx(3 / 40)
    own = found["own_sites", "c_cos"]
    assert own.lo <= own.value <= own.hi and own.n == 200
    assert found["cross_fitted", "c_cos"].n == 20


def test_reliability_compares_a_carrier_with_itself():
    pair = make_pair(6)
    first, second = (w[0] for w in half_weights(plain(N_H, N_B), 2, np.random.default_rng(5)))
    for kind, x in (("H", pair.h), ("R", pair.r)):
        expected = [unit(first[i] @ x) @ unit(second[i] @ x) for i in range(2)]
        np.testing.assert_allclose(reliability(pair, kind, first, second).cosine, expected)


def test_rotation_and_relabelling_of_prompts_leave_the_draws_alone():
    pair = make_pair(7)
    q = np.linalg.qr(np.random.default_rng(1).normal(size=(D, D)))[0]
    turned = PairSites(pair.h @ q, pair.r @ q, pair.h_rows @ q, pair.r_rows @ q, N_H, 4, 2, 1.0, 1.0)
    flipped = PairSites(-pair.h, pair.r, -pair.h_rows, pair.r_rows, N_H, 4, 2, 1.0, 1.0)
    weights = bootstrap_weights(plain(N_H, N_B), 20, np.random.default_rng(3))[0]
    base = coupled(pair, weights, weights)
    for other, sign in ((turned, 1), (flipped, -1)):
        draws = coupled(other, weights, weights)
        np.testing.assert_allclose(draws.cosine, sign * base.cosine, atol=1e-12)
        np.testing.assert_allclose(draws.c_sub, base.c_sub, atol=1e-9)


def test_a_site_without_difference_is_nan_not_noise():
    pair = make_pair(8)
    flat = PairSites(
        pair.h, np.full_like(pair.r, 0.1), pair.h_rows, np.full_like(pair.r_rows, 0.1), N_H, 4, 2, 1.0, 1.0
    )
    weights = bootstrap_weights(plain(N_H, N_B), 5, np.random.default_rng(3))[0]
    draws = coupled(flat, weights, weights)
    assert np.isnan(draws.cosine).all() and np.isnan(draws.c_sub).all()


def test_fixed_layer_rows():
    pair = make_pair(9, layer_r=4)
    rows = fixed_layer_companions(pair, 100, 10, rng_of)
    assert [(x.companion, x.quantity) for x in rows] == [
        ("fixed_layer", "c_cos"),
        ("fixed_layer_cross_fitted", "c_cos"),
        ("fixed_layer_cross_fitted", "c_sub"),
    ]
    assert rows[0].value == pytest.approx(observed(pair).c_cos)
    with pytest.raises(ValueError, match="one layer"):
        fixed_layer_companions(make_pair(9, layer_r=3), 10, 10, rng_of)


def test_same_generator_same_numbers_and_too_few_prompts():
    pair = make_pair(10)
    assert bootstrap_intervals(pair, 100, rng_of("x")) == bootstrap_intervals(pair, 100, rng_of("x"))
    assert bootstrap_intervals(pair, 100, rng_of("x")) != bootstrap_intervals(pair, 100, rng_of("y"))
    with pytest.raises(ValueError, match="4 fit prompts"):
        make_pair(0, n_h=3)


# ------------------------------------------------------------------------------------- R by what is refused


REFUSED = np.r_[
    np.ones(7, bool), np.zeros(3, bool), np.ones(2, bool), np.zeros(10, bool)
]  # of 10 harmful and 12 benign


def by_behaviour(**settings):
    return replace(make_pair(**settings), refused=REFUSED)


def delta(x, label, counts):
    """Difference of the means of two classes, each prompt taken `counts` times, prompt by prompt."""
    sides = [[x[i] for i in range(len(x)) if label[i] == side for _ in range(int(counts[i]))] for side in (True, False)]
    return np.mean(sides[0], 0) - np.mean(sides[1], 0)


def check_pair(pair, weights_h, weights_r, counts_h, counts_r, i):
    draws = coupled(pair, weights_h, weights_r)
    harmful = np.arange(N_H + N_B) < N_H
    h, r = delta(pair.h, harmful, counts_h), delta(pair.r, REFUSED, counts_r)
    assert draws.cosine[i] == pytest.approx(unit(h) @ unit(r), abs=1e-12)
    spaces = [position_subspace(np.array([delta(x, label, n) for x in rows]))
              for rows, label, n in ((pair.h_rows, harmful, counts_h), (pair.r_rows, REFUSED, counts_r))]  # fmt: skip
    assert draws.c_sub[i] == pytest.approx(subspace_coupling(*spaces), abs=1e-9)


def test_two_contrasts_resample_the_same_prompts():
    pair = by_behaviour(seed=4)
    weights_h, weights_r = bootstrap_weights(pair.labels(), 9, np.random.default_rng(3))
    counts = np.rint(np.where(np.arange(22) < N_H, weights_h * N_H, -weights_h * N_B))
    np.testing.assert_allclose(weights_r, np.where(REFUSED, counts / 9, -counts / 13))
    assert (counts[:, :7].sum(1) == 7).all() and (counts[:, 10:12].sum(1) == 2).all()  # within prompts alike in both
    check_pair(pair, weights_h, weights_r, counts[4], counts[4], 4)


def test_two_contrasts_on_disjoint_halves():
    pair = by_behaviour(seed=5)
    first, second = half_weights(pair.labels(), 6, np.random.default_rng(3))
    assert ((first[0] != 0) == (first[1] != 0)).all() and ((first != 0) ^ (second != 0)).all()
    check_pair(pair, first[0], second[1], first[0][2] != 0, second[1][2] != 0, 2)
    assert ((first[1] > 0).sum(1) == 4).all()  # three of seven and one of two refused ones


def test_shuffling_keeps_the_labels_of_a_prompt_together():
    pair = by_behaviour(seed=6)
    weights_h, weights_r = shuffled_weights(pair.labels(), 50, np.random.default_rng(3))
    both = ((weights_h > 0) & (weights_r > 0)).sum(1)
    assert (both == 7).all() and len(np.unique(weights_r, axis=0)) == 50


def test_companions_of_two_contrasts_are_not_one_by_construction():
    """At one site and layer H and R are one vector where they contrast the same prompts, and not otherwise."""
    counts = {"bootstrap": 30, "splits": 8, "rng": rng_of}
    for pair, one in ((make_pair(7, same=True), True), (by_behaviour(seed=7, same=True), False)):
        fixed = fixed_layer_companions(pair, **counts)[0]
        assert (fixed.value == pytest.approx(1)) == one and fixed.lo <= fixed.value <= fixed.hi + 1e-12


def test_too_few_refused():
    with pytest.raises(ValueError, match="3 of 22 are refused"):
        replace(make_pair(), refused=np.arange(22) < 3)
