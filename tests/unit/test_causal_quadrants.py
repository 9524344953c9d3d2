"""Quadrants, their samples and projections; rows of aligned anchors."""

import numpy as np
import pandas as pd
import pytest
import synthetic_sweep as made

from safety_geometry.artefacts.tables.files import check_table
from safety_geometry.artefacts.tables.registry import TABLES
from safety_geometry.causal.aligned import ARMS, aligned_row
from safety_geometry.causal.quadrants import QUADRANTS, projection, quadrants, sample
from safety_geometry.judges.behaviour import paired_rates
from safety_geometry.stats.estimates import mcnemar_exact, wilson

SITES = {"layer_h": 14, "pos_h": "t_inst", "layer_r": 19, "pos_r": -1}


def answers(seed=1, step=30, n=40):
    rng = np.random.default_rng([seed, step])
    suites = np.array(["direct", "usefulness", "lookalike", "utility", "fixed_source"])[np.arange(n) % 5]
    refused = rng.random(n) < 0.5
    return pd.DataFrame({
        "seed": seed, "regime": "r2d2", "step": step, "anchor": str(step), "id": [f"{s}-{i}" for i, s in enumerate(suites)],
        "suite": suites, "prompt_id": [f"p{i}" for i in range(n)], "digest": "0123456789ab", "refusal": np.where(refused, "full", "none"),
        "any_refusal": refused, "refusal_score": 0.5, "harm_score": 0.5, "attack_success": ~refused, "degenerate": rng.random(n) < 0.3,
        "utility": np.where(suites == "utility", 1.0, np.nan),
    })  # fmt: skip


def test_every_combination_has_its_quadrant():
    frame = pd.DataFrame(
        [(s, r, d) for s in ("direct", "utility", "other") for r in (True, False) for d in (False, True)],
        columns=["suite", "any_refusal", "degenerate"],
    )
    label = quadrants(frame, ["direct"], ["utility"])
    assert label[:8].fillna("none").tolist() == [
        "harmful_refused", "harmful_refused", "harmful_complied", "none",
        "benign_refused", "benign_refused", "benign_complied", "benign_degenerate",
    ]  # fmt: skip
    assert label[8:].isna().all()
    with pytest.raises(ValueError, match=r"\['direct'\] are named as harmful and as benign"):
        quadrants(frame, ["direct"], ["direct"])


def test_sample_takes_as_many_as_there_are_and_says_so():
    frame = pd.concat([answers(step=s) for s in (10, 30)], ignore_index=True)
    frame["quadrant"] = quadrants(frame, ["direct", "usefulness"], ["lookalike", "utility"])
    found = sample(frame, 9, seed=3)
    counts = frame["quadrant"].value_counts()
    assert counts.min() < 9 < counts.max()
    for quadrant, rows in found.groupby("quadrant"):
        assert len(rows) == min(9, counts[quadrant])
        assert set(rows["available"]) == {counts[quadrant]} and set(rows["sampled"]) == {len(rows)}
    assert found["quadrant"].drop_duplicates().tolist() == [q for q in QUADRANTS if q in counts]
    assert not found.duplicated(["step", "id"]).any()
    everything = sample(frame, 500, seed=3)
    assert len(everything) == counts.sum()
    table = found.assign(proj_h=0.1, proj_r=-0.1)[TABLES["quadrants"].names]
    check_table(table, TABLES["quadrants"])


def test_sample_depends_on_content_and_seed_only():
    frame = answers(n=80)
    frame["quadrant"] = quadrants(frame, ["direct", "usefulness"], ["lookalike", "utility"])
    found = sample(frame, 6, seed=3)
    pd.testing.assert_frame_equal(sample(frame.sample(frac=1, random_state=0), 6, seed=3), found)
    assert sample(frame, 6, seed=4)["id"].tolist() != found["id"].tolist()
    one = sample(frame[frame["quadrant"] == "benign_complied"], 6, seed=3)
    assert one["id"].tolist() == found.loc[found["quadrant"] == "benign_complied", "id"].tolist()
    with pytest.raises(ValueError, match="answers are not unique in seed, regime, step, id"):
        sample(pd.concat([frame, frame]), 6, seed=3)
    with pytest.raises(ValueError, match=r"unknown quadrants \['left'\]"):
        sample(frame.assign(quadrant="left"), 6, seed=3)
    assert sample(frame.assign(quadrant=None), 6, seed=3).empty


