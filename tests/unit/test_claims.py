"""Verdicts on studies whose answers are known: the papers' shape, its opposite, and what cannot be tested."""

import math

import numpy as np
import pandas as pd
import pytest
import synthetic_study as made

from safety_geometry.artefacts.tables.files import check_table
from safety_geometry.artefacts.tables.registry import TABLES
from safety_geometry.claims.decide import CLAIMS, TUNED, claims_table, decided
from safety_geometry.claims.evidence import Evidence, Outcome, Undecidable, any_greater, greater, negated, over_seeds
from safety_geometry.geometry.dense import dense_correlations


@pytest.fixture(scope="module")
def study():
    return made.study_once()


@pytest.fixture(scope="module")
def verdicts(study):
    return claims_table(study).set_index("id")


def changed(study, name, change):
    return study | {name: change(study[name].copy())}


def verdict(tables, claim):
    return vars(decided(next(c for c in CLAIMS if c.id == claim), Evidence(tables)))


def test_the_papers_shape_holds_and_short_series_are_inconclusive(study, verdicts):
    check_table(verdicts.reset_index(), TABLES["claims"])
    dense = verdicts.index.str.startswith("dense_")
    causal = verdicts.index.str.startswith(
        ("aligned_", "sweep_", "late_", "follow_up_", "transfer_")
    )  # none in this study
    assert (verdicts.loc[~dense & ~causal, "verdict"] == "holds").all()
    assert (verdicts.loc[dense | causal, "verdict"] == "inconclusive").all()
    assert verdicts.loc[causal, "reason"].str.startswith("the study has no table").all()
    assert verdicts.loc["dense_any_refusal", "reason"].startswith("5 saves of r2d2 have both")
    assert (verdicts["n_seeds"] == 1).all()
    assert set(verdicts.index[verdicts["tuned"]]) == set(TUNED)
    assert len(verdicts) == len(CLAIMS)


def test_numbers_are_those_of_the_tables(verdicts):
    row = verdicts.loc["r2d2_refusal_falls"]
    assert row["value"] == pytest.approx(0.8)
    assert row["p"] == pytest.approx(2 * 0.5**24 * 4, rel=0.5)  # Holm over four earlier anchors
    assert row["p"] >= row["p_smallest"] * (1 - 1e-9)
    assert verdicts.loc["r2d2_r_relocates", "value"] == 18
    assert verdicts.loc["sft_r_relocates_first", ["value", "threshold"]].tolist() == [10, 30]


def test_an_attack_no_better_than_its_start_decides_nothing(study):
    def level(frame):
        arm = frame["contrast"] == "arm"
        return frame.assign(value=frame["value"].where(~arm, 0.04), p=frame["p"].where(~arm, 1.0))

    table = claims_table(changed(study, "contrasts", level)).set_index("id")
    for claim in ("r2d2_resists_early", "r2d2_reopens", "sft_attackable", "low_coupling_not_safe"):
        assert table.loc[claim, "verdict"] == "inconclusive"
        assert "does not beat its unoptimised arm on its source sft_refusal:40" in table.loc[claim, "reason"]
    assert table.loc["r2d2_refusal_falls", "verdict"] == "holds"


def test_the_fixed_source_is_found_by_its_mark(study):
    assert study["attacks"]["source"].iloc[0] == "sft:40"  # another source stands first
    assert verdict(study, "sft_attackable")["verdict"] == "holds"
    none = verdict(changed(study, "attacks", lambda f: f.assign(kind="adaptive")), "sft_attackable")
    assert (none["verdict"], none["reason"]) == ("inconclusive", "the study has no fixed-source attack")


def test_a_regime_that_did_not_move_decides_nothing(study):
    def still(frame):
        return frame.assign(cos_fixed_h_ref=1.0, cos_fixed_r_ref=1.0)

    row = verdict(changed(study, "geometry", still), "sft_coupling_flat")  # sft's behaviour is flat as well
    assert row["verdict"] == "inconclusive"
    assert row["reason"].startswith("sft did not move")


def test_a_study_without_the_regime_is_inconclusive(study):
    less = {name: t[t["regime"] != "r2d2"] if "regime" in t else t for name, t in study.items()}
    table = claims_table(less).set_index("id")
    assert table.loc["r2d2_coupling_drops", ["verdict", "reason"]].tolist() == [
        "inconclusive",
        "the study has no regime r2d2",
    ]
    assert table.loc["sft_attackable", "verdict"] == "holds"
    assert (table["verdict"] != "fails").all()


