"""Kill -9 in the middle of training, the same command again: it says what it found, resumes, and the bytes are the same.

The resumed run, in a folder of its own, is one of training alone, or (`make test-long`) a second one of the whole study.
"""

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from harness import CORES, SMOKE, copy_project, environment, make_run, snakemake

pytestmark = pytest.mark.slow

PATIENCE = 300  # seconds until training has to have begun
# What may differ between two runs: logs, timings, inodes of large files, and the report, which carries the time of its making.
MAY_DIFFER = re.compile(r"(^|/)(logs|benchmarks|\.hashes)/|(^|/)(report\.html|timings\.csv)$|\.snakemake_timestamp$")


@dataclass(frozen=True)
class Killed:
    folder: Path
    whole: bool
    job: int  # process id of the training job that outlived its run
    second: subprocess.CompletedProcess[str]
    job_lived_on: bool
    job_ended: bool


def training_job(run: psutil.Process, folder: Path) -> psutil.Process | None:
    """A training job that is between its first and its last step: stopped at once, so that it stays there."""
    for log in (folder / "results/smoke/seed1/logs/train").glob("*.log"):
        steps = re.findall(r"^step (\d+)/(\d+)", log.read_text(), re.M)
        if not steps or steps[-1][0] == steps[-1][1]:
            continue
        for process in run.children(recursive=True):
            try:
                words = process.cmdline()
                if (
                    "python" in words[0]
                    and any(w.endswith("train_segment.py") for w in words)
                    and log_of(words) == log.stem
                ):
                    process.suspend()
                    return process
            except (psutil.Error, IndexError):
                continue
    return None


def log_of(words: list[str]) -> str:
    """`regime__start_stop`, as the log of a training command is called."""
    params = json.loads(words[words.index("--params") + 1])
    return f"{params['regime']}__{params['start']}_{params['stop']}"


def words_of(process: psutil.Process) -> str:
    """Its command line; nothing where it has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def alive(process: psutil.Process) -> bool:
    """A process that ended may be there until its parent looks."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="module", params=["training", pytest.param("whole", marks=pytest.mark.long)])
def killed(tmp_path_factory, request) -> Killed:
    whole = request.param == "whole"
    folder = copy_project(tmp_path_factory.mktemp("killed") / "project")
    command = [sys.executable, "workflow/run.py", "--configfile", SMOKE, "--cores", str(CORES)]
    first = subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    run, job, until = psutil.Process(first.pid), None, time.monotonic() + PATIENCE
    try:
        while job is None and time.monotonic() < until:
            assert first.poll() is None, "the run ended before it was killed"
            job = training_job(run, folder)
            time.sleep(0.02)
        assert job is not None, f"no training step was seen in {PATIENCE} s"
        # The run and its Snakemake go; the job, a child of Snakemake's, lives on as an orphan. It is not stopped meanwhile: the kernel
        # hangs up on stopped processes of a group that becomes an orphan.
        job.resume()
        for process in [run, *(p for p in run.children() if "snakemake" in words_of(p))]:
            process.kill()
        first.wait()
        lived_on = alive(job)
        job.suspend()
        second = make_run(folder, *([] if whole else ["--until", "training_table"]))
        ended = not alive(job)
        return Killed(folder, whole, job.pid, second, lived_on, ended)
    finally:
        if job is not None and job.is_running():
            job.kill()


def test_the_kill_left_a_job_and_a_lock(killed):
    assert killed.job_lived_on
    assert "Removed its dead lock." in killed.second.stdout


def test_the_second_run_says_what_it_found_and_finishes(killed):
    told = re.search(r"The last run was killed; ending (\d+) orphaned process", killed.second.stdout)
    assert told and int(told[1]) >= 1
    assert killed.second.returncode == 0, killed.second.stdout[-4000:]
    assert ("results/smoke/report.html" in killed.second.stdout) is killed.whole


def test_the_orphan_is_gone(killed):
    assert killed.job_ended


def test_it_resumes_and_does_not_start_anew(killed):
    """What stood before the kill is not made again."""
    log = (killed.folder / "results/smoke/logs/snakemake.log").read_text()
    assert "rule train__r2d2__2_4:" in log
    assert not re.findall(r"^rule (?:tiny_model|prompt_sets|clean_rows):", log, re.MULTILINE)


def test_nothing_half_written_is_left(killed):
    assert not list((killed.folder / "results").rglob("*.partial-*"))
    assert not (killed.folder / ".snakemake/safety-geometry-run.json").exists()


def contents(folder: Path) -> dict[str, str]:
    results = folder / "results" / "smoke"
    paths = {p.relative_to(results).as_posix(): p for p in results.rglob("*") if p.is_file()}
    kept = {name: p for name, p in paths.items() if not MAY_DIFFER.search(name)}
    return {name: hashlib.sha256(p.read_bytes()).hexdigest() for name, p in kept.items()}


