"""Attacks in the workflow: what a change concerns, and what is kept."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from harness import SMOKE, environment, snakemake
from plans import change, detailed, planned

pytestmark = pytest.mark.slow
SUMMARY = {"transfer_tables": 1, "figure_transfer": 1, "figure_transfer_predictors": 1, "claims": 1}
ROW = {"transfer": 1, "judge_transfer": 1}  # a source's row of the transfer table


def test_autodans_budget_leaves_gcg_alone(study):
    change(study, "attacks.autodan.steps", 2)
    jobs = detailed(study)
    assert jobs["attack_autodan"] == jobs["transfer"] == 1 and jobs["completions"] == 4  # its suite on the fixed source
    assert not [rule for rule in jobs if rule.startswith(("train_", "probe_", "attack_gcg", "attack_un", "attacked"))]


def test_the_universal_suffix_is_a_job_and_a_suite_of_its_own(study):
    change(study, "attacks.universal.steps", 2)
    jobs = detailed(study)
    assert jobs["attack_universal"] == 1 and jobs["completions"] == 4
    others = ("train_", "attack_gcg", "attack_autodan", "attacked", "framings", "transfer__", "judge_transfer")
    assert not [rule for rule in jobs if rule.startswith(others)]


def test_a_study_without_framings_and_universal_suffix(study):
    change(study, "attacks.framings", 0)
    change(study, "attacks.universal", None)
    jobs = detailed(study)
    assert jobs["completions"] == 4 and not {"framings", "attack_universal"} & set(jobs)


def test_gcgs_budget_leaves_autodan_alone(study):
    change(study, "attacks.gcg.steps", 3)
    jobs = detailed(study)
    assert jobs["attack_gcg"] == jobs["transfer"] == 1 and jobs["completions"] == 4  # the fixed-source suite
    assert not [rule for rule in jobs if rule.startswith(("train_", "probe_", "attack_autodan", "attacked"))]


def test_a_source_adds_its_own_attacks_and_row(study):
    change(study, "transfer.sources.r2d2", [4])
    assert detailed(study) == SUMMARY | ROW | {"attack_gcg": 1, "attack_autodan": 1}
    assert {w["regime"] for rule, w in planned(study) if "regime" in w} == {"r2d2"}


def test_a_target_is_asked_and_the_others_are_not_asked_again(study):
    """The job of each source runs again, and takes what the other targets have answered from its store."""
    change(study, "transfer.targets.r2d2", ["reference", 4])
    assert detailed(study) == SUMMARY | ROW
    store = study / "results/smoke/private/seed1/transfer/sft/step4.store"
    before = {path: path.stat().st_mtime_ns for path in store.iterdir()}
    done = snakemake(study, "results/smoke/private/seed1/transfer/sft/step4.jsonl")
    assert done.returncode == 0, done.stdout
    after = {path: path.stat().st_mtime_ns for path in store.iterdir()}
    assert before.items() <= after.items() and len(after) == len(before) + 2  # one a method


def attacking(folder: Path) -> list[psutil.Process]:
    """The GCG scripts at work in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if "workflow/scripts/attack_gcg.py" in process.cmdline()[1:2] and Path(process.cwd()) == folder.resolve():
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def test_after_a_time_limit_the_next_attempt_goes_on(study):
    """As a scheduler ends a job; Snakemake then deletes its outputs and starts it anew, one attempt higher."""
    change(study, "attacks.gcg.steps", 80)
    target, log = (
        "results/smoke/private/seed1/attacks/gcg/sft/step4.jsonl",
        study / "results/smoke/seed1/logs/attack_gcg/sft_step4.log",
    )
    store = (study / target).with_suffix(".store")
    words = ["-m", "snakemake", target, "--configfile", SMOKE, "--cores", "1", "--retries", "1"]
    with (study / "out.txt").open("w") as out:
        run = subprocess.Popen([sys.executable, *words], cwd=study, env=environment(), stdout=out, stderr=out)
        try:
            until, reached = time.monotonic() + 300, 0
            while reached < 5:
                assert run.poll() is None and time.monotonic() < until, (study / "out.txt").read_text()[-3000:]
                time.sleep(0.02)
                reached = max([json.loads(p.read_text())["result"]["step"] for p in store.glob("*.json")], default=0)
            (job,) = attacking(study)
            job.kill()
            assert run.wait(timeout=300) == 0, (study / "out.txt").read_text()[-3000:]
        finally:
            run.kill()
    assert "Trying to restart job" in (study / "out.txt").read_text()
    begun = re.search(r"going on after step (\d+) of 80", log.read_text())
    assert begun and int(begun[1]) >= reached
    assert (study / target).exists() and not list(store.iterdir())


def test_dense_statistics_run_no_model(study):
    change(study, "statistics.block_lengths", [2, 3])
    assert detailed(study) == {"dense_tables": 1, "figure_dense": 1, "claims": 1}
