"""Attacks in the workflow: what a change concerns, and what is kept."""

import pytest
from harness import snakemake
from plans import change, plan, planned

pytestmark = pytest.mark.slow
SUMMARY = {"transfer_tables": 1, "figure_transfer": 1, "figure_transfer_predictors": 1, "claims": 1}
ROW = {"transfer": 1, "judge_transfer": 1}  # a source's row of the transfer table


def test_autodans_budget_leaves_gcg_alone(study):
    change(study, "attacks.autodan.steps", 2)
    assert plan(study) == SUMMARY | ROW | {"attack_autodan": 1}


def test_gcgs_budget_leaves_autodan_alone(study):
    change(study, "attacks.gcg.steps", 3)
    jobs = plan(study)
    assert jobs["attack_gcg"] == jobs["transfer"] == 1 and jobs["completions"] == 4  # the fixed-source suite
    assert not [rule for rule in jobs if rule.startswith(("train_", "probe_", "attack_autodan", "attacked"))]


def test_a_source_adds_its_own_attacks_and_row(study):
    change(study, "transfer.sources.r2d2", [4])
    assert plan(study) == SUMMARY | ROW | {"attack_gcg": 1, "attack_autodan": 1}
    assert {w["regime"] for rule, w in planned(study) if "regime" in w} == {"r2d2"}


def test_a_target_is_asked_and_the_others_are_not_asked_again(study):
    """The job of each source runs again, and takes what the other targets have answered from its store."""
    change(study, "transfer.targets.r2d2", ["reference", 4])
    assert plan(study) == SUMMARY | ROW
    store = study / "results/smoke/private/seed1/transfer/sft/step4.store"
    before = {path: path.stat().st_mtime_ns for path in store.iterdir()}
    done = snakemake(study, "results/smoke/private/seed1/transfer/sft/step4.jsonl")
    assert done.returncode == 0, done.stdout
    after = {path: path.stat().st_mtime_ns for path in store.iterdir()}
    assert before.items() <= after.items() and len(after) == len(before) + 2  # one a method


def test_dense_statistics_run_no_model(study):
    change(study, "statistics.block_lengths", [2, 3])
    assert plan(study) == {"dense_tables": 1, "figure_dense": 1, "claims": 1}
