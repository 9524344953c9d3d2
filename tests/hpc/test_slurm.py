"""SLURM for real: jobs that fail, that are late, cancelled or short of memory, GPUs, groups, arrays, the plugin's options, a kill, and
the study's tables.

The profiles are those of the project; only waiting times and the number of jobs are set for a single machine.
"""

import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
import yaml
from cluster_runs import PATIENCE, TARGET, Killed, at, block, cluster, kill_and_resume, site
from harness import ROOT, command, environment, make_run, snakemake
from test_resume import contents

sys.path.append(str(ROOT / "workflow"))
import cluster as cluster_program

pytestmark = pytest.mark.slurm


def ask(node: dict[str, str], *command: str) -> str:
    return subprocess.run(command, env=os.environ | node, capture_output=True, text=True, check=True).stdout


def states(node: dict[str, str], folder: Path) -> list[tuple[str, ...]]:
    """(rule, state, memory, time limit, partition, excluded nodes) of every SLURM job of a folder, in the order of submission."""
    told = ask(node, "squeue", "--states=all", "--array", "--noheader", "--sort=i", "--format=%k|%T|%m|%l|%P|%x|%Z")
    rows = [line.split("|") for line in told.splitlines()]
    return [(re.sub("^rule_|_wildcards.*", "", r[0]), *r[1:6]) for r in rows if Path(r[6]) == folder.resolve()]


@dataclass(frozen=True)
class Fates:
    folder: Path
    status: int
    output: str
    jobs: list[tuple[str, ...]]

    def of(self, rule: str) -> list[str]:
        return [state for name, state, *_ in self.jobs if name == rule]

    def asked(self, rule: str) -> list[tuple[str, ...]]:
        """Memory, time limit and partition of a rule's jobs."""
        return [job[2:5] for job in self.jobs if job[0] == rule]


@pytest.fixture(scope="module")
def started(node, tmp_path_factory):
    """tests/hpc/fates.smk with profiles/slurm-gpu and the page's options, left to itself while the other tests run: it mostly
    waits."""
    folder = site(tmp_path_factory.mktemp("fates") / "site", "slurm-gpu")
    shutil.copy(ROOT / "tests/hpc/fates.smk", folder / "Snakefile")
    (folder / "model.txt").touch()
    options = block("## Options of the plugin")
    with (folder / "profiles/slurm-gpu/profile.yaml").open("a") as profile:
        profile.write(yaml.safe_dump(options))
    partitions = folder / options["slurm-partition-config"]
    partitions.parent.mkdir()
    partitions.write_text(yaml.safe_dump(block("Partitions by their limits")))
    accounts = node | {"PATH": f"{ROOT / 'tests/hpc/accounts'}{os.pathsep}{node['PATH']}"}
    with (folder / "output.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--workflow-profile", "profiles/slurm-gpu", "--jobs", "20", "--keep-going",
             "--slurm-array-jobs", "member"],
            cwd=folder, env=environment(**at(accounts)), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
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
    jobs = {job[0]: job[2:5] for job in states(node, killed.folder)}
    assert jobs["train__sft__0_2"] == jobs["clean_rows"] == jobs["tiny_model"] == ("2000M", "1:00:00", "cpu")
    assert jobs["model_layers"] == ("1500M", "30:00", "cpu")


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


def test_memory_and_time_grow_with_the_attempt_and_choose_the_partition(fates):
    """Of the partition configuration: what does not fit into an hour goes to the next."""
    assert fates.of("grown") == ["FAILED", "COMPLETED"]
    assert fates.asked("grown") == [("500M", "1:00:00", "short"), ("1000M", "2:00:00", "long")]
    assert {partition for *_, partition in fates.asked("failed")} == {"cpu"}  # a partition that is stated wins
    assert (fates.folder / "grown.txt").read_text().split() == ["500", "1000"]


def test_gpus_go_to_the_jobs_that_run_a_model(fates):
    told = {name: (fates.folder / f"{name}.txt").read_text().split() for name in ("gpu_a", "gpu_b", "no_gpu")}
    assert {told["gpu_a"][0], told["gpu_b"][0]} == {"0", "1"}
    assert told["gpu_a"][1] == told["gpu_b"][1] == "gpu"
    assert told["no_gpu"] == ["none", "cpu"]