def test_coupling_that_stays_fails(study):
    def flat(frame):
        r2d2 = frame["regime"] == "r2d2"
        values = {
            c: frame[c].where(~r2d2, v)
            for c, v in (("hrci_repr", 0.05), ("hrci_repr_lo", 0.047), ("hrci_repr_hi", 0.053))
        }
        return frame.assign(**values)

    tables = changed(study, "five_anchor", flat)
    assert verdict(tables, "r2d2_coupling_drops")["verdict"] == "fails"
    assert "does not fall" in verdict(tables, "relocation_explains_drop")["reason"]


def test_a_drop_without_relocation_fails_the_relocation_claim(study):
    def stay(frame):
        return frame.assign(layer_r=frame["layer_r"].where(frame["regime"] != "r2d2", 23))

    row = verdict(changed(study, "five_anchor", stay), "relocation_explains_drop")
    assert row["verdict"] == "fails"
    assert "stays at layer 23" in row["reason"]


def test_unstable_sites_and_early_relocation(study):
    unsure = changed(study, "coupling", lambda f: f.assign(site_share=0.3))
    assert verdict(unsure, "r2d2_r_relocates")["verdict"] == "inconclusive"
    assert verdict(unsure, "sft_r_relocates_first")["verdict"] == "inconclusive"
    stay = changed(study, "coupling", lambda f: f.assign(layer_r=23))
    assert verdict(stay, "r2d2_r_relocates")["verdict"] == "fails"
    assert verdict(stay, "sft_r_relocates_first")["verdict"] == "fails"


def test_coupling_at_the_floor(study):
    def raise_floor(frame):
        return frame.assign(hi=frame["hi"].where(frame["companion"] != "shuffled", 0.5))

    assert verdict(changed(study, "coupling_controls", raise_floor), "coupling_above_chance")["verdict"] == "fails"


def with_saves(n=40, lengths=(5, 10, 20), **behaviour):
    """The study with these series over r2d2's saves; behaviours that are not named stay the same."""
    series = {
        "fixed_asr": 0.5,
        "any_refusal": 0.5,
        "benign_refusal": np.nan,
        "benign_mean": 1.0,
        "usefulness": 0.5,
    } | behaviour
    saves = pd.DataFrame({"seed": 1, "regime": "r2d2", "anchor": None, "step": 5 * np.arange(1, n + 1)} | series)
    saves = saves.rename(columns={"hrci_repr": "hrci_repr_frozen"}).assign(hrci_repr=np.linspace(0.02, 0.08, n))
    return made.study_once() | {"trajectory": saves, "dense_correlations": dense_correlations(saves, lengths, 400)}


def test_two_straight_lines_are_a_shared_trend():
    down = np.linspace(0.08, 0.02, 40)
    tables = with_saves(hrci_repr=down, any_refusal=np.linspace(1, 0.2, 40), fixed_asr=np.linspace(0, 0.5, 40))
    for claim in ("dense_any_refusal", "dense_fixed_asr"):
        row = verdict(tables, claim)
        assert row["verdict"] == "inconclusive" and "shared trend" in row["reason"]
        assert abs(row["value"]) == 1.0 and row["n"] == 40
    assert verdict(tables, "dense_benign_mean")["reason"] == "benign_mean is the same at every save"
    assert verdict(tables, "dense_benign_refusal")["reason"].startswith("0 saves")


def test_independent_trends_never_hold():
    rng, line = np.random.default_rng(11), np.linspace(1, 0, 40)
    x, behaviours = line + 0.1 * rng.normal(size=40), line[:, None] + 0.1 * rng.normal(size=(40, 3))
    names = ("any_refusal", "benign_refusal", "usefulness")
    tables = with_saves(hrci_repr=x, **dict(zip(names, behaviours.T, strict=True)))
    found = [verdict(tables, f"dense_{name}") for name in names]
    assert all(row["verdict"] == "inconclusive" and "shared trend" in row["reason"] for row in found)
    assert all(row["lo"] > 0 for row in found if row["value"] > 0)  # the levels alone would have decided


def test_series_that_move_together_are_decided():
    rng = np.random.default_rng(12)
    x = 0.05 + 0.002 * rng.normal(size=60).cumsum()
    near = x + 0.0003 * rng.normal(size=60)
    tables = with_saves(60, hrci_repr=x, any_refusal=near, usefulness=near, fixed_asr=1 - near)
    assert verdict(tables, "dense_any_refusal")["verdict"] == "holds"
    assert verdict(tables, "dense_fixed_asr")["verdict"] == "holds"
    assert verdict(tables, "dense_usefulness")["verdict"] == "fails"  # the sign is the other one


