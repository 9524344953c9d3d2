"""What `make cluster` asks a scheduler, and how long a scheduler may stay silent. Stand-ins on PATH answer; nothing is submitted."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import yaml
from cluster_runs import arguments
from harness import ROOT, command, copy_project

sys.path.append(str(ROOT / "workflow"))
import cluster

RUN_FILE = ".snakemake/safety-geometry-run.json"
UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"
STATUS = ROOT / "profiles/cluster-generic/status.sh"


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def killed(tmp_path) -> Path:
    """A copy of the project with the note of a run that was killed, of profile `there`, and a queue of six jobs."""
    folder = copy_project(tmp_path / "project").resolve()
    (folder / ".snakemake").mkdir()
    note = {
        "id": "1" * 32,
        "pid": 2**22 + 1,
        "started": 0.0,
        "host": socket.gethostname(),
        "cluster": "there",
        "within": {},
    }
    (folder / RUN_FILE).write_text(json.dumps(note))
    (folder / "there").mkdir()
    jobs = [f"1|mine_{UUID}|{folder}", f"2|mine_{UUID}|/another", f"3|{UUID}|{folder}", f"4|mine_of_a_person|{folder}",
            f"5|notmine_{UUID}|{folder}", f"6|a-shell|{folder}"]  # fmt: skip
    (tmp_path / "queue").write_text("\n".join(jobs) + "\n")
    program(tmp_path / "bin", "squeue", f"cat {tmp_path}/queue")
    program(tmp_path / "bin", "scancel", f'echo "$@" >> {tmp_path}/cancelled; : > {tmp_path}/queue')
    return folder


def recover(folder: Path, profile: dict) -> subprocess.CompletedProcess[str]:
    (folder / "there/profile.yaml").write_text(yaml.safe_dump(profile))
    path = f"{folder.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return command(folder, *arguments("cluster-generic", "--recover"), PATH=path)


@pytest.mark.parametrize(("settings", "cancelled"), [({"slurm-jobname-prefix": "mine"}, "1"), ({}, "3")])
def test_the_queue_is_asked_as_the_killed_run_s_profile_says(killed, settings, cancelled):
    """Given another profile now; with its prefix, or with the plain names that SLURM jobs have without one."""
    done = recover(killed, {"executor": "slurm"} | settings)
    assert done.returncode == 0, done.stdout
    assert "0 process(es) and 1 job(s)" in done.stdout
    assert (killed.parent / "cancelled").read_text().split() == [cancelled]
    assert not (killed / RUN_FILE).exists()


def test_a_profile_that_is_gone_is_asked_for(killed):
    done = command(killed, *arguments("slurm", "--recover"))
    assert done.returncode == 1 and "the run that was killed used there/profile.yaml" in done.stdout
    assert (killed / RUN_FILE).exists()


@pytest.mark.parametrize(
    ("config", "requeue", "said"),
    [("MinJobAge = 300 sec\nPreemptMode = OFF", False, []), ("MinJobAge = 120 sec\nPreemptMode = OFF", False, ["120 s after its end"]),
     ("MinJobAge = 300 sec\nPreemptMode = REQUEUE", False, ["PreemptMode=REQUEUE"]),
     ("MinJobAge = 300 sec\nPreemptMode = REQUEUE", True, []), ("MinJobAge = 300 sec\nPreemptMode = GANG,SUSPEND", False, []),
     ("MinJobAge = 2 sec\nPreemptMode = CANCEL", True, ["2 s after its end", "PreemptMode=CANCEL"])],
)  # fmt: skip
def test_settings_with_which_a_run_may_hang_are_told(tmp_path, monkeypatch, config, requeue, said):
    """The plugin's interval grows to 180 s, and `PREEMPTED` is no end to it."""
    program(tmp_path / "bin", "scontrol", f"cat <<END\nConfiguration data as of now\n{config}\nEND")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    profile = yaml.safe_load((ROOT / "profiles/slurm/profile.yaml").read_text())
    if requeue:
        profile["slurm-requeue"] = profile.pop("slurm-no-requeue")
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(profile))
    found = cluster.waits(tmp_path)
    assert len(found) == len(said) and all(part in warning for part, warning in zip(said, found, strict=True))
    assert cluster.waits(ROOT / "profiles/cluster-generic") == []


