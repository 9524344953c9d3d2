"""Each kind of control against its definition, and the cells that are made of them."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import subspace_angles

from safety_geometry.causal import controls as controls_module
from safety_geometry.causal import plan
from safety_geometry.causal.cells import Carriers, Unit, make_unit
from safety_geometry.causal.controls import (
    Source,
    draw_shared,
    energy,
    norm_matched,
    wrong_layers,
    wrong_positions,
)
from safety_geometry.causal.modes import Part, cosine, orthonormal, without
from safety_geometry.causal.names import KINDS, MODES, SHARED
from safety_geometry.causal.plan import SweepPlan, Target

D, LAYERS, POSITIONS = 10, 8, (-3, -2, -1, "t_inst")
H_SITE, R_SITE = ("t_inst", 5), (-1, 3)


def fit(position, layer):
    """24 activations, the first 14 harmful; classes apart, and far from isotropic. No difference at layer 0 of position −1."""
    rng = np.random.default_rng([layer, POSITIONS.index(position)])
    shape = np.diag(np.linspace(3.0, 0.1, D)) @ np.random.default_rng(99).standard_normal((D, D))
    values = rng.standard_normal((24, D)) @ shape
    values[:14] += 10 * rng.standard_normal(D)
    return (np.ones((24, D)), 14) if (position, layer) == (-1, 0) else (values, 14)


def source(carrier="R", site=None, rank=1) -> Source:
    return Source(carrier, site or (H_SITE if carrier == "H" else R_SITE), fit, POSITIONS, (-3, -2, -1), LAYERS, rank)


def stream(layer) -> np.ndarray:
    rng = np.random.default_rng([7, layer])
    return rng.standard_normal((40, D)) @ np.diag(np.linspace(2.0, 0.2, D)) + 1.5


class Streams(dict):
    def __missing__(self, layer):
        return stream(layer)


def checkpoint(rank=1, sites=(H_SITE, R_SITE), scale=(1.0, 1.0, 1.0)) -> Carriers:
    sources = {c: source(c, site, rank) for c, site in zip("HR", sites, strict=True)}
    h, r = (sources[c].directions(*sources[c].site) for c in "HR")
    return Carriers(h, r, sources, Streams(), dict(zip(("H", "R", "HR"), scale, strict=True)))


def target_unit(target, at, counts, seed, generate=None) -> Unit:
    return make_unit(plan.target_unit(target, counts, generate), at, seed)


def shared_units(targets, at, counts, seed, permutations=0, generate=None) -> list[Unit]:
    made = (make_unit(unit, at, seed) for unit in plan.shared_units(targets, counts, permutations, generate))
    return [unit for unit in made if unit is not None]


def scan_unit(mode, family, strength, layers, at) -> Unit | None:
    return make_unit(plan.scan_unit(Target(family, mode, strength), layers), at, 1)


def rows_of(controls) -> np.ndarray:
    return np.concatenate([c.part.basis for c in controls])


def is_orthonormal(basis) -> bool:
    return np.allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-12)


# ------------------------------------------------------------------------------------------------------------- kinds


def test_random_is_isotropic():
    drawn = rows_of(draw_shared("random", source(), 1500, 1))
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1, atol=1e-12)
    assert np.abs(drawn.mean(0)).max() < 5 / np.sqrt(1500 * D)
    np.testing.assert_allclose(drawn.T @ drawn / len(drawn), np.eye(D) / D, atol=5 * np.sqrt(2 / D**2 / 1500))
    # of coordinates of uniform unit vectors: E x⁴ = 3 / (d (d + 2))
    assert (drawn**4).mean() == pytest.approx(3 / (D * (D + 2)), rel=0.08)


def test_covariance_draws_vary_as_the_activations_within_their_classes():
    s = source()
    values, n = fit(*s.site)
    rest = np.concatenate([values[:n] - values[:n].mean(0), values[n:] - values[n:].mean(0)])
    within = rest.T @ rest / len(rest)
    # Moments of g / ‖g‖, g ~ N(0, Σ), from an independent sampler: the Cholesky factor of Σ.
    g = np.random.default_rng(5).standard_normal((20_000, D)) @ np.linalg.cholesky(within + 1e-12 * np.eye(D)).T
    g /= np.linalg.norm(g, axis=1, keepdims=True)
    want = g.T @ g / len(g)
    drawn = rows_of(draw_shared("covariance", s, 1500, 1))
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(drawn.T @ drawn / len(drawn), want, atol=0.05)
    assert np.abs(drawn.mean(0)).max() < 0.08  # not along the difference of the classes
    total = values - values.mean(0)
    other = np.random.default_rng(5).standard_normal((5000, len(total))) @ total
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    assert np.abs(other.T @ other / len(other) - want).max() > 0.15  # the covariance over both classes is another one


def test_shuffled_is_the_difference_of_permuted_classes():
    s = source()
    values, n = fit(*s.site)
    for control in draw_shared("shuffled", s, 3, 9):
        order = np.random.default_rng(control.seed).permutation(len(values))
        harmful = np.mean([values[i] for i in order[:n]], axis=0)
        benign = np.mean([values[i] for i in order[n:]], axis=0)
        want = (harmful - benign) / np.linalg.norm(harmful - benign)
        np.testing.assert_allclose(control.part.basis[0], want, atol=1e-12)
        assert control.source == s.site
        assert abs(want @ s.directions(*s.site)[0]) < 0.999


def two_kinds(position, layer):
    """Four activations, two of each kind: of six ways to halve them, four give equal means."""
    return np.repeat([np.eye(D)[0], np.eye(D)[1]], 2, axis=0), 2


def test_a_permutation_whose_classes_do_not_differ_is_drawn_again(monkeypatch):
    s = Source("R", R_SITE, two_kinds, POSITIONS, (-1,), LAYERS)
    found = draw_shared("shuffled", s, 12, 9)
    values, n = s.fit(*R_SITE)
    again = 0
    for control in found:
        rng = np.random.default_rng(control.seed)
        orders = [rng.permutation(4) for _ in range(30)]
        means = [values[o][:n].mean(0) - values[o][n:].mean(0) for o in orders]
        first = next(i for i, m in enumerate(means) if np.linalg.norm(m) > 0)
        again += first > 0
        np.testing.assert_allclose(control.part.basis[0], means[first] / np.linalg.norm(means[first]), atol=1e-12)
    assert len(found) == 12 and again > 3
    assert [c.number for c in draw_shared("shuffled", s, 5, 9)] == list(range(5))
    monkeypatch.setattr(controls_module, "REDRAWS", 0)
    kept = draw_shared("shuffled", s, 12, 9)  # those whose first permutation will do, by their own numbers
    assert len(kept) == 12 - again and {c.number for c in kept} < set(range(12))


def test_a_control_that_one_carrier_lacks_is_left_out_of_both(monkeypatch):
    monkeypatch.setattr(controls_module, "REDRAWS", 0)
    at = checkpoint()
    two = Source("H", H_SITE, two_kinds, POSITIONS, (-1,), LAYERS)
    at = replace(at, sources={"H": two, "R": at.sources["R"]})
    kept = [c.number for c in draw_shared("shuffled", two, 12, 1)]
    assert 0 < len(kept) < 12
    unit = shared_units([Target("ablate", "h_plus_r", 1)], at, {"shuffled": 12}, 1)[-1]
    assert [cell.rows[0]["number"] for cell in unit.cells] == kept
    for cell, number in zip(unit.cells, kept, strict=True):
        own = draw_shared("shuffled", at.sources["R"], 12, 1)[number]
        np.testing.assert_allclose(cell.interventions[1].basis.numpy(), own.part.basis, atol=1e-6)


def test_shuffled_subspaces_permute_all_positions_alike():
    s = source(rank=2)
    (control,) = draw_shared("shuffled", s, 1, 4)
    order = np.random.default_rng(control.seed).permutation(24)
    deltas = np.stack(
        [(lambda v: v[order][:14].mean(0) - v[order][14:].mean(0))(fit(p, s.site[1])[0]) for p in (-3, -2, -1)]
    )
    want = np.linalg.svd(deltas)[2][:2]
    assert np.max(subspace_angles(want.T, control.part.basis.T)) < 1e-7


def test_wrong_layers_are_far_and_name_their_source():
    for carrier, layer in itertools.product("HR", (0, 3, 5, 7)):
        s = source(carrier, ("t_inst", layer))
        controls = wrong_layers(s, 99, 1)
        assert sorted(c.source[1] for c in controls) == [x for x in range(LAYERS) if abs(x - layer) >= 2]
        for control in controls:
            assert control.source[0] == "t_inst" and control.part.layer == layer  # read there, acting here
            values, n = fit(*control.source)
            delta = values[:n].mean(0) - values[n:].mean(0)
            np.testing.assert_allclose(control.part.basis[0], delta / np.linalg.norm(delta), atol=1e-12)
    # layer 0 of position −1 has no direction
    assert 0 not in [c.source[1] for c in wrong_layers(source(site=(-1, 6)), 99, 1)]


def test_wrong_positions():
    s = source()
    controls = wrong_positions(s, 99, 1)
    assert sorted(str(c.source[0]) for c in controls) == sorted(["-3", "-2", "t_inst"])
    for control in controls:
        assert control.source[1] == control.part.layer == R_SITE[1]
        values, n = fit(*control.source)
        delta = values[:n].mean(0) - values[n:].mean(0)
        np.testing.assert_allclose(control.part.basis[0], delta / np.linalg.norm(delta), atol=1e-12)
    assert wrong_positions(source(rank=2), 99, 1) == []  # a subspace is made of all positions


@pytest.mark.parametrize("rank", [1, 3])
def test_norm_matched_takes_away_the_energy_of_the_target(rank):
    """Token by token: mean ‖λ Qᵀ Q a‖² over mean ‖a‖²."""
    tokens = stream(3)
    target = Part("R", 3, orthonormal(np.random.default_rng(rank).standard_normal((rank, D))))

    def removed(basis, strength):
        gone = [strength * sum((a @ q) * q for q in basis) for a in tokens]
        return np.mean([g @ g for g in gone]) / np.mean([a @ a for a in tokens])

    assert energy(target.basis, tokens) == pytest.approx(removed(target.basis, 1), rel=1e-12)
    for control, factor in norm_matched(target, tokens, 6, 2):
        assert is_orthonormal(control.part.basis) and 0 < factor <= 1
        for strength in (1.0, 0.5, -2.0):
            want = removed(target.basis, strength)
            assert removed(control.part.basis, factor * strength) == pytest.approx(want, rel=1e-9)
        if len(control.part.basis) > 1:  # as few directions as will do
            assert energy(control.part.basis[:-1], tokens) < energy(target.basis, tokens)


def test_norm_matched_whole_space():
    """A target that holds nearly all of the energy needs all directions, and no more."""
    tokens = stream(1)
    target = Part("H", 1, np.linalg.svd(tokens)[2][: D - 1])
    ((control, factor),) = norm_matched(target, tokens, 1, 0)
    assert energy(control.part.basis, tokens) * factor**2 == pytest.approx(energy(target.basis, tokens), rel=1e-9)


# ------------------------------------------------------------------------------------------------------------- seeds


def draws(kind, s, count, seed):
    if kind in SHARED:
        return draw_shared(kind, s, count, seed)
    if kind == "norm_matched":
        part = Part(s.carrier, s.site[1], s.directions(*s.site))
        return [control for control, _ in norm_matched(part, stream(s.site[1]), count, seed)]
    return (wrong_layers if kind == "wrong_layer" else wrong_positions)(s, count, seed)


@pytest.mark.parametrize("kind", KINDS)
def test_the_nth_control_does_not_depend_on_the_count(kind):
    few, many = draws(kind, source(), 2, 3), draws(kind, source(), 5, 3)
    assert len(few) == 2 and len(many) in (3, 4, 5)
    for a, b in zip(few, many, strict=False):
        assert (a.number, a.seed, a.source) == (b.number, b.seed, b.source)
        np.testing.assert_array_equal(a.part.basis, b.part.basis)
    assert [c.number for c in many] == list(range(len(many)))
    assert not any(np.allclose(a.part.basis[0], b.part.basis[0]) for a, b in itertools.combinations(many, 2))


def test_seeds_differ_between_kinds_carriers_numbers_and_seeds():
    seeds = [
        control.seed
        for kind, carrier, seed in itertools.product((*SHARED, "norm_matched"), "HR", (0, 1, 2))
        for control in draws(kind, source(carrier), 9, seed)
    ]
    assert None not in seeds and len(set(seeds)) == len(seeds) == 4 * 2 * 3 * 9
    a, b = (draws("random", source(c, ("t_inst", 5)), 1, 0)[0].part.basis for c in "HR")
    assert not np.allclose(a, b)


def test_unknown_kind():
    with pytest.raises(ValueError, match=r"'wrong_layer'.*random, covariance, shuffled"):
        draw_shared("wrong_layer", source(), 1, 0)


# ------------------------------------------------------------------------------------------------------------ cosine


@pytest.mark.parametrize(("k", "m"), [(1, 1), (3, 3), (2, 4), (1, 5)])
def test_cosine_is_the_root_mean_square_of_principal_cosines(k, m):
    rng = np.random.default_rng([k, m])
    a, b = (Part("H", 1, orthonormal(rng.standard_normal((n, D)))) for n in (k, m))
    c, e = (Part("R", 2, orthonormal(rng.standard_normal((n, D)))) for n in (m, k))
    pairs = [np.sqrt(np.mean(np.cos(subspace_angles(x.basis.T, y.basis.T)) ** 2)) for x, y in ((a, b), (c, e))]
    assert cosine((a,), (b,)) == pytest.approx(pairs[0], abs=1e-12)
    assert cosine((a, c), (b, e)) == pytest.approx(np.mean(pairs), abs=1e-12)
    assert cosine((a, c), (a, c)) == pytest.approx(1, abs=1e-12)
    if k == m == 1:
        assert cosine((a,), (b,)) == pytest.approx(abs(float(a.basis[0] @ b.basis[0])), abs=1e-12)
        assert cosine((a,), (replace(a, basis=-a.basis),)) == pytest.approx(1, abs=1e-12)


# ------------------------------------------------------------------------------------------------------------- cells

COUNTS = {"random": 3, "covariance": 2, "shuffled": 2, "wrong_layer": 2, "wrong_position": 2, "norm_matched": 2}
COLUMNS = {
    "target", "family", "mode", "scope", "rank", "lambda", "control", "number", "control_seed_h", "control_seed_r", "layer_h", "layer_r",
    "source_layer_h", "source_layer_r", "source_position_h", "source_position_r", "abs_cos", "energy", "lambda_matched", "capped", "dose",
    "primary",
}  # fmt: skip
ACTING = {"h_only": (5, None), "h_perp_r": (5, None), "r_only": (None, 3), "r_perp_h": (None, 3), "h_plus_r": (5, 3)}


def removed_energy(cell, at) -> float:
    """From the interventions themselves, summed over their layers, token by token."""
    total = 0.0
    for item in cell.interventions:
        tokens, basis = at.stream[item.layer], item.basis.double().numpy()
        if item.family == "ablate":
            gone = [item.strength * basis.T @ (basis @ a) for a in tokens]
        else:
            gone = [item.strength * basis.sum(0)] * len(tokens)
        total += np.mean([g @ g for g in gone]) / np.mean([a @ a for a in tokens])
    return total


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", ["ablate", "steer"])
def test_target_unit(mode, family):
    at, target = checkpoint(scale=(2.0, 3.0, 2.5)), Target(family, mode, -0.5, primary=True)
    unit = target_unit(target, at, COUNTS, 1, generate={"wrong_layer": 1, "norm_matched": 0})
    assert target.id == unit.name == unit.cells[0].id == f"{family}:{mode}:-0.5:layer:1"
    kinds = [cell.rows[0]["control"] for cell in unit.cells]
    other = ["norm_matched"] * 2 if family == "ablate" else []  # a random vector of the length is `random`
    assert kinds == ["target", *["wrong_layer"] * 2, *["wrong_position"] * 2, *other]
    assert [c.generated for c in unit.cells] == [True, True, *[False] * (3 + len(other))]
    assert all(cell.kl for cell in unit.cells)
    for cell in unit.cells:
        (row,) = cell.rows
        assert set(row) == COLUMNS
        if row["control"] != "target":
            assert cell.id == f"{target.id}/{row['control']}/{row['number']}"
        assert (row["target"], row["family"], row["mode"], row["lambda"]) == (target.id, family, mode, -0.5)
        assert (row["scope"], row["rank"], row["primary"]) == ("layer", 1, True)
        assert (row["layer_h"], row["layer_r"]) == ACTING[mode]
        assert sorted(i.layer for i in cell.interventions) == sorted(x for x in ACTING[mode] if x is not None)
        assert row["energy"] == pytest.approx(removed_energy(cell, at), rel=1e-5)  # interventions are float32
        for carrier, layer in zip("hr", ACTING[mode], strict=True):
            acts = layer is not None
            assert (row[f"control_seed_{carrier}"] is not None) == (acts and row["control"] == "norm_matched")
            assert (row[f"source_layer_{carrier}"] is not None) == (acts and row["control"].startswith("wrong"))
            assert (row[f"source_position_{carrier}"] is not None) == (acts and row["control"].startswith("wrong"))
        pairs = zip(cell.interventions, at.parts(target), strict=True)
        cosines = [
            np.sqrt(np.mean(np.cos(subspace_angles(item.basis.double().numpy().T, part.basis.T)) ** 2))
            for item, part in pairs
        ]
        assert row["abs_cos"] == pytest.approx(np.mean(cosines), abs=1e-6)
    first = unit.cells[0].rows[0]
    assert first["abs_cos"] == 1
    assert first["lambda_matched"] == -0.5 and not first["capped"]
    for cell in unit.cells[1:]:
        (row,) = cell.rows
        assert row["capped"] == (row["energy"] < first["energy"] * (1 - 1e-9))
        if not row["capped"]:
            assert row["energy"] == pytest.approx(first["energy"], rel=1e-9)
        if row["control"] != "norm_matched":
            assert {item.strength for item in cell.interventions} == {
                row["lambda_matched"] * (at.scale["H"] if item.layer == 5 else at.scale["R"]) if family == "steer"
                else row["lambda_matched"] for item in cell.interventions
            }  # fmt: skip
            assert abs(row["lambda_matched"]) <= 3.0 and row["lambda_matched"] < 0


def test_controls_of_orthogonalised_modes_are_orthogonalised_too():
    at = checkpoint()
    for mode, other in (("h_perp_r", at.r), ("r_perp_h", at.h)):
        unit = target_unit(Target("ablate", mode, 1), at, COUNTS, 1)
        for cell in unit.cells:
            if cell.rows[0]["control"] != "norm_matched":  # a random subspace of the target's energy
                assert np.abs(cell.interventions[0].basis.double().numpy() @ other.T).max() < 1e-6
        read = unit.cells[1]
        carrier = "H" if mode == "h_perp_r" else "R"
        direction = at.sources[carrier].directions(
            at.sources[carrier].site[0], read.rows[0][f"source_layer_{carrier.lower()}"]
        )
        np.testing.assert_allclose(read.interventions[0].basis.numpy(), without(direction, other), atol=1e-6)
        assert not read.generated  # answers were not asked for


def test_h_plus_r_at_one_layer_is_one_edit():
    at = checkpoint(sites=(("t_inst", 5), (-1, 5)), scale=(2.0, 3.0, 2.5))
    for family in ("ablate", "steer"):
        unit = target_unit(Target(family, "h_plus_r", 2), at, COUNTS, 1)
        for cell in unit.cells:
            (item,) = cell.interventions
            (row,) = cell.rows
            assert item.layer == row["layer_h"] == row["layer_r"] == 5
            if family == "ablate" and row["control"] != "norm_matched":
                basis = item.basis.double().numpy()
                np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-6)
                # Two other positions can be one and the same, or the two carriers' own in exchange.
                assert len(basis) == 2 or row["control"] == "wrong_position"
            if family == "steer":
                assert float((item.strength * item.basis.sum(0)).norm()) == pytest.approx(2 * 2.5, rel=1e-6)
            assert row["energy"] == pytest.approx(removed_energy(cell, at), rel=1e-5)
            if row["control"] == "norm_matched":  # one draw stands for both carriers
                assert row["control_seed_h"] == row["control_seed_r"] is not None


def test_shared_controls_of_additions_stand_once_and_serve_several_targets():
    """Modes of one carrier and both signs: a drawn direction has none, and acts with |λ|."""
    at = checkpoint()
    targets = [Target("steer", mode, x) for x in (-1.0, 1.0) for mode in ("h_only", "h_perp_r")]
    assert {target.group for target in targets} == {"steer:H:1:layer:1"} != {Target("steer", "r_only", 1).group}
    units = shared_units(targets, at, COUNTS, 1, generate={"random": 2, "shuffled": 1})
    assert [u.name for u in units] == [f"steer:H:1:layer:1/{kind}" for kind in SHARED]
    assert [len(u.cells) for u in units] == [3, 2, 2]
    for unit, kind in zip(units, SHARED, strict=True):
        drawn = draw_shared(kind, at.sources["H"], 3, 1)
        for number, cell in enumerate(unit.cells):
            assert cell.id == f"steer:H:1:layer:1/{kind}/{number}"
            assert [(row["target"], row["mode"], row["lambda"]) for row in cell.rows] == [
                (t.id, t.mode, t.strength) for t in targets
            ]
            for row, target in zip(cell.rows, targets, strict=True):
                assert set(row) == COLUMNS
                assert (row["control_seed_h"], row["control_seed_r"]) == (drawn[number].seed, None)
                assert (row["control"], row["number"], row["primary"]) == (kind, number, False)
                assert row["abs_cos"] == pytest.approx(abs(cell.interventions[0].basis[0].numpy() @ at.parts(target)[0].basis[0]), abs=1e-6)  # fmt: skip
                assert row["energy"] == pytest.approx(removed_energy(cell, at), rel=1e-5)
                assert row["lambda_matched"] == cell.interventions[0].strength == 1.0 and not row["capped"]
            np.testing.assert_allclose(cell.interventions[0].basis.numpy(), drawn[number].part.basis, atol=1e-6)
            assert cell.generated == (number < {"random": 2, "shuffled": 1}.get(kind, 0)) and cell.kl
    ids = [cell.id for unit in units for cell in unit.cells]
    assert len(set(ids)) == len(ids)


def test_controls_of_ablations_are_their_targets_own_and_of_the_same_directions():
    """H and H ⊥ R hold different energies: one draw, two strengths."""
    at = checkpoint()
    modes = ("h_only", "h_perp_r")
    of_modes = [shared_units([Target("ablate", mode, 1.0)], at, COUNTS, 1) for mode in modes]
    for mode, units in zip(modes, of_modes, strict=True):
        assert [u.name for u in units] == [f"ablate:{mode}:1:layer:1/{kind}" for kind in SHARED]
        assert all(len(cell.rows) == 1 for unit in units for cell in unit.cells)
    first, second = ([cell for unit in units for cell in unit.cells] for units in of_modes)
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.interventions[0].basis, b.interventions[0].basis)
        assert a.interventions[0].strength != b.interventions[0].strength or a.rows[0]["capped"]


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("mode", MODES)
def test_ablation_controls_of_every_kind_remove_the_targets_energy_or_are_capped(mode, rank):
    """λ′ = λ √(E/E′) from the interventions, token by token; beyond the cap the strength is the cap, and the row says so."""
    at = replace(checkpoint(rank=rank), max_matched=1.5)
    seen = set()
    for strength in (1.0, -2.0):
        target = Target("ablate", mode, strength, rank=rank)
        own = target_unit(target, at, COUNTS, 1)
        wanted = removed_energy(own.cells[0], at)
        cells = [
            *own.cells[1:],
            *(c for unit in shared_units([target], at, dict.fromkeys(SHARED, 8), 1) for c in unit.cells),
        ]
        for cell in cells:
            (row,) = cell.rows
            if row["control"] == "norm_matched":
                assert not row["capped"]
                continue
            plain = replace(cell, interventions=tuple(replace(item, strength=strength) for item in cell.interventions))
            needed = abs(strength) * np.sqrt(wanted / removed_energy(plain, at))
            most = max(1.5, abs(strength))
            assert row["capped"] == (needed > most)
            assert row["lambda_matched"] == pytest.approx(np.sign(strength) * min(needed, most), rel=1e-6)
            assert row["energy"] == pytest.approx(removed_energy(cell, at), rel=1e-5)
            if not row["capped"]:
                assert removed_energy(cell, at) == pytest.approx(wanted, rel=1e-6)
            seen.add(row["capped"])
    assert seen == {True, False}


def test_a_direction_without_energy_is_capped():
    """Nothing of the stream lies along it, so that no strength would do."""
    at = checkpoint()
    tokens = stream(3)
    flat = tokens - np.outer(tokens @ at.r[0], at.r[0])  # the target's own energy is gone: no strength is wanted
    still = replace(at, stream={3: flat, 5: stream(5)})
    cells = [c for unit in shared_units([Target("ablate", "r_only", 1.0)], still, COUNTS, 1) for c in unit.cells]
    assert all(abs(c.rows[0]["lambda_matched"]) < 1e-6 and not c.rows[0]["capped"] for c in cells)
    only = replace(at, stream={3: np.outer(tokens @ at.r[0], at.r[0]), 5: stream(5)})  # all of it lies along R
    rows = [c.rows[0] for c in target_unit(Target("ablate", "r_only", 1.0), only, {"wrong_layer": 2}, 1).cells[1:]]
    assert all(row["capped"] == (row["abs_cos"] < 1 / 3) for row in rows) and len(rows) == 2


def test_the_first_controls_that_are_not_capped_answer():
    at = replace(checkpoint(), max_matched=1.0)
    target = Target("ablate", "r_only", 1.0)
    for unit in shared_units([target], at, dict.fromkeys(SHARED, 8), 1, generate=dict.fromkeys(SHARED, 3)):
        capped = [cell.rows[0]["capped"] for cell in unit.cells]
        order = [n for n in range(8) if not capped[n]] + [n for n in range(8) if capped[n]]
        assert {n for n, cell in enumerate(unit.cells) if cell.generated} == set(order[:3])


def test_directions_beyond_the_counts_that_answer_are_read_on_benign_prompts_too():
    at = replace(checkpoint(), max_matched=1.0)
    target = Target("ablate", "r_only", 1.0, primary=True)
    units = shared_units([target], at, dict.fromkeys(SHARED, 1), 1, permutations=24, generate=dict.fromkeys(SHARED, 2))
    cells = [cell for unit in units for cell in unit.cells]
    assert any(cell.generated and cell.rows[0]["number"] >= 1 for cell in cells)
    assert all(cell.kl == (cell.rows[0]["number"] < 1 or cell.generated) for cell in cells)


@pytest.mark.parametrize("mode", MODES)
def test_dose_is_the_added_length_over_the_mean_norm(mode):
    at = checkpoint(scale=(2.0, 3.0, 2.5))
    target = Target("steer", mode, -0.5)
    norms = {layer: np.mean([np.sqrt(a @ a) for a in stream(layer)]) for layer in (3, 5)}
    wanted = {"h": 0.5 * 2.0 / norms[5], "r": 0.5 * 3.0 / norms[3]}
    parts = {"h_only": "h", "h_perp_r": "h", "r_only": "r", "r_perp_h": "r", "h_plus_r": "hr"}[mode]
    cells = [
        *target_unit(target, at, COUNTS, 1).cells,
        *(c for u in shared_units([target], at, COUNTS, 1) for c in u.cells),
    ]
    assert [cell.rows[0]["dose"] for cell in cells] == pytest.approx([sum(wanted[p] for p in parts)] * len(cells))
    ablated = target_unit(Target("ablate", mode, 1.0), at, COUNTS, 1)
    assert all(cell.rows[0]["dose"] is None for cell in ablated.cells)


def test_permutation_directions_serve_primary_targets_and_are_read_for_log_odds_only():
    at = checkpoint()
    targets = [Target("steer", mode, 1) for mode in ("h_only", "h_perp_r")]
    units = shared_units([targets[0], replace(targets[1], primary=True)], at, COUNTS, 1, permutations=20)
    assert [len(u.cells) for u in units] == [7, 7, 7]  # a third of 20, rounded up
    plain = shared_units(targets, at, COUNTS, 1)
    for unit, before, kind in zip(units, plain, SHARED, strict=True):
        for number, cell in enumerate(unit.cells):
            known = number < COUNTS[kind]
            assert cell.kl == known and not cell.generated
            assert [row["target"] for row in cell.rows] == [t.id for t in targets[0 if known else 1 :]]
            assert [row["primary"] for row in cell.rows] == [False, True][0 if known else 1 :]
        for a, b in zip(before.cells, unit.cells, strict=False):  # more of them change none
            assert a.id == b.id and np.array_equal(a.interventions[0].basis, b.interventions[0].basis)


def test_shared_controls_of_both_carriers():
    at, target = checkpoint(), Target("steer", "h_plus_r", 2)
    units = shared_units([target], at, COUNTS, 1)
    for unit in units:
        for cell in unit.cells:
            assert cell.id.startswith("steer:HR:2:layer:1/") and [i.layer for i in cell.interventions] == [5, 3]
            a, b = (i.basis[0].numpy() for i in cell.interventions)
            assert abs(a @ b) < 0.999  # two draws, not one
            (row,) = cell.rows
            assert (row["layer_h"], row["layer_r"]) == (5, 3)
            for carrier, item in zip("HR", cell.interventions, strict=True):  # each draw can be made again from its row
                drawn = draw_shared(row["control"], at.sources[carrier], row["number"] + 1, 1)[-1]
                assert drawn.seed == row[f"control_seed_{carrier.lower()}"]
                np.testing.assert_allclose(item.basis.numpy(), drawn.part.basis, atol=1e-6)
                read = (H_SITE if carrier == "H" else R_SITE) if row["control"] == "shuffled" else (None, None)
                position, layer = (row[f"source_{name}_{carrier.lower()}"] for name in ("position", "layer"))
                assert (position, layer) == (read[0] and str(read[0]), read[1])
            assert row["control_seed_h"] != row["control_seed_r"]


def test_subspaces_have_controls_of_the_same_rank():
    at, target = checkpoint(rank=3), Target("ablate", "r_only", 1, rank=3)
    unit = target_unit(target, at, COUNTS, 1)
    kinds = {cell.rows[0]["control"] for cell in unit.cells}
    assert kinds == {"target", "wrong_layer", "norm_matched"}
    for cell in [*unit.cells, *(c for u in shared_units([target], at, COUNTS, 1) for c in u.cells)]:
        row = cell.rows[0]
        assert row["rank"] == 3
        if row["control"] != "norm_matched" and row["source_layer_r"] != 0:  # position −1 has no difference at layer 0
            assert len(cell.interventions[0].basis) == 3


def test_all_layers_scope_acts_everywhere():
    at, target = checkpoint(), Target("ablate", "h_only", 1, scope="all_layers")
    unit = target_unit(target, at, COUNTS, 1)
    assert all(item.layer is None for cell in unit.cells for item in cell.interventions)
    assert target.id == "ablate:h_only:1:all_layers:1" and unit.cells[0].rows[0]["scope"] == "all_layers"


@pytest.mark.parametrize("mode", MODES)
def test_scan_unit_reads_and_acts_at_each_layer(mode):
    at = checkpoint()
    unit = scan_unit(mode, "ablate", 1.0, range(LAYERS), at)
    assert unit.name == f"ablate:{mode}:1/layer_scan"
    layers = [cell.rows[0]["number"] for cell in unit.cells]
    assert layers == list(range(1, LAYERS))  # R has no direction at layer 0
    for layer, cell in zip(layers, unit.cells, strict=True):
        (row,) = cell.rows
        assert cell.id == f"ablate:{mode}:1:layer:1/layer_scan/{layer}" and row["control"] == "layer_scan"
        assert (row["target"], row["abs_cos"], row["lambda_matched"]) == (cell.id, 1.0, 1.0)
        carriers = {"h_only": "h", "h_perp_r": "h", "r_only": "r", "r_perp_h": "r", "h_plus_r": "hr"}[mode]
        assert [row["layer_h"], row["layer_r"]] == [layer if name in carriers else None for name in "hr"]
        h, r = (at.sources[c].directions(at.sources[c].site[0], layer) for c in "HR")
        want = {"h_only": h, "r_only": r, "h_plus_r": orthonormal(np.concatenate([h, r])),
                "h_perp_r": without(h, r), "r_perp_h": without(r, h)}[mode]  # fmt: skip
        (item,) = cell.interventions
        np.testing.assert_allclose(item.basis.numpy(), want, atol=1e-6)
        assert item.layer == layer and row["energy"] == pytest.approx(removed_energy(cell, at), rel=1e-5)
        assert cell.kl and not cell.generated and row["primary"] is False


@pytest.mark.parametrize("family", ["ablate", "steer"])
def test_controls_of_the_scan_act_at_its_layer_with_the_energy_of_its_cell(family):
    at, layers = checkpoint(), (1, 3, 6)
    target = Target(family, "r_only", 1.0)
    unit = make_unit(plan.scan_unit(target, layers, {"random": 2, "shuffled": 1}), at, 1)
    kinds = ["layer_scan", "scan_random", "scan_random", "scan_shuffled"]
    assert [cell.rows[0]["control"] for cell in unit.cells] == kinds * len(layers)
    for place, layer in enumerate(layers):
        scan, *controls = unit.cells[4 * place : 4 * place + 4]
        assert scan.kl and not any(cell.kl or cell.generated for cell in controls)
        wanted = removed_energy(scan, at)
        there = replace(at.sources["R"], site=(R_SITE[0], layer))
        drawn = [*draw_shared("random", there, 2, 1), *draw_shared("shuffled", there, 1, 1)]
        for cell, control in zip(controls, drawn, strict=True):
            (row,) = cell.rows
            assert cell.id == f"{scan.id}/{control.kind}/{control.number}" and row["target"] == scan.id
            assert [item.layer for item in cell.interventions] == [layer] == [row["layer_r"]]
            np.testing.assert_allclose(cell.interventions[0].basis.numpy(), control.part.basis, atol=1e-6)
            assert row["capped"] or removed_energy(cell, at) == pytest.approx(wanted, rel=1e-6)


def test_a_scan_of_several_strengths_has_a_unit_for_each():
    scan = {
        "layers": [2, 3],
        "modes": ["r_only"],
        "family": "steer",
        "lambda": [0.5, 1.0],
        "controls": {"random": 1, "shuffled": None},
    }
    settings = {
        "targets": [],
        "primary": [],
        "controls": {},
        "permutations": 1,
        "generate": {"cells": [], "controls": {}},
    }
    units = list(SweepPlan.of(settings | {"layer_scan": scan}).units())
    assert [unit.name for unit in units] == ["steer:r_only:0.5/layer_scan", "steer:r_only:1/layer_scan", "clean"]
    assert [cell.kind for cell in units[0].cells] == ["layer_scan", "scan_random"] * 2


def test_scan_leaves_out_layers_where_the_carriers_are_one_vector():
    at = checkpoint(sites=((-1, 5), (-1, 3)))
    assert scan_unit("h_perp_r", "ablate", 1.0, range(LAYERS), at) is None
    assert len(scan_unit("h_plus_r", "ablate", 1.0, range(LAYERS), at).cells) == LAYERS - 1


def test_perpendicular_targets_do_not_exist_where_both_subspaces_are_one():
    at = checkpoint(rank=3)
    one = replace(at, r=at.h[::-1])
    assert [one.has(Target("ablate", mode, 1.0, rank=3)) for mode in ("h_only", "h_plus_r", "h_perp_r", "r_perp_h")] == [
        True, True, False, False,
    ]  # fmt: skip
    assert at.has(Target("ablate", "h_perp_r", 1.0, rank=3))


def test_norm_matched_directions_are_drawn_once_for_all_targets(monkeypatch):
    """The same bytes from a checkpoint that keeps them as from one that draws them for each target; parts that need more draw again."""
    drawn, qr = [], np.linalg.qr
    monkeypatch.setattr(np.linalg, "qr", lambda values: drawn.append(len(values)) or qr(values))
    kept, targets = checkpoint(), [Target("ablate", mode, x) for mode in ("r_only", "r_perp_h") for x in (1.0, 0.5)]
    units = [target_unit(target, kept, {"norm_matched": 3}, 1) for target in targets]
    assert 3 <= len(drawn) <= 6  # of one carrier at one layer
    drawn.clear()
    anew = [target_unit(target, checkpoint(), {"norm_matched": 3}, 1) for target in targets]
    assert len(drawn) == 12
    assert [unit.digests for unit in units] == [unit.digests for unit in anew]
    assert all(len(basis.T) < D for _, basis in kept.random_bases.values())


# -------------------------------------------------------------------------------------------------------------- plan


@pytest.mark.parametrize("strength", [1, 1.0, -0.5, 0.1, 1 / 3, 1e-7, 123456.5])
def test_a_target_has_one_text(strength):
    target = Target("steer", "r_perp_h", strength, "all_layers", 3)
    assert Target.parse(target.id) == target and Target.parse(target.id).id == target.id
    assert (
        Target.of({"family": "steer", "mode": "r_perp_h", "lambda": strength, "scope": "all_layers", "rank": 3})
        == target
    )
    assert Target.parse(target.id, primary=True).primary


def test_strengths_that_differ_have_ids_that_differ():
    assert Target("ablate", "h_only", 0.1234567).id != Target("ablate", "h_only", 0.1234568).id
    assert Target("ablate", "h_only", 0.5).id == "ablate:h_only:0.5:layer:1"


@pytest.mark.parametrize("text", ["", "ablate:h_only:1:layer", "ablate:h_only:x:layer:1", "ablate:h_only:1:layer:1.0"])
def test_what_is_no_target(text):
    with pytest.raises(ValueError, match="is no target"):
        Target.parse(text)


def test_the_cells_of_a_plan_are_those_that_are_made_where_all_exist():
    settings = {
        "targets": ["ablate:h_only:1:layer:1", "ablate:h_perp_r:1:layer:1", "steer:r_only:-1:layer:1", "ablate:r_only:1:layer:1"],
        "primary": ["ablate:h_only:1:layer:1"], "controls": COUNTS | {"wrong_layer": 1}, "permutations": 12,
        "generate": {"cells": ["steer:r_only:-1:layer:1", "ablate:r_only:1:layer:1"], "alone": ["ablate:r_only:1:layer:1"],
                     "controls": {"random": 2, "wrong_layer": 1}},
        "layer_scan": {"layers": [2, 3], "modes": ["r_only"], "family": "ablate", "lambda": 1.0},
    }  # fmt: skip
    at, planned = checkpoint(), list(SweepPlan.of(settings).units())
    made = [make_unit(unit, at, 1) for unit in planned]
    assert [unit.name for unit in made] == [unit.name for unit in planned]
    for unit, wanted in zip(made, planned, strict=True):
        assert [(c.id, c.kl, c.generated) for c in unit.cells] == [(c.id, c.kl, c.answers) for c in wanted.cells]
        assert [[row.get("target") for row in c.rows] for c in unit.cells if unit.group and unit.name != "clean"] == [
            [target.id for target in c.targets] for c in wanted.cells if wanted.group and wanted.name != "clean"
        ]
    assert (
        sum(cell.answers for unit in planned for cell in unit.cells) == 1 + 1 + 2 + 1 + 1
    )  # clean, the addition, random and wrong-layer beside it, and the ablation alone
    assert (
        next(unit.name for unit in SweepPlan.of(settings).units(lambda target: target.mode == "r_only"))
        == "steer:r_only:-1:layer:1"
    )
