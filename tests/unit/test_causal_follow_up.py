"""Follow-up: who is chosen, on which prompts, and how the answers are scored."""

import numpy as np
import pandas as pd
import pytest
import synthetic_sweep as made

from safety_geometry.artefacts.tables.files import check_table
from safety_geometry.artefacts.tables.registry import TABLES
from safety_geometry.causal.follow_up import choose, follow_up_table, split_half
from safety_geometry.judges.behaviour import paired_rates
from safety_geometry.settings.identity import Checkpoint
from safety_geometry.stats.estimates import wilson

EARLY, LATE = Checkpoint(1, "r2d2", 5, "reference"), Checkpoint(1, "r2d2", 30, "30")
H, R = "ablate:h_only:1", "ablate:r_only:1"
DIRECT = [f"direct-{i:02d}" for i in range(12)]


@pytest.fixture(scope="module")
def sweeps():
    cells = made.cells()
    judged = {EARLY: made.judged(cells, {R: 0.5}), LATE: made.judged(cells, {R: 1.0, H: 0.75}, seed=5)}
    return {EARLY: cells, LATE: cells}, judged


def test_halves_are_disjoint_exhaustive_and_depend_on_the_ids_only():
    halves = split_half([*DIRECT, *DIRECT[:3]], 4)
    assert sorted(halves.choosing + halves.scoring) == DIRECT and len(halves.choosing) == 6
    assert split_half(DIRECT[::-1], 4) == halves != split_half(DIRECT, 5)
    assert [len(part) for part in vars(split_half(DIRECT[:5], 0)).values()] == [3, 2]
    with pytest.raises(ValueError, match="1 prompts cannot be halved"):
        split_half(["a"], 0)


def test_the_largest_control_normalised_effects_are_chosen(sweeps):
    cells, judged = sweeps
    chosen = choose(cells, judged, 3, 4, seed=1)
    targets = chosen[chosen["role"] == "target"]
    assert list(zip(targets["checkpoint"], targets["cell"], strict=True)) == [(LATE, R), (LATE, H), (EARLY, R)]
    half = set(split_half(DIRECT, 1).choosing)
    for row in targets.to_dict("records"):
        direct = judged[row["checkpoint"]].query("suite == 'direct'")
        rate = direct[direct["prompt_id"].isin(half)].groupby("arm")["attack_success"].mean()
        pool = [
            c
            for c in rate.index
            if "random" in c or c.startswith((f"{row['cell']}/covariance", f"{row['cell']}/shuffled"))
        ]
        assert row["chosen_delta"] == pytest.approx(rate[row["cell"]] - rate[pool].mean())
    assert chosen.loc[chosen["role"] != "target", "chosen_delta"].isna().all()


def test_capped_controls_neither_choose_nor_follow(sweeps):
    """As if the sweep did not have them."""
    cells, judged = sweeps
    without = ("shared/random/0", f"{R}/covariance/0")
    capped = {c: frame.assign(capped=frame["cell"].isin(without)) for c, frame in cells.items()}
    lacking = {c: frame[~frame["cell"].isin(without)] for c, frame in cells.items()}
    found, wanted = (choose(some, judged, 3, 4, seed=2) for some in (capped, lacking))
    pd.testing.assert_frame_equal(found, wanted)
    assert not set(without) & set(found["cell"])


def test_each_target_brings_controls_of_every_kind_in_turn_and_each_checkpoint_its_baseline(sweeps):
    chosen = choose(*sweeps, 3, 7, seed=2)
    controls = chosen[(chosen["role"] == "control") & (chosen["target"] == R) & (chosen["checkpoint"] == LATE)]
    kinds = ["random", "covariance", "shuffled", "wrong_layer", "norm_matched", "random", "covariance"]
    assert controls["control"].tolist() == kinds
    assert controls["number"].tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert (controls["mode"] == "r_only").all()  # a shared random control is used as its target's operation
    base = chosen[chosen["role"] == "baseline"]
    assert (
        base["checkpoint"].tolist() == [LATE, EARLY] and set(base["cell"]) == {"clean"} and base["target"].isna().all()
    )
    assert choose(*sweeps, 1, 0, seed=2)["role"].tolist() == ["target", "baseline"]


