"""Verdicts of the transfer claims on tables whose answers are known, and every reason for deciding nothing."""

import functools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import synthetic_transfer as made

from safety_geometry.attacks.transfer import transfer_predictors, transfer_table
from safety_geometry.claims.catalogue import CLAIMS
from safety_geometry.claims.decide import decided
from safety_geometry.claims.evidence import Evidence
from safety_geometry.claims.margins import MARGINS
from safety_geometry.claims.rules import NOT_APPLICABLE
from safety_geometry.claims.transfer import folded

IDS = ("transfer_coupling_r2d2", "transfer_tie_r2d2", "transfer_coupling_sft", "transfer_behaviour_sft", "transfer_drift_sft", "transfer_weaker_sft")  # fmt: skip
SIX = (10, 20, 30, 40, 50, 60)
OPEN = {"r2d2": (0.0, 0.1, 0.3, 0.5, 0.7, 0.9), "sft": (0.6, 0.4, 0.7, 0.5, 0.65, 0.45)}
COUPLED = {"r2d2": (0.08, 0.075, 0.05, 0.03, 0.02, 0.01), "sft": (0.022, 0.021, 0.0205, 0.02, 0.019, 0.018)}
WAYS = {"as it is": OPEN, "open": {"r2d2": (0.3, 0.5, 0.7), "sft": (0.5, 0.6, 0.7)}}


@functools.cache
def transferred(steps=SIX, opened="as it is", attacks=tuple(made.REACH)) -> dict[str, pd.DataFrame]:
    judged = made.judged(steps=steps, attacks=attacks, opened=WAYS[opened])
    return {"transfer": transfer_table(judged), "attacks": made.attacks(judged)}


def tables(steps=SIX, opened="as it is", coupled=COUPLED, fixed=None, regimes=("sft", "r2d2")):
    """The tables of one seed; `fixed` are the fixed ASRs of the checkpoints where they are not how open they are."""
    parts = made.carriers(steps=steps, opened=WAYS[opened], coupled=coupled, fixed=fixed)
    made_tables = transferred(steps, opened)
    transfer = made_tables["transfer"]
    made_of = transfer[transfer["attack"].isin(["gcg", "autodan"]) & transfer["regime"].isin(regimes)]
    return parts | made_tables | {"transfer_predictors": transfer_predictors(made_of, **parts, draws=200)}


def verdict(claim, study):
    seeds = study["trajectory"]["seed"].nunique() if "trajectory" in study else 1
    return decided(next(c for c in CLAIMS if c.id == claim), Evidence(study), seeds)


@pytest.fixture(scope="module")
def study():
    return tables()


def test_a_study_without_transfer_decides_nothing():
    assert {claim.id for claim in CLAIMS if claim.id.startswith("transfer_")} == set(IDS)
    for claim in IDS:
        found = verdict(claim, {})
        assert (found.verdict, found.reason) == (NOT_APPLICABLE, "the study has no table transfer"), claim
    assert "no attack was transferred within the regime r2d2" in verdict(IDS[0], tables_without("r2d2")).reason


def tables_without(regime):
    transfer = transfer_table(made.judged(regimes=("sft",)))
    return {"transfer": transfer[transfer["regime"] != regime]}


def test_coupling_tracks_transfer_in_the_papers_shape(study):
    found = verdict("transfer_coupling_r2d2", study)
    assert found.verdict == "holds" and "(all attacks, 6 targets; ties allow" in found.reason
    row = (
        study["transfer_predictors"]
        .query("regime == 'r2d2' and attack == 'all' and predictor == 'target_hrci_repr'")
        .iloc[0]
    )
    turned = (-row["rho"], -row["hi"], -row["lo"])
    assert (found.estimate, found.lo, found.hi) == pytest.approx(turned) and (found.p, found.n) == (row["p"], row["n"])
    assert found.lo > 0 and found.p_smallest <= found.p < 0.05


def test_coupling_that_rises_with_transfer_fails():
    upside_down = COUPLED | {"r2d2": COUPLED["r2d2"][::-1]}
    found = verdict("transfer_coupling_r2d2", tables(coupled=upside_down, regimes=("r2d2",)))
    assert found.verdict == "fails" and found.estimate < -0.9


def test_three_targets_are_too_few():
    study = tables(steps=SIX[:3], opened="open")
    for claim in IDS:
        found = verdict(claim, study)
        assert found.verdict == NOT_APPLICABLE and "takes 5 source and target checkpoints" in found.reason, claim


def test_attacks_no_better_than_their_start_decide_nothing(study):
    def level(frame, attacks):
        return study | {
            "attacks": frame.assign(
                success=frame["success"].where(~frame["attack"].isin(attacks), frame["success_start"])
            )
        }

    both = level(study["attacks"], ["gcg", "autodan"])
    for claim in IDS:
        found = verdict(claim, both)
        assert found.verdict == "inconclusive"
        told = "gcg does not beat gcg_init on its own sources (by 0.000, p = 1, least possible 1, 20 behaviours on 6 sources)"
        assert told in found.reason
    one = verdict("transfer_coupling_r2d2", level(study["attacks"], ["autodan"]))
    assert one.verdict == "holds" and "(gcg attacks" in one.reason
    alone = transferred(attacks=("gcg", "autodan"))
    assert "gcg was not compared with gcg_init on its own sources" in verdict("transfer_coupling_r2d2", alone).reason


def test_predictors_that_rank_targets_alike_cannot_be_told_apart(study):
    found = verdict("transfer_tie_r2d2", study)
    assert found.verdict == "inconclusive" and "rank the targets alike" in found.reason


