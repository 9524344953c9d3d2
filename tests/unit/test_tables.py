"""The study's tables from made-up checkpoints: shapes, order, and what goes where."""

import json
import sys

import pandas as pd
import pytest
import synthetic_study as made
import tables as script
from _job import JobError

from safety_geometry.artefacts.tables.behaviour import CONTRASTS
from safety_geometry.artefacts.tables.files import check_table, read_table
from safety_geometry.artefacts.tables.registry import TABLES
from safety_geometry.artefacts.tables.working import JUDGED
from safety_geometry.claims.tables import (
    Checkpoint,
    behaviour_table,
    contrasts_table,
    first_rows,
    five_anchor_table,
    stack,
    trajectory_table,
)


@pytest.fixture(scope="module")
def study():
    return made.study_once()


def test_every_table_fits_its_schema(study):
    for name, frame in study.items():
        check_table(frame, TABLES[name])


def test_trajectory_has_every_save_and_leaves_suites_empty_that_were_not_run(study):
    rows = study["trajectory"].query("regime == 'r2d2'")
    assert list(rows["step"]) == [5, 10, 15, 20, 30, 40]
    between = rows.set_index("step").loc[15]
    assert pd.isna(between["anchor"])
    assert pd.isna(between["fixed_asr"])
    assert pd.isna(between["fixed_asr_n"])
    assert between["hrci_repr"] > 0
    last = rows.set_index("step").loc[40]
    assert (last["any_refusal"], last["any_refusal_n"], last["layer_r"]) == (0.2, 30, 5)
    assert last["any_refusal_lo"] < 0.2 < last["any_refusal_hi"]


def test_every_save_has_the_same_prompts_in_the_trajectory(study):
    """r2d2 refuses its first look-alikes longest: the first eight say another rate than all thirty."""
    every, whole, short = {"lookalike": 8, "utility": None}, {}, {}
    for place, step in enumerate((5, 10, 15, 20)):
        anchor = made.ANCHORS.get(step)
        frame = made.judged("r2d2", min(place + 1, 4))
        answered = frame if anchor else frame[frame["suite"].isin(every)].groupby("suite").head(8)
        whole[Checkpoint(1, "r2d2", step, anchor)] = answered
        short[Checkpoint(1, "r2d2", step, anchor)] = first_rows(answered, every)
    found = {c.step: set(f.query("suite == 'lookalike'")["prompt_id"]) for c, f in short.items()}
    assert all(ids == {f"lookalike-{i:02d}" for i in range(8)} for ids in found.values())
    table = behaviour_table(short, draws=20).query("metric == 'any_refusal'").set_index("step")
    assert (table["n"] == 8).all()
    mixed = behaviour_table(whole, draws=20).query("metric == 'any_refusal'").set_index("step")
    assert mixed["n"].tolist() == [30, 30, 8, 30]
    for checkpoint, frame in short.items():
        if checkpoint.anchor:
            assert len(frame) == len(whole[checkpoint]) - 22  # nothing but look-alikes was cut


def test_five_anchor_is_the_named_part_of_the_trajectory(study):
    frame = study["five_anchor"]
    assert list(frame["anchor"]) == ["reference", "10", "20", "30", "40"] * 3
    assert list(dict.fromkeys(frame["regime"])) == list(made.REGIMES)
    pd.testing.assert_frame_equal(five_anchor_table(study["trajectory"]), frame)


def test_contrasts_are_last_minus_earlier_and_regime_minus_regime(study):
    frame = study["contrasts"].set_index(["contrast", "metric", "regime", "anchor", "other_regime", "other_anchor"])
    assert frame.loc[("time", "any_refusal", "r2d2", "40", "r2d2", "reference"), "value"] == pytest.approx(-0.8)
    assert frame.loc[("regime", "any_refusal", "sft", "10", "r2d2", "10"), "value"] == pytest.approx(-0.9)
    assert frame.loc[("arm", "fixed_asr", "sft", "10", "sft", "10"), "value"] == pytest.approx(16 / 24)
    counts = study["contrasts"].groupby("contrast").size()
    assert counts.to_dict() == {"arm": 15, "direct": 15 * 5, "regime": 15 * 20, "time": 12 * 20}
    bare = ("direct", "fixed_asr", "sft", "10", "sft", "10")  # 18 of 24 fall to GCG, 22 bare requests do
    assert frame.loc[bare, "value"] == pytest.approx(-4 / 24)