def test_scoring_prompts_cannot_change_the_choice(sweeps):
    cells, judged = sweeps
    scoring = set(split_half(DIRECT, 2).scoring)
    other = {}
    for checkpoint, frame in judged.items():
        turned = frame["prompt_id"].isin(scoring) & (frame["suite"] == "direct")
        other[checkpoint] = frame.assign(attack_success=frame["attack_success"] ^ turned)
    pd.testing.assert_frame_equal(choose(cells, judged, 3, 4, 2), choose(cells, other, 3, 4, 2))


def test_ties_go_to_the_larger_fall_of_the_log_odds_then_to_the_id(sweeps):
    cells, judged = sweeps
    flat = {c: frame.assign(attack_success=False) for c, frame in judged.items()}
    by_id = choose(cells, flat, 2, 0, 2)
    assert by_id["checkpoint"].tolist()[:2] == [EARLY, EARLY] and by_id["cell"].tolist()[:2] == [H, R]
    assert by_id["chosen_delta"].tolist()[:2] == [0.0, 0.0]  # chosen for want of others, and the column says so
    frame = made.cells()
    readout = {EARLY: made.readout(frame, {R: -2.0, H: -1.0}, n=12), LATE: made.readout(frame, {H: -5.0, R: 5.0}, n=12)}
    order = choose(cells, flat, 4, 0, 2, readout)
    assert list(zip(order["checkpoint"], order["cell"], strict=True))[:4] == [
        (LATE, H),
        (EARLY, R),
        (EARLY, H),
        (LATE, R),
    ]
    scoring = readout[LATE]["prompt_id"].isin(split_half(DIRECT, 2).scoring)
    leaked = readout | {LATE: readout[LATE].assign(value=readout[LATE]["value"].where(~scoring, 100.0))}
    pd.testing.assert_frame_equal(choose(cells, flat, 4, 0, 2, leaked), order)


def test_targets_without_generated_controls_are_not_eligible(sweeps):
    cells, judged = sweeps
    some = {c: f[~f["arm"].str.contains("random|covariance|shuffled")] for c, f in judged.items()}
    with pytest.raises(ValueError, match="no target with generated pooled controls"):
        choose(cells, some, 3, 4, 2)
    only = choose(cells, some | {EARLY: judged[EARLY]}, 8, 1, 2)
    assert set(only["checkpoint"]) == {EARLY} and (only["role"] == "target").sum() == 2


def test_table_scores_the_other_half(sweeps):
    cells, judged = sweeps
    chosen = choose(cells, judged, 2, 3, seed=2)
    scoring = split_half(DIRECT, 2).scoring
    table = follow_up_table(chosen, judged, scoring, seed=1, draws=300)
    check_table(table, TABLES["follow_up"])
    assert len(table) == len(chosen) == 2 * 4 + 1
    frame = judged[LATE]
    for row, cell in zip(table.to_dict("records"), chosen["cell"], strict=True):
        mine = frame[frame["arm"] == cell]
        direct = mine[(mine["suite"] == "direct") & mine["prompt_id"].isin(scoring)]
        kept = mine[(mine["suite"] != "direct") | mine["prompt_id"].isin(scoring)]
        asr, refused = (wilson(int(direct[c].sum()), 6) for c in ("attack_success", "any_refusal"))
        broken = wilson(int(kept["degenerate"].sum()), len(kept))
        assert (row["asr"], row["asr_lo"], row["asr_hi"], row["n_asr"]) == pytest.approx((asr.value, asr.lo, asr.hi, 6))
        assert (row["any_refusal"], row["any_refusal_lo"]) == pytest.approx((refused.value, refused.lo))
        assert (row["degenerate"], row["degenerate_hi"], row["n_degenerate"]) == pytest.approx(
            (broken.value, broken.hi, 25)
        )
        for name, suite, n in (("usefulness", "usefulness", 5), ("benign_mean", "utility", 6)):
            column = "utility" if suite == "utility" else "usefulness"
            values = mine.loc[mine["suite"] == suite, column]
            assert row[name] == pytest.approx(values.mean()) and row["n_benign" if n == 6 else "n_usefulness"] == n
            assert values.min() <= row[f"{name}_lo"] <= row[name] <= row[f"{name}_hi"] <= values.max()
    pd.testing.assert_frame_equal(follow_up_table(chosen, judged, scoring, seed=1, draws=300), table)


