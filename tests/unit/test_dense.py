"""Dense diagnostics: known change points, trends that correlate without reason, series too short to say anything."""

import numpy as np
import pandas as pd
import pytest
import synthetic_transfer as made

from safety_geometry.artefacts.tables.dense import COUPLING_TRANSITION, DENSE_CORRELATIONS
from safety_geometry.artefacts.tables.files import check_table
from safety_geometry.artefacts.tables.registry import TABLES
from safety_geometry.geometry.dense import (
    FEWEST_SIDE,
    best_split,
    change_point,
    coupling_transition,
    dense_correlations,
    transition,
)


def trajectory(x, y) -> pd.DataFrame:
    return made.saves(len(x)).assign(hrci_repr=x, fixed_asr=y)[
        ["seed", "regime", "anchor", "step", "hrci_repr", "fixed_asr"]
    ]


def test_the_split_is_the_best_of_all_by_brute_force():
    series = np.random.default_rng(1).normal(size=(20, 17)).cumsum(1)
    first, gain = best_split(series)
    for row, index, taken in zip(series, first, gain, strict=True):
        total = ((row - row.mean()) ** 2).sum()
        left = {
            k: sum(((p - p.mean()) ** 2).sum() for p in (row[:k], row[k:]))
            for k in range(FEWEST_SIDE, 18 - FEWEST_SIDE)
        }
        assert left[index] == min(left.values())
        assert taken == pytest.approx(total - left[index])


def test_a_clear_step_is_found_where_it_is():
    found = transition(made.saves(noise=0.002), "hrci_repr", seed=3, draws=400).iloc[0]
    assert (found["step"], found["n"]) == (85, 40)  # save 16 counted from 0 is step 85
    assert (found["lo"], found["hi"]) == (80, 85)  # between two neighbouring saves
    assert found["drop"] == pytest.approx(0.055, abs=0.002)
    assert found["ratio"] == pytest.approx(0.075 / 0.02, rel=0.05)
    assert found["p"] == found["p_smallest"] < 0.02
    assert found["r2_step"] > 0.98 > 0.8 > found["r2_line"]
    assert found["site_moved"]
    level = transition(made.saves(noise=0.002).assign(layer_r=5), "hrci_repr", draws=50).iloc[0]
    assert not level["site_moved"]


def test_intervals_cover_the_change_and_p_keeps_its_level():
    rng, covered, rejected, count = np.random.default_rng(5), 0, 0, 60
    for _ in range(count):
        noise = rng.normal(size=40)
        found = change_point(noise - 2.5 * (np.arange(40) >= 14), rng, 150)
        covered += found.before < 14 <= found.by
        rejected += change_point(noise, rng, 150).p <= 0.05
    assert covered >= 0.88 * count
    assert rejected <= 0.12 * count


def test_an_interval_is_no_wider_than_it_has_to_be():
    rng = np.random.default_rng(6)
    noise = rng.normal(size=40)
    width = [(f := change_point(noise + drop * (np.arange(40) < 14), rng, 200)).by - f.before for drop in (8.0, 1.0)]
    assert width[0] <= 2 < width[1]


def test_a_line_is_a_change_but_no_step():
    found = change_point(
        np.linspace(1, 0, 60) + 0.02 * np.random.default_rng(7).normal(size=60), np.random.default_rng(8), 200
    )
    assert found.p < 0.05
    assert found.r2_line > 0.95 > found.r2_step


def test_a_constant_series_has_no_change():
    found = change_point(np.full(30, 0.5), np.random.default_rng(0), 100)
    assert (found.p, found.p_smallest, found.drop) == (1.0, 1.0, 0.0)


def test_change_points_refuse_what_they_cannot_use():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="at least 6 values, none of them missing"):
        change_point(np.array([1.0, np.nan] * 10), rng)
    with pytest.raises(ValueError, match="block length 30 does not fit a series of 40"):
        change_point(np.zeros(40), rng, block_length=30)
    with pytest.raises(ValueError, match="no column heat"):
        transition(made.saves(), "heat")


def test_short_series_have_rho_and_n_only():
    frame = made.saves(19, 8)
    table = dense_correlations(frame, (5,), 50)
    check_table(table, TABLES["dense_correlations"])
    assert table["block_length"].isna().all() and table[["lo", "hi"]].isna().all(axis=None)
    assert set(table["n"]) == {19, 18}
    assert table["rho"].notna().any()
    short = coupling_transition(frame, 50)
    check_table(short, TABLES["coupling_transition"])
    assert (short["n"] == 19).all() and short[
        [c for c in COUPLING_TRANSITION.names if c not in ("seed", "regime", "quantity", "sites", "n")]
    ].isna().all(axis=None)