def test_a_tie_is_a_small_difference_and_a_lead_a_large_one(monkeypatch):
    near = tables(coupled=COUPLED | {"r2d2": (0.075, 0.08, 0.05, 0.03, 0.02, 0.01)}, regimes=("r2d2",))
    found = verdict("transfer_tie_r2d2", near)
    assert found.verdict == "inconclusive" and found.estimate < 0 and found.lo < -0.1 < found.hi
    noise = (0.3, 0.2, 0.4, 0.2, 0.4, 0.3)
    ahead = tables(fixed=OPEN | {"r2d2": noise}, regimes=("r2d2",))
    lead = verdict("transfer_tie_r2d2", ahead)
    assert lead.estimate > 0.3 and 0 < lead.lo < 0.5 < lead.hi
    claim = next(c for c in CLAIMS if c.id == "transfer_tie_r2d2")
    for margin, study, expected in ((1.01, near, "holds"), (lead.lo / 2, ahead, "fails")):
        monkeypatch.setitem(MARGINS, "rho_tie", replace(MARGINS["rho_tie"], margin=margin))
        assert decided(claim, Evidence(study), 1).verdict == expected
    neither = tables(coupled=COUPLED | {"r2d2": noise}, fixed=OPEN | {"r2d2": noise[::-1]}, regimes=("r2d2",))
    assert (
        verdict("transfer_tie_r2d2", neither).reason == "neither coupling nor fixed ASR goes with transfer within r2d2"
    )


def test_what_plain_training_follows(study):
    open_ = verdict("transfer_behaviour_sft", study)
    assert open_.verdict == "holds" and open_.estimate > 0.6
    rows = study["transfer_predictors"].query("regime == 'sft' and attack == 'all'").set_index("predictor")
    assert open_.p == pytest.approx(3 * rows.loc["target_fixed_asr", "p"])  # Holm over three
    assert open_.p_smallest == pytest.approx(3 * rows.loc["target_fixed_asr", "p_smallest"])
    coupled, drift = verdict("transfer_coupling_sft", study), verdict("transfer_drift_sft", study)
    assert (coupled.verdict, drift.verdict) == ("inconclusive", "inconclusive") and abs(coupled.estimate) < 0.5
    weaker = verdict("transfer_weaker_sft", study)
    assert weaker.estimate == pytest.approx(abs(verdict(IDS[0], study).estimate) - abs(coupled.estimate))
    assert weaker.lo < weaker.estimate < weaker.hi


def predictor(rho, lo, hi, p):
    """transfer_predictors of one regime, one seed and attacks that beat their start."""
    row = {"seed": 1, "regime": "r2d2", "attack": "all", "predictor": "target_hrci_repr", "rho": rho, "lo": lo, "hi": hi, "p": p,
           "p_smallest": 0.001, "n": 40, "n_targets": 6, "n_sources": 6, "n_seeds": 1, "rho_tie_ceiling": 0.99}  # fmt: skip
    return pd.DataFrame([row])


@pytest.mark.parametrize(
    ("numbers", "p", "expected"),
    [
        ((-0.9, -0.95, -0.5), 0.01, "holds"),
        ((-0.9, -0.95, -0.5), 0.06, "inconclusive"),
        ((-0.9, -0.95, 0.1), 0.01, "inconclusive"),
        ((-0.9, np.nan, np.nan), 0.01, NOT_APPLICABLE),
        ((0.9, 0.5, 0.95), 0.01, "fails"),
        ((0.9, 0.5, 0.95), 0.06, "inconclusive"),
        ((0.0, -0.2, 0.2), 0.9, "no effect"),
        ((0.0, -0.6, 0.6), 0.9, "inconclusive"),
    ],
)
def test_p_and_interval_have_to_agree(study, numbers, p, expected):
    assert (
        verdict("transfer_coupling_r2d2", study | {"transfer_predictors": predictor(*numbers, p)}).verdict == expected
    )


def test_seeds_are_decided_together(study):
    """Four checkpoints are too few on one seed; three seeds of them are not."""
    steps, regimes = SIX[:4], ("sft", "r2d2")
    opened, coupled = (
        {r: values[r][:4] for r in regimes}
        for values in ({"r2d2": (0.2, 0.4, 0.6, 0.8), "sft": (0.6, 0.4, 0.7, 0.5)}, COUPLED)
    )
    judged = made.judged(seeds=(1, 2, 3), steps=steps, opened=opened)
    parts = made.carriers(seeds=(1, 2, 3), steps=steps, opened=opened, coupled=coupled)
    transfer = transfer_table(judged)
    attacked = transfer[transfer["attack"].isin(["gcg", "autodan"])]
    whole = parts | {
        "transfer": transfer,
        "attacks": made.attacks(judged),
        "transfer_predictors": transfer_predictors(attacked, **parts, draws=300),
    }
    one = {name: frame[frame["seed"] == 1] for name, frame in whole.items()}
    alone, together = (verdict("transfer_coupling_r2d2", tables) for tables in (one, whole))
    assert alone.verdict == NOT_APPLICABLE and "4 targets" in alone.reason
    assert together.verdict == "holds" and "12 targets over 3 seeds" in together.reason
    assert together.p == together.p_smallest < 0.001
    assert together.verdict_over_seeds == "holds" and together.by_seed.startswith("1: ")


def test_intervals_fold_at_zero():
    assert folded(-0.2, 0.5) == (0.0, 0.5)
    assert folded(-0.9, -0.4) == (0.4, 0.9)