def test_differences_are_paired_with_the_baseline_and_the_controls(sweeps):
    cells, judged = sweeps
    chosen, frame = choose(cells, judged, 1, 3, seed=2), judged[LATE]
    scoring = split_half(DIRECT, 2).scoring
    table = follow_up_table(chosen, judged, scoring, seed=1, draws=4000)

    def values(cell, suite, column):
        mine = frame[(frame["arm"] == cell) & (frame["suite"] == suite)]
        mine = mine[(suite != "direct") | mine["prompt_id"].isin(scoring)].sort_values("prompt_id")
        return mine[column].to_numpy(float)

    rows = dict(zip(chosen["cell"], table.to_dict("records"), strict=True))
    for cell, row in rows.items():
        broken = values(cell, "direct", "degenerate")
        assert row["degenerate_direct"] == pytest.approx(broken.mean())
        if cell == "clean":
            continue
        for name, suite, column in (("asr", "direct", "attack_success"), ("degenerate_direct", "direct", "degenerate")):
            a, b = (values(c, suite, column) for c in (cell, "clean"))
            found = tuple(row[f"{name}_delta{end}"] for end in ("", "_lo", "_hi"))
            assert found == pytest.approx(((a - b).mean(), *paired_rates(a, b)))
        d = values(cell, "usefulness", "usefulness") - values("clean", "usefulness", "usefulness")
        assert row["usefulness_delta"] == pytest.approx(d.mean())
        sd = (row["usefulness_delta_hi"] - row["usefulness_delta_lo"]) / (2 * 1.96)
        assert sd == pytest.approx(d.std() / np.sqrt(len(d)), rel=0.2)  # of differences, not of two samples
    controls = [cell for cell in rows if cell not in ("clean", R)]
    d = values(R, "usefulness", "usefulness") - np.mean(
        [values(c, "usefulness", "usefulness") for c in controls], axis=0
    )
    assert rows[R]["usefulness_control_delta"] == pytest.approx(d.mean())
    assert rows[R]["usefulness_control_delta_lo"] < d.mean() < rows[R]["usefulness_control_delta_hi"]
    deltas = [name for name in table if "_delta" in name and name != "chosen_delta"]
    assert table.loc[table["role"] == "baseline", deltas].isna().all(axis=None)
    assert table.loc[table["role"] == "control", "usefulness_control_delta"].isna().all()


def test_suites_that_were_not_run_stay_empty_and_lost_cells_are_named(sweeps):
    cells, judged = sweeps
    chosen = choose(cells, judged, 1, 1, seed=2)
    direct = {LATE: judged[LATE].query("suite == 'direct'")}
    table = follow_up_table(chosen, direct)
    assert table["usefulness"].isna().all() and table["n_asr"].eq(12).all()
    check_table(table, TABLES["follow_up"])
    lost = {LATE: judged[LATE][judged[LATE]["arm"] != R]}
    with pytest.raises(ValueError, match=f"cell {R}: no judged follow-up answers"):
        follow_up_table(chosen, lost)
    with pytest.raises(ValueError, match="no judged follow-up answers of Checkpoint"):
        follow_up_table(chosen, {})


def test_halves_differ_between_seeds():
    assert len({split_half(DIRECT, seed).choosing for seed in range(6)}) > 1