def test_every_block_length_has_to_agree():
    rng = np.random.default_rng(12)
    x = 0.05 + 0.002 * rng.normal(size=60).cumsum()
    tables = with_saves(60, hrci_repr=x, any_refusal=x + 0.0003 * rng.normal(size=60))

    def cross(frame):
        longest = (frame["outcome"] == "any_refusal") & (frame["form"] == "levels") & (frame["block_length"] == 20)
        return frame.assign(lo=frame["lo"].where(~longest, -0.1))

    row = verdict(changed(tables, "dense_correlations", cross), "dense_any_refusal")
    assert row["verdict"] == "inconclusive" and row["lo"] == -0.1 and "holds 0" in row["reason"]
    short = with_saves(hrci_repr=x[:40], any_refusal=x[:40] + 0.0003 * rng.normal(size=40), lengths=(25,))
    assert "longer than half the series" in verdict(short, "dense_any_refusal")["reason"]


def test_a_dense_claim_about_a_weak_attack_is_not_decided():
    rng = np.random.default_rng(12)
    x = 0.05 + 0.002 * rng.normal(size=60).cumsum()
    tables = with_saves(60, hrci_repr=x, fixed_asr=1 - x)

    def level(frame):
        arm = frame["contrast"] == "arm"
        return frame.assign(value=frame["value"].where(~arm, 0.04), p=frame["p"].where(~arm, 1.0))

    assert verdict(tables, "dense_fixed_asr")["verdict"] == "holds"
    weak = verdict(changed(tables, "contrasts", level), "dense_fixed_asr")
    assert weak["verdict"] == "inconclusive" and "does not beat its unoptimised arm" in weak["reason"]


def contrasts(values, half, p):
    n = len(values)
    sides = {
        "regime": "r2d2",
        "step": 40,
        "anchor": "40",
        "other_regime": "r2d2",
        "other_step": range(n),
        "other_anchor": [str(i) for i in range(n)],
    }
    return pd.DataFrame(
        {
            "value": values,
            "lo": np.subtract(values, half),
            "hi": np.add(values, half),
            "p": p,
            "p_smallest": 1e-4,
            "n": 30,
            "test": "mcnemar",
            "changed": 10,
        }
        | sides
    )


def test_holm_decides_among_several_comparisons():
    one = any_greater(contrasts([0.3], 0.2, [0.03]), "any_refusal")
    many = any_greater(contrasts([0.3, 0.0, 0.0], 0.2, [0.03, 1.0, 1.0]), "any_refusal")
    assert (one.verdict, many.verdict) == ("holds", "inconclusive")
    assert many.p == pytest.approx(0.09)
    assert many.p_smallest == pytest.approx(3e-4)


def test_a_difference_fails_only_when_the_smallest_effect_is_excluded():
    assert any_greater(contrasts([0.0, -0.1], 0.05, [1.0, 0.5]), "any_refusal").verdict == "fails"
    assert any_greater(contrasts([0.0, -0.1], 0.15, [1.0, 0.5]), "any_refusal").verdict == "inconclusive"


def test_a_mean_with_hardly_a_change_excludes_nothing():
    rows = contrasts([0.0], 0.0, [1.0]).assign(test="sign_flip", changed=0)
    assert any_greater(rows, "benign_mean").verdict == "inconclusive"
    assert any_greater(rows.assign(changed=20), "benign_mean").verdict == "fails"


def test_negated_turns_sides_and_interval():
    turned = negated(contrasts([0.3], 0.1, [0.03])).iloc[0]
    assert (turned["value"], turned["lo"], turned["hi"]) == pytest.approx((-0.3, -0.4, -0.2))
    assert (turned["anchor"], turned["other_anchor"]) == ("0", "40")


def test_greater_needs_an_interval():
    assert greater(0.5, 0.4, 0.6, 0.3, "x").verdict == "holds"
    assert greater(0.2, 0.1, 0.29, 0.3, "x").verdict == "fails"
    with pytest.raises(Undecidable, match="x has no interval"):
        greater(0.5, math.nan, 0.6, 0.3, "x")


def test_seeds_have_to_agree():
    yes, no = (
        Outcome("holds", "a", 1.0, 0.5, 1.5, 0.0, 0.01, 0.001, 30),
        Outcome("fails", "b", 0.0, -0.5, 0.1, 0.0, 0.5, 0.002, 30),
    )
    same = over_seeds([yes, yes])
    assert (same.verdict, same.reason, same.n) == ("holds", "a", 30)
    split = over_seeds([yes, no])
    assert (split.verdict, split.value, split.lo, split.hi, split.p) == ("inconclusive", 0.5, -0.5, 1.5, 0.5)
    assert "1 holds, 1 fails" in split.reason


def test_an_unknown_tuned_claim_is_an_error(study):
    with pytest.raises(ValueError, match="no claim nonsense"):
        claims_table(study, tuned=["nonsense"])
