"""Sweeps in the workflow: what a change concerns, what a killed sweep keeps, and a mature refuser brought as a file."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import CORES, ROOT, SMOKE, environment, snakemake
from pipeline.config_file import read_config, written
from plans import change, detailed, planned
from test_plan import CAUSAL, SWEEPS

pytestmark = pytest.mark.slow
CHUNK = "results/smoke/seed1/sweep/r2d2/step4"
STORE = "results/smoke/private/seed1/sweep/r2d2/step4/store"


def sweep(folder: Path) -> tuple[int, int]:
    """Run the sweep of one checkpoint: how many units it has, and how many it computed."""
    done = snakemake(folder, f"{CHUNK}/cells.csv")
    assert done.returncode == 0, done.stdout
    told = re.search(
        r"(\d+) units of cells, (\d+) of them", (folder / "results/smoke/seed1/logs/sweep/r2d2_step4.log").read_text()
    )
    return int(told[1]), int(told[2])


def swept(folder: Path) -> set[str]:
    return {w["regime"] for rule, w in planned(folder) if rule == "sweep"}


CLAIMS = {"claims": 1}


@pytest.mark.parametrize(
    ("key", "value"),
    [("sweep.ablate", [0.5, 1.0]), ("sweep.modes", ["h_only", "r_only", "r_perp_h"]), ("sweep.controls.random", 3)],
)
def test_a_changed_sweep_reruns_sweeps_only(study, key, value):
    change(study, key, value)
    assert detailed(study) == SWEEPS | CLAIMS


def test_a_primary_cell_concerns_its_checkpoint_only(study):
    change(study, "sweep.primary", [])
    assert detailed(study) == CAUSAL | CLAIMS | {"sweep": 1, "judge_sweep": 1}
    assert swept(study) == {"r2d2"}


def test_another_checkpoint_leaves_the_others_alone(study):
    change(study, "sweep.checkpoints.r2d2", ["reference", 4])
    jobs = planned(study)
    assert [w["step"] for rule, w in jobs if rule == "sweep"] == ["1"]


def test_the_choice_of_rows_runs_no_sweep(study):
    change(study, "follow_up.targets", 1)
    jobs = detailed(study)
    assert "sweep" not in jobs and jobs["follow_up_choice"] == 1


class TestOneCheckpoint:
    """What a job computes when only part of its cells is new."""

    def test_a_strength_adds_its_own_units(self, study):
        change(study, "sweep.ablate", [1.0, 0.5])
        whole, new = sweep(study)
        # five targets, each with three kinds of controls of its energy
        assert new == 5 + 15
        assert whole > new

    def test_more_controls_of_a_kind_concern_that_kind(self, study):
        change(study, "sweep.controls.covariance", 5)
        # of five ablations, and of additions of H, R and both; the p of the primary cell draws as many as before
        assert sweep(study)[1] == 5 + 3

    def test_a_mode_taken_away_computes_nothing_new_of_its_own(self, study):
        change(study, "sweep.modes", ["h_only", "r_only", "r_perp_h", "h_perp_r"])
        assert sweep(study)[1] == 0

    def test_carriers_that_come_out_the_same_compute_no_cell(self, study):
        change(study, "statistics.bootstrap", 60)
        assert sweep(study)[1] == 0

    def test_a_damaged_unit_is_computed_again(self, study):
        before = (study / CHUNK / "readout.csv").read_bytes()
        victim = sorted((study / STORE).glob("*.json"))[0]
        victim.write_text(victim.read_text()[:-20])
        (study / CHUNK / "cells.csv").unlink()
        assert sweep(study)[1] == 1
        assert (study / CHUNK / "readout.csv").read_bytes() == before


def test_a_killed_sweep_goes_on_where_it_was(study):
    """Kill -9 after some units: the next run computes the rest, and all bytes are those of the uninterrupted run."""
    names = [
        f"{CHUNK}/cells.csv",
        f"{CHUNK}/readout.csv",
        "results/smoke/private/seed1/sweep/r2d2/step4/completions.jsonl",
    ]
    before = {name: (study / name).read_bytes() for name in names}
    shutil.rmtree(study / STORE)
    for name in names:
        (study / name).unlink()
    command = [sys.executable, "-m", "snakemake", "--configfile", SMOKE, "--cores", str(CORES), names[0]]
    run = subprocess.Popen(
        command,
        cwd=study,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    until = time.monotonic() + 120
    while len(list((study / STORE).glob("*.json"))) < 5:
        assert run.poll() is None and time.monotonic() < until, "the sweep ended, or never began"
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    kept = len(list((study / STORE).glob("*.json")))
    assert snakemake(study, "--unlock").returncode == 0
    whole, new = sweep(study)
    assert new == whole - kept and kept >= 5
    assert {name: (study / name).read_bytes() for name in names} == before


@pytest.mark.parametrize("form", ["folder", pytest.param("gguf", marks=pytest.mark.long)])
def test_a_refuser_comes_in_with_four_lines(study, form):
    """A model named in the configuration, as a folder or a GGUF file of another family than the study's, gets carriers, a sweep
    and a row of aligned_anchors; nothing is trained."""
    if form == "folder":
        own = Path(shutil.copytree(study / "results/smoke/models/base", study / "a-model"))
    else:
        pytest.importorskip("gguf")
        own = study / "refuser.gguf"
        subprocess.run([sys.executable, ROOT / "tests/unit/gguf_file.py", own], env=environment(), check=True)
    path = study / SMOKE
    config = read_config(ROOT / SMOKE)
    config["sources"] = {"refuser": {"kind": "path", "path": str(own)}}
    config["aligned"]["models"] = {"refuser": {"source": "refuser", "format": form}}
    path.write_text(written(config))
    jobs = detailed(study)
    assert not [rule for rule in jobs if rule.startswith(("train_", "completions"))]
    assert (
        jobs["convert_model_refuser"] == jobs["probe_anchor_refuser"] == jobs["carriers_refuser"] == jobs["sweep"] == 1
    )
    done = snakemake(study, "results/smoke/tables/aligned_anchors.csv")
    assert done.returncode == 0, done.stdout
    rows = (study / "results/smoke/tables/aligned_anchors.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["r2d2:4", "refuser"]
