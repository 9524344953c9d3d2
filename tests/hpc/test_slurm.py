"""SLURM for real: jobs that fail, that are late, cancelled or short of memory, GPUs, a kill, and the study's tables.

The profiles are those of the project; only waiting times and the number of jobs are set for a single machine.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from cluster_runs import PATIENCE, TARGET, Killed, at, cluster, kill_and_resume, site
from harness import ROOT, environment, make_run, snakemake
from test_resume import contents

pytestmark = pytest.mark.slurm


def ask(node: dict[str, str], *command: str) -> str:
    return subprocess.run(command, env=os.environ | node, capture_output=True, text=True, check=True).stdout


def states(node: dict[str, str], folder: Path) -> list[tuple[str, str, str, str]]:
    """(rule, state, memory, time limit) of every SLURM job of a folder, in the order of submission."""
    told = ask(node, "squeue", "--states=all", "--noheader", "--sort=i", "--format=%k|%T|%m|%l|%Z")
    rows = [line.split("|") for line in told.splitlines()]
    return [(re.sub("^rule_|_wildcards.*", "", r[0]), r[1], r[2], r[3]) for r in rows if Path(r[4]) == folder.resolve()]


@dataclass(frozen=True)
class Fates:
    folder: Path
    status: int
    output: str
    jobs: list[tuple[str, str, str, str]]

    def of(self, rule: str) -> list[str]:
        return [state for name, state, *_ in self.jobs if name == rule]


@pytest.fixture(scope="module")
def started(node, tmp_path_factory):
    """tests/hpc/fates.smk with profiles/slurm-gpu, left to itself while the other tests run: it mostly waits."""
    folder = site(tmp_path_factory.mktemp("fates") / "site", "slurm-gpu")
    shutil.copy(ROOT / "tests/hpc/fates.smk", folder / "Snakefile")
    (folder / "model.txt").touch()
    with (folder / "output.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--workflow-profile", "profiles/slurm-gpu", "--jobs", "10", "--keep-going"],
            cwd=folder, env=environment(**at(node)), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        cancelled, until = folder / "started.txt", time.monotonic() + PATIENCE
        while not (cancelled.exists() and cancelled.read_text().strip()):
            assert time.monotonic() < until, (folder / "output.txt").read_text()[-4000:]
            time.sleep(0.5)
        ask(node, "scancel", cancelled.read_text().split()[0])
        yield folder, process
    finally:
        process.kill()


@pytest.fixture(scope="module")
def killed(node, started, tmp_path_factory) -> Killed:
    return kill_and_resume(site(tmp_path_factory.mktemp("killed") / "site", "slurm"), "slurm", node)


def test_the_kill_left_a_job_in_the_queue(killed):
    assert killed.job_lived_on


def test_a_local_run_does_not_start_beside_orphaned_jobs(killed):
    assert killed.local.returncode == 1
    assert "make cluster-recover" in killed.local.stdout


def test_the_second_command_cancels_the_orphan_and_finishes(killed, node):
    assert re.search(r"The last run was killed; ended \d+ process\(es\) and 1 job\(s\) of it", killed.second.stdout)
    assert "Removed its dead lock." in killed.second.stdout
    assert killed.second.returncode == 0, killed.second.stdout[-4000:]
    assert killed.job_ended
    trained = [state for rule, state, *_ in states(node, killed.folder) if rule == "train__sft__0_2"]
    assert trained == ["CANCELLED", "COMPLETED"]


def test_it_resumes_and_does_not_start_anew(killed, node):
    assert Counter(rule for rule, *_ in states(node, killed.folder)) == {
        "tiny_model": 1,
        "model_layers": 1,
        "clean_rows": 1,
        "train__sft__0_2": 2,
    }


def test_memory_time_and_partition_of_the_study_s_jobs(killed, node):
    """What sbatch was given: as the rules state it. The study is tiny: the least that a job with a model asks for, and one without."""
    jobs = {rule: rest for rule, _, *rest in states(node, killed.folder)}
    assert jobs["train__sft__0_2"] == jobs["clean_rows"] == jobs["tiny_model"] == ["2000M", "1:00:00"]
    assert jobs["model_layers"] == ["1500M", "1:00:00"]


def test_a_part_of_the_study_is_the_local_one_byte_for_byte(killed, tmp_path):
    local = site(tmp_path / "local", "slurm")
    done = snakemake(local, TARGET)
    assert done.returncode == 0, done.stdout[-4000:]
    one, other = contents(local), contents(killed.folder)
    assert any(name.endswith("adapter_model.safetensors") for name in one)
    assert one == other


@pytest.fixture(scope="module")
def fates(started, killed, node) -> Fates:
    folder, process = started
    try:
        status = process.wait(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        pytest.fail(f"the run hangs:\n{(folder / 'output.txt').read_text()[-4000:]}")
    return Fates(folder, status, (folder / "output.txt").read_text(), states(node, folder))


def test_the_run_ends_and_says_what_failed(fates):
    assert fates.status == 1
    failed = {p.stem for p in (fates.folder).glob("*.txt")} & {"failed", "late"}
    assert failed == set(), "the output of a failed job is left"
    assert all(
        (fates.folder / f"{name}.txt").exists() for name in ("grown", "cancelled_once", "gpu_a", "gpu_b", "no_gpu")
    )


def test_a_failing_job_is_submitted_three_times(fates):
    """By the executor: three SLURM jobs of one attempt each."""
    assert fates.of("failed") == ["FAILED"] * 3
    assert (fates.folder / "failed.log").read_text().split() == ["attempt"] * 3


def test_a_job_over_its_time_limit_is_ended_and_reported(fates):
    assert fates.of("late") == ["TIMEOUT"]
    assert "SLURM status is: 'TIMEOUT'" in fates.output


def test_a_job_that_is_cancelled_from_outside_is_submitted_again(fates):
    assert fates.of("cancelled_once") == ["CANCELLED", "COMPLETED"]


def test_memory_and_time_grow_with_the_attempt(fates):
    assert [rest for rule, *rest in fates.jobs if rule == "grown"] == [
        ["FAILED", "500M", "1:00:00"],
        ["COMPLETED", "1000M", "2:00:00"],
    ]
    assert (fates.folder / "grown.txt").read_text().split() == ["500", "1000"]


def test_gpus_go_to_the_jobs_that_run_a_model(fates):
    told = {name: (fates.folder / f"{name}.txt").read_text().split() for name in ("gpu_a", "gpu_b", "no_gpu")}
    assert {told["gpu_a"][0], told["gpu_b"][0]} == {"0", "1"}
    assert told["gpu_a"][1] == told["gpu_b"][1] == "gpu"
    assert told["no_gpu"] == ["none", "cpu"]


@pytest.mark.study
def test_the_whole_smoke_study_is_the_local_one_byte_for_byte(node, tmp_path):
    """SMOKE_RUN=FOLDER takes a local run that was made before."""
    if given := os.environ.get("SMOKE_RUN"):
        local = Path(given)
    else:
        local = site(tmp_path / "local", "slurm")
        done = make_run(local)
        assert done.returncode == 0, done.stdout[-4000:]
    there = site(tmp_path / "there", "slurm")
    done = cluster(there, "slurm", **node)
    assert done.returncode == 0, done.stdout[-6000:]
    assert (there / "results/smoke/report.html").stat().st_size > 100_000
    one, other = contents(local), contents(there)
    assert {name for name in one if name.startswith("tables/")}
    assert sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name)) == []
    submitted = [rule for rule, *_ in states(node, there)]
    text = (there / "results/smoke/logs/snakemake.log").read_text()
    planned = int(re.findall(r"^total +(\d+)$", text, re.M)[-1]) - 1  # without `all`
    assert len(submitted) < planned, "short jobs go several to a SLURM job"
