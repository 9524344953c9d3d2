"""Attacks by arm, against hand counts; and the rule that says which checkpoint should be attacked."""

import numpy as np
import pandas as pd
import pytest
from test_behaviour import ALL_ARMS, attacked_by

from safety_geometry.artefacts.tables.behaviour import ATTACK_ARMS, SOURCE_CHOICE
from safety_geometry.artefacts.tables.files import check_table
from safety_geometry.judges.attack_arms import attack_arms_table, picked_step, source_choice_table
from safety_geometry.settings.attack_arm import Place
from safety_geometry.settings.identity import Checkpoint
from safety_geometry.stats.estimates import mcnemar_exact, wilson

ANCHOR, SAVE = Checkpoint(1, "r2d2", 10, "10"), Checkpoint(1, "r2d2", 11)


def test_arms_stand_beside_the_bare_requests_that_they_attacked():
    table = attack_arms_table({ANCHOR: attacked_by(**ALL_ARMS), SAVE: attacked_by(**ALL_ARMS)})
    check_table(table, ATTACK_ARMS)
    assert set(table["step"]) == {10}  # anchors only
    rows = table.set_index(table["arm"] + table["template"].fillna(""))
    expected = {
        "direct": (1 / 6, 6, 1 / 6), "framings": (2 / 6, 6, 1 / 6), "framingt1": (1 / 6, 6, 1 / 6),
        "framingt2": (2 / 6, 6, 1 / 6), "universal": (1 / 5, 5, 0), "gcg_init": (1, 4, 1 / 4), "gcg": (1 / 4, 4, 1 / 4),
        "autodan": (0, 3, 1 / 3), "any": (1, 2, 0),
    }  # fmt: skip
    assert set(rows.index) == set(expected)
    for arm, numbers in expected.items():
        assert tuple(rows.loc[arm, ["asr", "n", "direct_asr"]]) == pytest.approx(numbers), arm
    framings = rows.loc["framings"]
    assert framings["gain"] == pytest.approx(1 / 6)
    framed, bare = np.array([0, 1, 0, 1, 0, 0]), np.array([1, 0, 0, 0, 0, 0])
    assert framings["gain_p"] == pytest.approx(mcnemar_exact(framed, bare))
    interval = wilson(2, 6)
    assert tuple(framings[["lo", "hi"]]) == pytest.approx((interval.lo, interval.hi))
    assert pd.isna(rows.loc["direct", "gain"])


def test_without_bare_requests_there_is_nothing_to_stand_beside():
    part = {name: text for name, text in ALL_ARMS.items() if name != "direct"}
    assert len(attack_arms_table({ANCHOR: attacked_by(**part)})) == 0


@pytest.mark.parametrize(
    ("direct_asr", "picked"),
    [
        ({5: 0.9, 10: 0.1, 20: 0.0}, 10),  # the earliest that is low enough, not the lowest
        ({20: 0.0, 10: 0.05}, 10),
        ({5: 0.9, 10: 0.3, 20: 0.2, 30: 0.2}, 20),  # none is: the least, the earlier of two
        ({5: 0.9}, 5),
    ],
)
def test_the_rule_of_the_source(direct_asr, picked):
    assert picked_step(direct_asr, 0.1) == picked


def behaviour(rows) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["seed", "regime", "step", "anchor", "value"])
    return frame.assign(metric="direct_asr", lo=0.0, hi=1.0, n=20)


def test_the_configured_source_is_held_against_the_rule(caplog):
    rows = [(seed, "refuser", step, str(step), asr) for seed, values in ((1, (0.05, 0.0)), (2, (0.3, 0.1)))
            for step, asr in zip((10, 20), values, strict=True)]  # fmt: skip
    rows += [(1, "refuser", 12, None, 0.0), (1, "other", 5, "5", 0.0)]  # a save between anchors is no candidate
    table = source_choice_table(behaviour(rows), Place("refuser", 10), [Place("refuser", 20)], 0.1)
    check_table(table, SOURCE_CHOICE)
    found = table.set_index(["role", "seed"])[["direct_asr", "refuses", "picked_step", "follows_rule"]]
    assert found.loc[("source", 1)].tolist() == [0.05, True, 10, True]
    assert found.loc[("source", 2)].tolist() == [0.3, False, 20, False]
    assert found.loc[("aligned", 1)].tolist() == [0.0, True, 10, False]
    assert found.loc[("aligned", 2)].tolist() == [0.1, True, 20, True]
    (warning,) = caplog.messages
    assert "source refuser:10 of seed 2" in warning and "picks step 20 (0.10)" in warning


def test_a_source_that_was_not_asked_bare_requests():
    table = source_choice_table(behaviour([(1, "other", 5, "5", 0.0)]), Place("refuser", 10), [], 0.1)
    check_table(table, SOURCE_CHOICE)
    assert table[["direct_asr", "refuses", "picked_step", "follows_rule"]].isna().all(axis=None)