def test_each_answer_is_drawn_equally_often():
    frame = pd.DataFrame({"id": [f"{i:02d}" for i in range(10)], "quadrant": "harmful_refused"})
    taken = pd.concat([sample(frame, 3, seed) for seed in range(150)])["id"].value_counts()
    assert len(taken) == 10
    assert (taken / 150).between(0.15, 0.45).all()  # 0.3 each; four standard errors


def test_projection_puts_the_class_means_at_minus_one_and_one():
    rng = np.random.default_rng(0)
    harmful, benign, u = rng.normal(size=(3, 16))
    ends = np.stack([benign, harmful, (benign + harmful) / 2])
    np.testing.assert_allclose(projection(ends, harmful, benign, u), [-1, 1, 0], atol=1e-12)
    values = rng.normal(size=(5, 16))
    expected = [2 * (v @ u - benign @ u) / (harmful @ u - benign @ u) - 1 for v in values]
    np.testing.assert_allclose(projection(values, harmful, benign, u), expected)
    np.testing.assert_allclose(projection(values, harmful, benign, -3 * u), expected)  # neither sign nor length matters
    half = projection(
        values.astype(np.float32), harmful.astype(np.float32), benign.astype(np.float32), u.astype(np.float32)
    )
    np.testing.assert_allclose(half, expected, rtol=1e-4)
    across = u - (u @ (harmful - benign)) / ((harmful - benign) @ (harmful - benign)) * (harmful - benign)
    with pytest.raises(ValueError, match="same projection"):
        projection(values, harmful, benign, across)


def test_aligned_row_against_its_arms():
    cells = made.cells(("h_only", "r_only", "r_perp_h"), {})
    arms = dict(zip(ARMS, ("clean", "ablate:h_only:1", "ablate:r_only:1", "ablate:r_perp_h:1"), strict=True))
    share = dict(zip(arms.values(), (0.1, 0.2, 0.8, 0.6), strict=True))
    judged = made.judged(cells, share, suites={"direct": 20, "utility": 3})
    row = aligned_row(
        judged,
        arms,
        model="sft_refusal:30",
        seed=1,
        sites=SITES,
        c_cos=0.05,
        angles=(84.0, 88.0),
        family="ablate",
        strength=1.0,
    )
    assert list(row) == TABLES["aligned_anchors"].names
    check_table(pd.DataFrame([row]), TABLES["aligned_anchors"])
    for arm, cell in arms.items():
        rate = wilson(round(20 * share[cell]), 20)
        assert (row[f"asr_{arm}"], row[f"asr_{arm}_lo"], row[f"asr_{arm}_hi"]) == (rate.value, rate.lo, rate.hi)
    first = np.arange(20)
    assert row["r_minus_h"] == pytest.approx(0.6) and row["r_minus_h_lo"] > 0.2
    assert row["r_minus_h_p"] == pytest.approx(mcnemar_exact(first < 16, first < 4)) == pytest.approx(2 * 0.5**12)
    assert row["r_perp_minus_h_p"] == pytest.approx(2 * 0.5**8)
    direct = judged[judged["suite"] == "direct"].sort_values("prompt_id")
    refused = {arm: direct.loc[direct["arm"] == cell, "any_refusal"].to_numpy(float) for arm, cell in arms.items()}
    assert {arm: row[f"refusal_{arm}"] for arm in arms} == {arm: each.mean() for arm, each in refused.items()}
    assert row["refusal_h_minus_r"] == pytest.approx((refused["h_only"] - refused["r_only"]).mean())
    ends = row["refusal_h_minus_r_lo"], row["refusal_h_minus_r_hi"]
    assert ends == pytest.approx(paired_rates(refused["h_only"], refused["r_only"]))
    assert row["refusal_h_minus_r_p"] == mcnemar_exact(refused["h_only"], refused["r_only"])
    assert row["angle_3"] is None and row["n"] == 20 and row["success_means"] == "attack_success"
    with pytest.raises(ValueError, match="sft: cell elsewhere has no judged answers"):
        aligned_row(
            judged,
            arms | {"r_only": "elsewhere"},
            model="sft",
            seed=1,
            sites=SITES,
            c_cos=None,
            angles=(),
            family="ablate",
            strength=1.0,
        )
    with pytest.raises(ValueError, match="no cell for the arms r_perp_h"):
        aligned_row(judged, {k: v for k, v in arms.items() if k != "r_perp_h"}, model="sft", seed=1, sites=SITES, c_cos=None, angles=(),
                    family="ablate", strength=1.0)  # fmt: skip
