"""Carriers against brute force in float64: mean differences, harmfulness scores, COSMIC-style scores and selection."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from safety_geometry.artefacts.candidate_scores import CandidateScores
from safety_geometry.artefacts.carriers import Carrier, CarrierPair, read_carriers, write_carriers
from safety_geometry.artefacts.errors import ArtefactError
from safety_geometry.geometry.carriers import (
    candidate_table,
    harmfulness_profile,
    mean_difference,
    report_refusal,
    resampled_s_total,
    select_harmfulness,
    select_refusal,
    unit,
)


def cosine(a, b):
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def make_scores(seed=0, count=6, n=5, m=7, d=8, n_layers=10, **changes):
    rng = np.random.default_rng(seed)
    arrays = {
        "layers": np.arange(count) % 5,
        "positions": -1 - np.arange(count) // 5,
        "norm": np.full(count, 2.0),
        "ablate_harmful": rng.normal(size=(count, n, d)).astype(np.float32) + 1,
        "add_benign": rng.normal(size=(count, m, d)).astype(np.float32) + 1,
        "kl": rng.uniform(0, 0.2, size=(count, m)).astype(np.float32),
        "clean_harmful": rng.normal(size=(n, d)).astype(np.float32) + 1,
        "clean_benign": rng.normal(size=(m, d)).astype(np.float32) + 1,
    }
    return CandidateScores(**arrays | changes, n_layers=n_layers)


def make_table(rows):
    frame = pd.DataFrame(rows, columns=["layer", "position", "s_total", "kl", "admissible"])
    return frame.assign(eligible=True)


def test_mean_difference_and_unit():
    harmful, benign = np.array([[3.0, 5.0]], np.float32), np.array([[0.0, 1.0]], np.float32)
    delta = mean_difference(harmful, benign)
    assert delta.dtype == np.float64
    np.testing.assert_allclose(delta, [[3, 4]])
    np.testing.assert_allclose(unit(delta), [[0.6, 0.8]])
    with pytest.raises(ValueError, match="zero or non-finite"):
        unit(np.zeros(3))
    with pytest.raises(ValueError, match="overflow"):
        mean_difference(np.array([np.inf]), np.array([1.0]))
    with pytest.raises(ValueError, match="shape"):
        mean_difference(np.zeros((2, 3)), np.zeros((2, 4)))


def test_carrier_refuses_a_direction_that_is_no_unit_vector():
    Carrier("H", 3, "t_inst", np.array([0.6, 0.8]), 5.0, 1.0, None, np.eye(2))
    with pytest.raises(ValueError, match="norm 1"):
        Carrier("R", 3, -1, np.array([1.0, 1.0]), 5.0, 1.0, True, np.eye(2))
    with pytest.raises(ValueError, match="kind H or R"):
        Carrier("X", 3, -1, np.array([1.0]), 5.0, 1.0, True, np.eye(1))
    with pytest.raises(ValueError, match="subspace"):
        Carrier("R", 3, -1, np.array([0.6, 0.8]), 5.0, 1.0, True, np.eye(3))


def test_carriers_come_back_from_their_file(tmp_path):
    h = Carrier("H", 3, "t_inst", np.array([0.6, 0.8]), 5.0, 1.5, None, np.eye(2)[:, :1])
    r = Carrier("R", 2, -1, np.array([1.0, 0.0]), 2.0, float("nan"), True, np.eye(2))
    path = tmp_path / "carriers.safetensors"
    write_carriers(path, {4: CarrierPair("reference", "own", h, r), 8: CarrierPair(None, "frozen", h, None, "too few")})
    pair = read_carriers(path, 4)
    assert (pair.anchor, pair.selection, pair.h.site, pair.r.site) == ("reference", "own", ("t_inst", 3), (-1, 2))
    assert (pair.h.norm, pair.h.score, pair.h.admissible, pair.r.admissible) == (5.0, 1.5, None, True)
    assert pair.r.score != pair.r.score and pair.h.subspace.shape == (2, 1)
    np.testing.assert_array_equal(pair.h.direction, np.array([0.6, 0.8], np.float32))
    less = read_carriers(path, 8)
    assert (less.anchor, less.r, less.r_missing) == (None, None, "too few")
    with pytest.raises(ArtefactError, match="no carriers of step 5; it has 4, 8"):
        read_carriers(path, 5)


def test_harmfulness_profile_matches_brute_force():
    rng = np.random.default_rng(1)
    layers, d = 4, 6
    directions = rng.normal(size=(layers, d))
    harmful, benign = rng.normal(size=(9, layers, d)) + 0.3, rng.normal(size=(7, layers, d))
    frame = harmfulness_profile(directions, harmful, benign)
    for layer in range(layers):
        u = directions[layer] / np.sqrt((directions[layer] ** 2).sum())
        high, low = [x[layer] @ u for x in harmful], [x[layer] @ u for x in benign]
        gap = np.mean(high) - np.mean(low)
        assert frame.gap[layer] == pytest.approx(gap)
        assert frame.dprime[layer] == pytest.approx(gap / np.sqrt((np.var(high, ddof=1) + np.var(low, ddof=1)) / 2))
        assert frame.auroc[layer] == pytest.approx(roc_auc_score([1] * 9 + [0] * 7, high + low))


def test_scale_of_the_direction_does_not_matter_but_gap_grows_with_activations():
    rng = np.random.default_rng(2)
    directions, harmful, benign = rng.normal(size=(2, 5)), rng.normal(size=(6, 2, 5)) + 1, rng.normal(size=(6, 2, 5))
    base = harmfulness_profile(directions, harmful, benign)
    pd.testing.assert_frame_equal(base, harmfulness_profile(7 * directions, harmful, benign))
    tripled = harmfulness_profile(directions, 3 * harmful, 3 * benign)
    np.testing.assert_allclose(tripled[["dprime", "auroc"]], base[["dprime", "auroc"]])
    np.testing.assert_allclose(tripled.gap, 3 * base.gap)


def test_layer_with_equal_means_is_no_candidate():
    """Layer 0 at a template token: the same vector for every prompt, a difference of rounding size."""
    rng = np.random.default_rng(3)
    harmful, benign = rng.normal(size=(6, 2, 5)), rng.normal(size=(6, 2, 5))
    directions = np.stack([np.full(5, 1e-7), np.ones(5)])
    frame = harmfulness_profile(directions, harmful, benign)
    assert frame.loc[0, ["dprime", "auroc", "gap"]].isna().all()
    assert select_harmfulness(frame, "auroc") == 1
    with pytest.raises(ValueError, match="no layer"):
        select_harmfulness(frame.iloc[:1])


def test_select_harmfulness_takes_the_earlier_layer_on_ties():
    frame = pd.DataFrame(
        {"layer": [0, 1, 2, 3], "auroc": [0.9, 1.0, 1.0, 0.5], "dprime": [1, 2, 3, 0.1], "gap": [4, 1, 2, 3]}
    )
    assert select_harmfulness(frame, "auroc") == 1
    assert select_harmfulness(frame.iloc[::-1], "auroc") == 1
    assert select_harmfulness(frame, "gap") == 0
    assert select_harmfulness(frame) == 2
    with pytest.raises(ValueError, match="choose one of"):
        select_harmfulness(frame, "accuracy")


def test_candidate_table_matches_brute_force():
    scores = make_scores()
    table = candidate_table(scores, beta_kl=0.5, kl_max=0.1, max_layer=4)
    for c in range(len(table)):
        b_harm = scores.clean_harmful.astype(float).mean(0)
        b_safe = scores.clean_benign.astype(float).mean(0)
        refuse = cosine(scores.add_benign[c].astype(float).mean(0), b_harm)
        comply = cosine(scores.ablate_harmful[c].astype(float).mean(0), b_safe)
        kl = scores.kl[c].astype(float).mean()
        assert table.s_refuse[c] == pytest.approx(refuse, abs=1e-12)
        assert table.s_comply[c] == pytest.approx(comply, abs=1e-12)
        assert table.kl[c] == pytest.approx(kl, abs=1e-12)
        assert table.s_total[c] == pytest.approx(refuse + comply - 0.5 * kl, abs=1e-12)
        assert table.admissible[c] == (kl <= 0.1 and scores.layers[c] < 4)


def test_scores_do_not_depend_on_the_rotation_of_the_space():
    scores = make_scores(4)
    q = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))[0]
    names = ("ablate_harmful", "add_benign", "clean_harmful", "clean_benign")
    turned = make_scores(4, **{name: getattr(scores, name).astype(float) @ q for name in names})
    pd.testing.assert_frame_equal(candidate_table(scores), candidate_table(turned), rtol=1e-9)


def test_filters_leave_out_late_layers_nonfinite_kl_and_zero_directions():
    kl = np.full((6, 7), 0.01, np.float32)
    kl[1, 3] = np.nan
    norm = np.array([2, 2, 1e-6, 2, 2, 2.0])
    table = candidate_table(make_scores(kl=kl, norm=norm, n_layers=5))
    assert table.eligible.tolist() == [
        True,
        False,
        False,
        True,
        False,
        True,
    ]  # layers 0 1 2 3 4 0, cut at int(.8 · 5) = 4
    assert table.kl[1] == np.inf
    none = candidate_table(make_scores(kl=kl + 1))
    assert select_refusal(none) is None
    chosen = report_refusal(none)
    assert not chosen.admissible
    assert chosen.s_total == none.s_total[none.eligible].max()
    with pytest.raises(ValueError, match="no refusal candidate is eligible"):
        report_refusal(candidate_table(make_scores(), max_layer=0))


def test_ties_go_to_lower_kl_then_lower_layer():
    rows = [(5, -1, 1.5, 0.03, True), (7, -2, 1.5, 0.01, True), (6, -3, 1.5, 0.01, True), (1, -1, 1.9, 0.5, False)]
    chosen = select_refusal(make_table(rows))
    assert (chosen.layer, chosen.position) == (6, -3)
    assert select_refusal(make_table([(1, -1, 1.9, 0.5, False)])) is None


def test_threshold_acts_after_the_scores():
    scores = make_scores(5)
    strict, loose = candidate_table(scores, kl_max=0.05), candidate_table(scores, kl_max=10.0)
    pd.testing.assert_frame_equal(strict.drop(columns="admissible"), loose.drop(columns="admissible"))
    assert loose.admissible.sum() > strict.admissible.sum()


def test_resampled_scores_match_a_loop_over_resamples():
    scores = make_scores(6, count=5, n=4, m=4)
    rng = np.random.default_rng(8)
    harmful, safe = (rng.multinomial(4, np.full(4, 0.25), size=20) for _ in range(2))
    found = resampled_s_total(scores, harmful / 4, safe / 4, 1.0)
    for i in range(20):
        a, b = np.repeat(np.arange(4), harmful[i]), np.repeat(np.arange(4), safe[i])
        again = CandidateScores(
            scores.layers, scores.positions, scores.norm, scores.ablate_harmful[:, a], scores.add_benign[:, b],
            scores.kl[:, b], scores.clean_harmful[a], scores.clean_benign[b], scores.n_layers,
        )  # fmt: skip
        np.testing.assert_allclose(found[i], candidate_table(again).s_total, rtol=1e-6)


def test_scores_with_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"kl has shape \(6, 3\), expected \(6, 7\)"):
        make_scores(kl=np.zeros((6, 3)))
    with pytest.raises(ValueError, match="no candidate"):
        make_scores(count=0)


def test_the_analysis_modules_do_not_need_torch():
    names = ("geometry.tables", "geometry.measures", "causal.quadrants", "training.table", "stats.estimates")
    modules = ", ".join(f"safety_geometry.{name}" for name in names)
    code = f"import sys; import {modules}; assert not {{'torch', 'transformers', 'sklearn'}} & set(sys.modules)"
    source = Path(__file__).parents[2] / "src"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(source)})