def test_trends_correlate_in_levels_and_not_in_differences():
    rng, found = np.random.default_rng(9), []
    for run in range(30):
        x, y = (np.linspace(0, 1, 40) + 0.1 * rng.normal(size=40) for _ in range(2))
        found.append(dense_correlations(trajectory(x, y), (4,), 200, seed=run))
    table = pd.concat(found).set_index("form")
    levels, differences = table.loc["levels"], table.loc["first_differences"]
    assert (levels["lo"] > 0).all() and levels["rho"].min() > 0.7
    assert ((differences["lo"] <= 0) & (differences["hi"] >= 0)).mean() > 0.8
    assert abs(differences["rho"].mean()) < 0.1


def test_series_that_move_together_correlate_in_both():
    rng = np.random.default_rng(10)
    x = rng.normal(size=50).cumsum()
    table = dense_correlations(trajectory(x, x + 0.2 * rng.normal(size=50)), (5,), 300)
    assert (table["lo"] > 0.3).all() and set(table["form"]) == {"levels", "first_differences"}


def test_block_lengths_have_rows_of_their_own():
    frame = pd.concat([made.saves(), made.saves(regime="sft", seed=4)])
    table = dense_correlations(frame, (10, 5, 25), 100)
    check_table(table, TABLES["dense_correlations"])
    assert list(table.columns) == DENSE_CORRELATIONS.names
    assert set(table["outcome"]) == {"fixed_asr", "any_refusal", "benign_refusal"}  # the others were not measured
    assert table.query("outcome == 'benign_refusal'")["rho"].isna().all()  # the same at every save
    mine = "regime == 'sft' and predictor == 'hrci_repr' and sites == 'frozen' and outcome == 'fixed_asr' and form == 'levels'"
    rows = table.query(mine)
    assert rows["block_length"].tolist() == [5, 10, 25] and rows["n"].tolist() == [40] * 3
    assert rows["lo"].notna().tolist() == [True, True, False]  # 25 is more than half of the series
    assert (rows["rho"].abs() <= rows["rho_tie_ceiling"] + 1e-9).all()
    alone = dense_correlations(frame, (10,), 100)
    pd.testing.assert_frame_equal(table[table["block_length"] == 10].reset_index(drop=True), alone)
    shuffled = dense_correlations(frame.sort_values("step", ascending=False, kind="stable"), (10,), 100)
    pd.testing.assert_frame_equal(shuffled.sort_values("regime", ignore_index=True, kind="stable"), alone.sort_values("regime", ignore_index=True, kind="stable"))  # fmt: skip
    with pytest.raises(ValueError, match="at least one is needed"):
        dense_correlations(frame, ())


def test_a_jump_of_the_site_is_not_in_the_frozen_series():
    """Coupling of a model that does not change, read elsewhere from save 20 on."""
    rng, moved = np.random.default_rng(13), np.arange(40) >= 20
    still = 0.05 + 0.002 * rng.normal(size=40)
    frame = made.saves().assign(
        hrci_repr_frozen=still,
        hrci_repr=still + 0.05 * moved,
        layer_r=np.where(moved, 5, 23),
        fixed_asr=0.3 * moved + 0.1 * rng.random(40),
    )
    changes = coupling_transition(frame, 300).query("quantity == 'hrci_repr'").set_index("sites")
    assert changes.loc["selected", "step"] == 105 and changes.loc["selected", "p"] < 0.05 < changes.loc["frozen", "p"]
    assert changes.loc["selected", "site_moved"] and not changes.loc["frozen", "site_moved"]
    assert abs(changes.loc["frozen", "drop"]) < 0.01
    rows = dense_correlations(frame, (5,), 200).query(
        "predictor == 'hrci_repr' and outcome == 'fixed_asr' and form == 'levels'"
    )
    rho = rows.set_index("sites")
    assert rho.loc["selected", "lo"] > 0.3 and abs(rho.loc["frozen", "rho"]) < 0.35
    pd.testing.assert_frame_equal(transition(frame, "hrci_repr", draws=300, sites="frozen").reset_index(drop=True),
                                  coupling_transition(frame, 300).query("quantity == 'hrci_repr' and sites == 'frozen'").reset_index(drop=True))  # fmt: skip


def test_saves_without_a_value_are_left_out():
    frame = made.saves(60).assign(fixed_asr=lambda f: f["fixed_asr"].where(f["step"] % 10 == 0))
    rows = dense_correlations(frame, (5,), 50).query(
        "outcome == 'fixed_asr' and predictor == 'c_cos' and sites == 'frozen'"
    )
    assert rows["n"].tolist() == [30, 29]