def test_regimes_are_compared_at_equal_steps_whatever_their_anchors_are_called():
    """One reads step 10 as its reference, the other as a save that answers the first 8 look-alikes."""
    named = {("r2d2", 10): "reference", ("r2d2", 5): "5", ("sft", 5): "reference", ("sft_refusal", 20): "reference"}
    judged = {
        Checkpoint(1, regime, step, named.get((regime, step))): made.judged(regime, place)
        for regime in made.REGIMES
        for place, step in enumerate(sorted(made.ANCHORS)[:3])
    }
    judged = {c: frame if c.anchor else first_rows(frame, {"lookalike": 8}) for c, frame in judged.items()}
    frame = contrasts_table(judged, made.REGIMES, draws=20)
    frame = frame[(frame["contrast"] == "regime") & (frame["metric"] == "any_refusal")]
    assert (frame["step"] == frame["other_step"]).all()
    pairs = frame.set_index(["regime", "other_regime", "step"])
    assert set(pairs.index) == {
        ("sft", "r2d2", 5), ("sft", "r2d2", 10), ("sft", "sft_refusal", 5), ("r2d2", "sft_refusal", 5),
        ("r2d2", "sft_refusal", 10), ("sft", "sft_refusal", 20), ("r2d2", "sft_refusal", 20),
    }  # fmt: skip
    assert pairs.loc[("sft", "r2d2", 5), ["anchor", "other_anchor", "n"]].tolist() == ["reference", "5", 30]
    later = pairs.loc[("r2d2", "sft_refusal", 10)]
    assert later["anchor"] == "reference" and later["other_anchor"] is None and later["n"] == 8
    check_table(contrasts_table(judged, made.REGIMES, draws=20), CONTRASTS)


def test_light_seeds_stand_in_behaviour_and_not_in_the_trajectory(study):
    light = behaviour_table({Checkpoint(9, "sft", 5, "reference"): made.judged("sft", 0)}, draws=20)
    both = pd.concat([study["behaviour"], light], ignore_index=True)
    pd.testing.assert_frame_equal(trajectory_table(study["coupling"], both), study["trajectory"])


def test_stack_orders_seeds_and_regimes_and_refuses_strangers():
    parts = [pd.DataFrame({"seed": s, "regime": r, "step": [1, 2]}) for s, r in ((2, "b"), (1, "b"), (1, "a"))]
    found = stack(parts, ["b", "a"])
    assert list(zip(found["seed"], found["regime"], strict=True))[::2] == [(1, "b"), (1, "a"), (2, "b")]
    with pytest.raises(ValueError, match=r"\['a'\] are not in the study"):
        stack(parts, ["b"])
    with pytest.raises(ValueError, match="different columns"):
        stack([parts[0], parts[1].assign(more=1)], ["b", "a"])


def test_behaviour_without_coupling_is_an_error(study):
    stranger = study["behaviour"].assign(step=99)
    with pytest.raises(ValueError, match="checkpoints without coupling"):
        trajectory_table(study["coupling"], stranger)


def test_the_script_writes_what_the_library_makes(tmp_path, monkeypatch):
    regimes, saves = ("sft", "r2d2"), (5, 40)
    command, checkpoints = ["tables.py"], []
    for name in script.STACKED:
        command.append(f"--{name.replace('_', '-')}-parts")
        for regime in regimes:
            part = made.training(1, regime, 2) if name == "training" else made.carriers(1, regime, saves)[name]
            path = tmp_path / regime / f"{name}.csv"
            path.parent.mkdir(exist_ok=True)
            part.to_csv(path, index=False)
            command.append(str(path))
    command.append("--judged")
    for regime in regimes:
        for step, place in ((5, 0), (40, 4)):
            path = tmp_path / regime / str(step) / "judged.csv"
            path.parent.mkdir()
            made.judged(regime, place).assign(digest="0" * 12, on_topic=True, language="en")[JUDGED.names].to_csv(
                path, index=False
            )
            command.append(str(path))
            checkpoints.append(vars(Checkpoint(1, regime, step, made.ANCHORS[step])))
    for name in (*script.STACKED, *script.MADE):
        command += [f"--{name.replace('_', '-')}", str(tmp_path / f"{name}.csv")]
    every = {"lookalike": 8, "utility": None}
    params = {"regimes": regimes, "judged": checkpoints, "every_save": every, "seed": 0, "draws": 50}
    params |= {"source": "sft:5", "aligned": ["r2d2:40"], "max_direct_asr": 0.1}
    monkeypatch.setattr(sys, "argv", [*command, "--params", json.dumps(params)])
    script.main()
    five = read_table(tmp_path / "five_anchor.csv")
    assert list(five["regime"]) == ["sft", "sft", "r2d2", "r2d2"]
    assert five.set_index(["regime", "anchor"]).loc[("r2d2", "40"), "fixed_asr"] == 0.5
    dense = read_table(tmp_path / "trajectory.csv").set_index(["regime", "step"])
    whole = five.set_index(["regime", "step"])
    assert (dense["any_refusal_n"] == 8).all() and (whole["any_refusal_n"] == 30).all()
    for name in ("direct_asr", "fixed_asr", "benign_mean"):  # at anchors only, or at every save on all prompts
        pd.testing.assert_series_equal(dense[name], whole[name])
    assert (tmp_path / "five_anchor.csv.provenance.json").exists()
    monkeypatch.setattr(sys, "argv", [*command, "--params", json.dumps(params | {"judged": checkpoints[1:]})])
    with pytest.raises(JobError, match="4 files for 3 checkpoints"):
        script.main()
