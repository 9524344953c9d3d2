"""Coupling and geometry: known matrices, the papers' arithmetic, invariances, closed forms."""

import math

import numpy as np
import pytest

from safety_geometry.geometry.carriers import unit
from safety_geometry.geometry.coupling import (
    components_for,
    cosine_coupling,
    couple,
    effective_rank,
    field_geometry,
    hrci,
    hrci_repr,
    isotropic_coupling,
    layer_coupling,
    participation_ratio,
    position_subspace,
    principal_angles,
    site_drift,
    subspace_coupling,
)


def rotation(d, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def test_arithmetic_of_the_paper():
    """R2D2 reference of arXiv 2606.16349: layers 31 and 24, C_cos .0977, C_sub .0370."""
    c_layer = layer_coupling(31, 24)
    assert c_layer == pytest.approx(0.1738, abs=5e-5)
    assert hrci(0.0977, 0.0370, c_layer) == pytest.approx(0.0886, abs=5e-5)
    assert hrci_repr(0.0977, 0.0370) == pytest.approx(0.0674, abs=1e-4)


@pytest.mark.parametrize(
    ("repr_", "layer_r", "full"),
    [(0.0784, 23, 0.0898), (0.0662, 24, 0.0877), (0.0206, 0, 0.0166), (0.0205, 0, 0.0165), (0.0217, 24, 0.0521),
     (0.0206, 0, 0.0166), (0.0200, 0, 0.0161), (0.0191, 0, 0.0153), (0.0190, 0, 0.0153)],
)  # fmt: skip
def test_both_printed_indices_agree_at_h_layer_31(repr_, layer_r, full):
    assert hrci(repr_, repr_, layer_coupling(31, layer_r)) == pytest.approx(full, abs=1.2e-4)


def test_known_subspaces():
    e = np.eye(6)
    assert subspace_coupling(e[:, :3], e[:, :3]) == pytest.approx(1)
    assert subspace_coupling(e[:, :3], e[:, 3:]) == pytest.approx(0)
    assert subspace_coupling(e[:, :3], e[:, 2:5]) == pytest.approx(1 / 3)
    tilted = np.stack([np.cos(0.3) * e[0] + np.sin(0.3) * e[3], e[1], np.cos(1.1) * e[2] + np.sin(1.1) * e[5]], 1)
    expected = (np.cos(0.3) ** 2 + 1 + np.cos(1.1) ** 2) / 3
    assert subspace_coupling(e[:, :3], tilted) == pytest.approx(expected)
    np.testing.assert_allclose(principal_angles(e[:, :3], tilted), np.rad2deg([0, 0.3, 1.1]), atol=1e-6)
    assert math.isnan(subspace_coupling(e[:, :0], tilted))


def test_small_angles_are_exact():
    a = np.eye(4)[:, :1]
    b = np.array([[math.cos(1e-9)], [math.sin(1e-9)], [0], [0]])
    assert principal_angles(a, b)[0] == pytest.approx(math.degrees(1e-9), rel=1e-6)


def test_position_subspace_recovers_planted_directions():
    q = rotation(10)[:, :3]
    rows = np.random.default_rng(1).normal(size=(5, 3)) * [9, 4, 2] @ q.T
    basis = position_subspace(rows, 3)
    np.testing.assert_allclose(basis.T @ basis, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(basis @ basis.T, q @ q.T, atol=1e-10)
    leading = position_subspace(rows, 1)[:, 0]
    values, vectors = np.linalg.eigh(rows.T @ rows)
    assert abs(leading @ vectors[:, -1]) == pytest.approx(1)
    assert values[-1] > values[-2]


def test_position_subspace_drops_what_is_only_rounding():
    rows = np.outer(np.arange(1.0, 6), np.eye(8)[2])
    assert position_subspace(rows, 3).shape == (8, 1)
    noise = 1e-7 * np.random.default_rng(0).normal(size=(5, 8))
    assert position_subspace(noise, 3).shape == (8, 3)
    assert position_subspace(noise, 3, scale=1.0).shape == (8, 0)
    with pytest.raises(ValueError, match="k = 6"):
        position_subspace(rows, 6)


def test_coupling_is_invariant_to_rotation_and_sign():
    rng = np.random.default_rng(2)
    d, q = 12, rotation(12, 5)
    h, r = unit(rng.normal(size=d)), unit(rng.normal(size=d))
    rows_h, rows_r = rng.normal(size=(5, d)), rng.normal(size=(5, d))
    base = couple(h, r, position_subspace(rows_h), position_subspace(rows_r), 9, 6)
    turned = couple(q @ h, q @ r, position_subspace(rows_h @ q.T), position_subspace(rows_r @ q.T), 9, 6)
    flipped = couple(-h, r, position_subspace(-rows_h), -position_subspace(rows_r), 6, 9)
    for other in (turned, flipped):
        assert [getattr(other, f) for f in vars(base)] == pytest.approx([getattr(base, f) for f in vars(base)])
    cosines = np.linalg.svd(position_subspace(rows_h).T @ position_subspace(rows_r))[1]
    assert base.c_sub == pytest.approx(np.mean(cosines**2))
    assert base.c_cos == pytest.approx(abs(h @ r)) == cosine_coupling(3 * h, -2 * r)
    assert base.hrci == pytest.approx(0.4 * base.c_cos + 0.4 * base.c_sub + 0.2 * math.exp(-0.75))


def test_chance_level_matches_simulation_and_the_paper():
    chance = isotropic_coupling(4096, 3, 31, 0)
    assert chance.c_cos == pytest.approx(0.0125, abs=5e-5)
    assert chance.c_sub == pytest.approx(3 / 4096)
    assert chance.hrci_repr == pytest.approx(0.0066, abs=5e-5)
    assert isotropic_coupling(1, 1, 0, 0).c_cos == pytest.approx(1)  # on a line
    assert isotropic_coupling(3, 1, 0, 0).c_cos == pytest.approx(0.5)  # cos is uniform on a sphere
    rng = np.random.default_rng(3)
    u, v = (unit(rng.normal(size=(20000, 7))) for _ in range(2))
    assert np.abs((u * v).sum(1)).mean() == pytest.approx(isotropic_coupling(7, 3, 0, 0).c_cos, rel=0.03)
    bases = np.linalg.qr(rng.normal(size=(2, 4000, 7, 3)))[0]
    overlap = ((bases[0].transpose(0, 2, 1) @ bases[1]) ** 2).sum((1, 2)) / 3
    assert overlap.mean() == pytest.approx(3 / 7, rel=0.03)


def test_effective_rank_and_participation_ratio():
    assert effective_rank(np.ones(5)) == pytest.approx(5)
    assert participation_ratio(np.ones(5)) == pytest.approx(5)
    assert effective_rank(np.array([2.0, 0, 0])) == pytest.approx(1)
    sigma = np.array([3.0, 1.0])  # energies .9 and .1, not .75 and .25
    assert effective_rank(sigma) == pytest.approx(math.exp(-0.9 * math.log(0.9) - 0.1 * math.log(0.1)))
    assert participation_ratio(sigma) == pytest.approx(100 / 82)
    assert participation_ratio(1e-9 * sigma) == pytest.approx(100 / 82)  # no unit in it
    assert (components_for(sigma, 0.90), components_for(sigma, 0.95)) == (1, 2)
    with pytest.raises(ValueError, match="zero or not finite"):
        effective_rank(np.zeros(3))


def test_field_geometry_is_not_centred():
    field = np.broadcast_to(np.array([1.0, 2, 2]), (2, 4, 3))
    shape = field_geometry(field)
    assert (shape.erank, shape.pr) == pytest.approx((1, 1))
    assert (shape.k90, shape.k95, shape.basis.shape) == (1, 1, (3, 1))
    rng = np.random.default_rng(4)
    field = rng.normal(size=(3, 2, 9))
    eigen = np.linalg.eigvalsh(field.reshape(6, 9) @ field.reshape(6, 9).T)
    q = eigen / eigen.sum()
    shape = field_geometry(field)
    assert shape.erank == pytest.approx(math.exp(-(q * np.log(q)).sum()))
    assert shape.pr == pytest.approx(1 / (q**2).sum())
    assert shape.k90 == int(np.argmax(np.cumsum(q[::-1]) >= 0.9)) + 1


def test_site_drift():
    delta, other = np.zeros((2, 3, 4)), np.zeros((2, 3, 4))
    other[0, 1], delta[0, 1] = [2, 0, 0, 0], [-3, 4, 0, 0]
    delta[1, 2] = [0, 0, 5, 0]
    same = site_drift(delta, other, (0, 1), (0, 1))
    assert (same.own_sites, same.fixed) == pytest.approx((0.4, -0.6))
    moved = site_drift(delta, other, (1, 2), (0, 1))
    assert (moved.own_sites, moved.fixed) == pytest.approx((1.0, -0.6))