def test_members_of_a_group_run_one_after_another_and_ask_for_the_largest_and_for_the_sum_of_time(fates):
    told = [(fates.folder / f"turn_{name}.txt").read_text().split() for name in "abc"]
    assert len({job for *_, job in told}) == 1 and fates.of("judge_turn") == ["COMPLETED"]
    times = sorted((float(start), float(end)) for start, end, _ in told)
    assert all(end < start for (_, end), (start, _) in pairwise(times)), times
    assert fates.asked("judge_turn") == [("700M", "1:00:00", "cpu")]


def test_why_arrays_are_refused(fates):
    """Each member did its own job, once. But all were given the first one's memory (and a MB for the list of commands), and all failed and
    lost their files since the first one failed. When a newer plugin fails this test, `refuse_arrays` may go."""
    ran = [line.split() for line in (fates.folder / "members.log").read_text().splitlines()]
    assert sorted(name for name, *_ in ran) == ["a", "b", "c"] and {task for _, task, _ in ran} == {"1", "2", "3"}
    (first,) = (int(memory) for _, task, memory in ran if task == "1")
    assert [memory for memory, *_ in fates.asked("member")] == [f"{first + 1}M"] * 3
    assert fates.of("member") == ["FAILED"] * 3
    assert list(fates.folder.glob("member_*.txt")) == []


def test_nodes_that_are_named_are_excluded(fates):
    assert {job[5] for job in fates.jobs} == {"node[17-18]"}


def test_the_efficiency_report_appears_and_names_the_rules(fates):
    (path,) = (fates.folder / block("## Options of the plugin")["slurm-efficiency-report-path"]).glob("*.csv")
    assert path.name.startswith("efficiency_report_safety-geometry_")
    report = pd.read_csv(path)
    assert len(report) == len(fates.jobs) and {"rule_failed", "rule_judge_turn"} < set(report["RuleName"])
    assert set(report["CPU Efficiency (%)"]) == set(report["Memory Usage (%)"]) == {50.0}


def test_where_all_nodes_are_excluded_the_job_is_refused_and_the_run_says_so(node, tmp_path):
    folder = site(tmp_path / "site", "slurm")
    shutil.copy(ROOT / "tests/hpc/fates.smk", folder / "Snakefile")
    host = ask(node, "sinfo", "--noheader", "--partition=cpu", "--format=%n").strip()
    done = command(
        folder, "-m", "snakemake", "no_gpu.txt", "--workflow-profile", "profiles/slurm", "--retries", "0",
        "--slurm-exclude-failed-nodes", host, **at(node),
    )  # fmt: skip
    assert done.returncode == 1 and "Requested node configuration is not available" in done.stdout, done.stdout[-4000:]
    assert [(job[1], job[5]) for job in states(node, folder)] == [("FAILED", host)]
    assert not (folder / "no_gpu.txt").exists()


def test_the_recovery_ends_the_members_of_an_array(node, tmp_path, monkeypatch):
    """One runs, the others wait; an array of another folder runs on."""
    monkeypatch.setenv("PATH", node["PATH"])
    monkeypatch.setenv("SLURM_CONF", node["SLURM_CONF"])
    monkeypatch.setattr(cluster_program, "ROOT", tmp_path)
    name = f"safety-geometry_{uuid.uuid4()}"
    mine, other = (
        ask(node, "sbatch", "--parsable", f"--job-name={name}", "--array=1-3%1", "--mem=10", "--output=/dev/null",
            f"--chdir={folder}", "--wrap=sleep 600").strip()
        for folder in (tmp_path, tmp_path.parent)
    )  # fmt: skip
    try:
        assert cluster_program.Queue(ROOT / "profiles/slurm").end_jobs() == 3
        assert ask(node, "squeue", "--noheader", f"--jobs={mine}", "--format=%T") == ""
        assert len(ask(node, "squeue", "--noheader", "--array", f"--jobs={other}", "--format=%T").split()) == 3
    finally:
        ask(node, "scancel", other)


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