def test_the_plugin_asks_as_seldom_as_the_warning_takes_it_to():
    plugin = pytest.importorskip("snakemake_executor_plugin_slurm", reason="no SLURM executor: make cluster-install")
    assert f"max_sleep_time = {cluster.LOOKS}\n" in Path(plugin.__file__).read_text(encoding="utf-8")
    assert (
        "PREEMPTED"
        not in Path(plugin.__file__).read_text(encoding="utf-8").partition("fail_stati = (")[2].partition(")")[0]
    )


def test_job_arrays_are_refused(tmp_path):
    path = tmp_path / "profile.yaml"
    path.write_text("executor: slurm\n")
    cluster.refuse_arrays(path, ["--keep-going", "slurm-array-jobs"])
    for options in (["--slurm-array-jobs", "all"], ["--slurm-array-jobs=sweep"]):
        with pytest.raises(SystemExit, match=r"slurm-array-jobs in ARGS: .* docs/cluster.md, Job arrays"):
            cluster.refuse_arrays(path, options)
    path.write_text("executor: slurm\nslurm-array-jobs: sweep\n")
    with pytest.raises(SystemExit, match=f"slurm-array-jobs in {path}"):
        cluster.refuse_arrays(path, [])


@pytest.mark.parametrize(("given", "waiting", "submitted"), [(6, 0, 6), (2, 4, 0)])
def test_the_plugin_forgets_an_array_of_which_too_little_fits_into_the_queue(given, waiting, submitted):
    """The other reason to refuse arrays: with `jobs: 2` and six jobs ready the scheduler gives it two, and takes them to be running."""
    plugin = pytest.importorskip("snakemake_executor_plugin_slurm", reason="no SLURM executor: make cluster-install")
    job = SimpleNamespace(rule=SimpleNamespace(name="part"), is_group=lambda: False)
    sent = []
    executor = object.__new__(plugin.Executor)
    executor.array_jobs, executor.max_array_size, executor._main_event_loop = {"part"}, 1000, None
    executor.logger, executor.workflow = Mock(), Mock()
    executor.workflow.dag.ready_jobs = [job] * waiting
    executor._submit_job, executor._submit_array_jobs = sent.append, sent.extend
    executor.run_jobs([job] * given)
    assert len(sent) == submitted


def looked_up(folder: Path, job: str = "7") -> tuple[str, str]:
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [STATUS, job], cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip(), done.stderr


@pytest.mark.parametrize(("message", "lookups"), [("cannot connect to server", 60), ("Unknown Job Id 7", 6)])
def test_a_job_that_pbs_says_nothing_of_is_given_up(tmp_path, message, lookups):
    program(tmp_path / "bin", "qstat", f"echo 'qstat: {message}' >&2; exit 1")
    program(tmp_path / "bin", "qdel", f'echo "$@" >> {tmp_path}/cancelled')
    assert [looked_up(tmp_path) for _ in range(lookups - 1)] == [("running", "")] * (lookups - 1)
    told, why = looked_up(tmp_path)
    assert told == "failed" and f"{lookups} lookups of job 7 have failed" in why and message in why
    assert (tmp_path / "cancelled").read_text().split() == ["7"]  # nothing may write beside the next attempt
    assert looked_up(tmp_path) == ("failed", "")


def test_one_answer_of_pbs_begins_the_count_anew(tmp_path):
    program(tmp_path / "bin", "qstat", "exit 1")
    assert {looked_up(tmp_path)[0] for _ in range(50)} == {"running"}
    program(tmp_path / "bin", "qstat", "echo '    job_state = R'")
    assert looked_up(tmp_path) == ("running", "")
    program(tmp_path / "bin", "qstat", "exit 1")
    assert {looked_up(tmp_path)[0] for _ in range(50)} == {"running"}


@pytest.mark.parametrize(("status", "told"), [("0", "success"), ("1", "failed")])
def test_what_the_job_left_itself_comes_before_what_pbs_says(tmp_path, status, told):
    program(tmp_path / "bin", "qstat", "exit 1")
    (tmp_path / ".snakemake/cluster_status").mkdir(parents=True)
    (tmp_path / ".snakemake/cluster_status/7").write_text(f"{status}\n")
    assert looked_up(tmp_path) == (told, "")
