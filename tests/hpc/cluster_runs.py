"""Runs of `make cluster`'s program in a copy of the project, and one that is killed in the middle of training."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml
from harness import ROOT, SMOKE, command, copy_project, environment

TARGET = "results/smoke/seed1/checkpoints/sft/step2"  # a part of the graph: prompts, model, clean rows, training
PATIENCE = 600  # seconds until training has to have begun
SITE = {  # a test's site: one machine, which answers at once
    "slurm-init-seconds-before-status-checks: 20": "slurm-init-seconds-before-status-checks: 4",
    "latency-wait: 60 ": "latency-wait: 10 ",
    "jobs: 100 ": "jobs: 3 ",
    "max-status-checks-per-second: 5": "max-status-checks-per-second: 5\nseconds-between-status-checks: 2",
}


def site(folder: Path, profile: str) -> Path:
    """A copy of the project whose profile is edited for the test's cluster."""
    copy_project(folder)
    path = folder / "profiles" / profile / "profile.yaml"
    text = path.read_text()
    for old, new in SITE.items():
        assert text.count(old) == 1 or old not in text
        text = text.replace(old, new)
    path.write_text(text)
    return folder


def block(phrase: str) -> dict:
    """The first YAML block of docs/cluster.md behind a phrase."""
    text = (ROOT / "docs/cluster.md").read_text()
    assert text.count(phrase) == 1, phrase
    return yaml.safe_load(re.search(r"```yaml\n(.*?)```", text.partition(phrase)[2], re.S)[1])


def arguments(profile: str, *extra: str) -> list[str]:
    return ["workflow/cluster.py", "--configfile", SMOKE, "--profile", f"profiles/{profile}", *extra]


def cluster(folder: Path, profile: str, *extra: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return command(folder, *arguments(profile, *extra), **at(variables))


def at(variables: dict[str, str]) -> dict[str, str]:
    """The cluster's programs after the interpreter's own on PATH."""
    return variables | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"}


@dataclass(frozen=True)
class Killed:
    folder: Path
    job_lived_on: bool
    job_ended: bool
    local: subprocess.CompletedProcess[str]  # `make run` in the same folder after the kill
    second: subprocess.CompletedProcess[str]


def kill_and_resume(folder: Path, profile: str, variables: dict[str, str], *options: str) -> Killed:
    """Kill -9 the program and its Snakemake while a job trains, try a local run, then give the same command, with options."""
    log = (folder / "first.txt").open("w")
    first = subprocess.Popen(
        [sys.executable, *arguments(profile, TARGET)], cwd=folder, env=environment(**at(variables)), stdout=log, stderr=log,
        stdin=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    job, until = None, time.monotonic() + PATIENCE
    try:
        while job is None:
            assert first.poll() is None, (
                f"the run ended before it was killed:\n{(folder / 'first.txt').read_text()[-4000:]}"
            )
            assert time.monotonic() < until, f"no training job was seen in {PATIENCE} s"
            time.sleep(0.1)
            job = training_job(folder)
        job.suspend()  # it must not end by itself before it is looked for
        run = psutil.Process(first.pid)
        for process in [run, *(p for p in run.children() if "snakemake" in " ".join(p.cmdline()))]:
            process.kill()
        first.wait()
        time.sleep(3)
        lived_on = alive(job)
        local = command(folder, "workflow/run.py", "--configfile", SMOKE, "--cores", "2", TARGET)
        second = cluster(folder, profile, TARGET, *options, **variables)
        return Killed(folder, lived_on, not alive(job), local, second)
    finally:
        log.close()
        if first.poll() is None:  # a failed test leaves no run behind
            first.send_signal(signal.SIGINT)
            for process in psutil.Process(first.pid).children():
                process.send_signal(signal.SIGINT)
            first.wait()
        if job is not None and alive(job):
            job.kill()


def training_job(folder: Path) -> psutil.Process | None:
    """The training script at work in `folder`."""
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if "workflow/scripts/train_segment.py" in words[1:2] and Path(process.cwd()) == folder.resolve():
                return process
        except (psutil.Error, OSError):
            continue
    return None


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