def test_resumed_and_uninterrupted_runs_are_equal_byte_for_byte(killed, finished):
    one, other = contents(finished.folder), contents(killed.folder)
    assert set(one) == set(other) if killed.whole else set(other) < set(one)
    assert len([n for n in other if n.endswith(".safetensors")]) > (25 if killed.whole else 5)
    assert "seed1/training.csv" in other
    assert [n for n in one if n.startswith("tables/")] and [n for n in one if n.startswith("figures/")]
    assert sorted(name for name in other if one[name] != other[name]) == []


def test_a_run_that_is_still_alive_is_left_alone(study):
    """A second command in the same folder stops with a message; it ends nothing."""
    me = psutil.Process(os.getpid())
    marker = study / ".snakemake/safety-geometry-run.json"
    marker.write_text(json.dumps({"id": "0" * 32, "pid": me.pid, "started": me.create_time()}))
    done = make_run(study)
    assert done.returncode == 1 and f"another run (process {me.pid})" in done.stdout
    assert marker.exists()


RUN_FILE = ".snakemake/safety-geometry-run.json"
MODEL = ["--until", "tiny_model"]  # the smallest job


def job_of(run: psutil.Process, script: str) -> psutil.Process | None:
    for process in run.children(recursive=True):
        try:
            if process.cmdline()[1:2] == [f"workflow/scripts/{script}.py"]:
                return process
        except psutil.Error:
            continue
    return None


def signalled(folder: Path, *signals: int) -> tuple[int, str, psutil.Process]:
    """Exit status and words of a run that gets signals while its job is at work, and that job."""
    command = [sys.executable, "workflow/run.py", "--configfile", SMOKE, "--cores", "1", *MODEL]
    run = subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    job, until = None, time.monotonic() + PATIENCE
    while job is None:
        assert run.poll() is None and time.monotonic() < until, "no job was seen"
        job = job_of(psutil.Process(run.pid), "tiny_model")
        time.sleep(0.02)
    job.suspend()  # it must not end before
    for number in signals:
        run.send_signal(number)
        time.sleep(0.3)
    if len(signals) == 1:
        with contextlib.suppress(psutil.NoSuchProcess):  # it is ended by then where the machine is slow
            job.resume()
    said, _ = run.communicate(timeout=60)
    return run.returncode, said, job


def test_ctrl_c_once_twice_and_the_command_again(project):
    """Through Snakemake itself: stopped, it cleans up; killed, the next run does."""
    status, said, job = signalled(project, signal.SIGINT)
    assert status == 130 and "Stopping" in said and "Traceback" not in said
    assert not alive(job) and not (project / RUN_FILE).exists() and not any((project / ".snakemake/locks").glob("*"))
    status, said, job = signalled(project, signal.SIGINT, signal.SIGTERM)
    assert status == 130 and "Killed the run and its jobs" in said and "Traceback" not in said
    assert not alive(job) and (project / RUN_FILE).exists()
    done = make_run(project, *MODEL)
    assert done.returncode == 0 and "Removed its dead lock" in done.stdout
    assert (project / "results/smoke/models/base").is_dir() and not (project / RUN_FILE).exists()


def test_a_snakemake_by_hand_is_refused_beside_a_run_and_may_look(project):
    me = psutil.Process()
    (project / ".snakemake").mkdir()
    (project / RUN_FILE).write_text(json.dumps({"id": "0" * 32, "pid": me.pid, "started": me.create_time()}))
    done = snakemake(project, "--config", "study=another", "--until", "tiny_model")
    assert done.returncode == 1 and f"another run (process {me.pid}) is at work in this folder" in done.stdout
    assert "Traceback" not in done.stdout and not (project / "results").exists()
    assert not any((project / ".snakemake/locks").glob("*"))
    for looks in ("-n", "--unlock"):
        assert snakemake(project, *MODEL, looks).returncode == 0


def test_a_run_is_refused_beside_a_snakemake_by_hand(project):
    words = [
        sys.executable,
        "-m",
        "snakemake",
        "--configfile",
        SMOKE,
        "--cores",
        "1",
        "--config",
        "study=another",
        *MODEL,
    ]
    by_hand = subprocess.Popen(
        words, cwd=project, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + PATIENCE
        while not (job := job_of(psutil.Process(by_hand.pid), "tiny_model")):
            assert time.monotonic() < until
            time.sleep(0.02)
        job.suspend()
        done = make_run(project)
        assert done.returncode == 1 and f"(process {by_hand.pid} of " in done.stdout and "is at work" in done.stdout
        by_hand.kill()
        by_hand.wait()
        done = make_run(project, *MODEL)
        assert done.returncode == 0 and "ended" in done.stdout and "Removed its dead lock" in done.stdout
        assert not alive(job)
    finally:
        by_hand.kill()
        if job.is_running():
            job.kill()
