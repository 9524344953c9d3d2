"""Ctrl-C and its like, a Snakemake that is killed, a full disk under the log: what `make run` does to the run and says."""

import json
import os
import signal
import socket
import subprocess
import sys

import psutil
import pytest
from fake_runs import PLAN, Folder, ended, is_alive, wait_for

# Ends a second after the first SIGINT, like a Snakemake whose jobs stop; says much meanwhile.
STOPS = f"""
{PLAN}
jobs = [job(), job()]
def stop(*_):
    for _ in range(3000): print("x" * 100)
    sys.stdout.flush()
    for each in jobs: each.wait()
    note("stopped", [each.returncode for each in jobs])
    sys.exit(1)
signal.signal(signal.SIGINT, stop)
note("ready", " ".join(str(each.pid) for each in jobs))
time.sleep(60)
"""
# Hears of nothing, nor does its job.
DEAF = f"""
{PLAN}
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
one = job()
Path(".snakemake/locks").mkdir(parents=True, exist_ok=True)
note(".snakemake/locks/0.output.lock")
note("ready", f"{{os.getpid()}} {{one.pid}}")
"""
FLOOD = 'while True: print("y" * 1000)'


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(tmp_path / "a folder")


def pids(folder: Folder) -> list[int]:
    return [int(word) for word in (folder.path / "ready").read_text().split()]


def ready(folder: Folder):
    return lambda: (folder.path / "ready").exists() and (folder.path / "ready").read_text() != ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_lets_jobs_stop_and_its_flood_of_words_blocks_nothing(folder, number):
    folder.stand_in(STOPS)
    status, said = ended(folder.start("--no-report"), number, after=ready(folder))
    assert status == 128 + number
    assert (folder.path / "stopped").read_text() == str([-signal.SIGINT] * 2)  # each was asked, and Snakemake waited
    assert folder.log.read_text().count("x" * 100) == 3000
    assert "Stopping" in said and "Once more kills" in said and "Stopped. The same command resumes it." in said
    assert "Traceback" not in said
    assert not folder.noted


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_kills_everything_and_the_next_run_recovers(folder, second):
    folder.stand_in(DEAF + FLOOD)
    status, said = ended(folder.start("--no-report"), signal.SIGINT, second, after=ready(folder))
    assert status == 130 and "Killed the run and its jobs" in said and "Traceback" not in said
    assert not any(map(is_alive, pids(folder)))
    assert folder.noted  # its lock is there still
    folder.stand_in("")
    status, said = folder.run("--no-report")
    assert status == 0 and "The last run was killed; ending 0 orphaned" in said and "Removed its dead lock" in said
    assert not folder.noted


def test_a_terminal_that_is_gone_stops_nothing(folder):
    """Closed between two lines; the program ends as if somebody had read."""
    folder.stand_in(f"{PLAN}\nnote('ready', 1)\nwhile not Path('go').exists(): time.sleep(0.02)\nfor n in range(3):\n"
                    "  plugin.do(n, 'a')\n  print('done', flush=True)\nplugin.close()\nnote('end')")  # fmt: skip
    process = folder.start("--no-report")
    wait_for(ready(folder))
    process.stdout.close()
    (folder.path / "go").touch()
    assert process.wait(120) == 0
    assert (folder.path / "end").exists() and (folder.path / "results/smoke/timings.csv").exists()


def test_ctrl_z_halts_the_run_and_fg_goes_on(folder):
    folder.stand_in(f"{PLAN}\nnote('ready', os.getpid())\nwhile not Path('go').exists(): time.sleep(0.02)")
    process = folder.start("--no-report")
    wait_for(ready(folder))
    (child,) = pids(folder)
    process.send_signal(signal.SIGTSTP)
    wait_for(lambda: psutil.Process(child).status() == psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
    (folder.path / "go").touch()
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=120)
    assert process.returncode == 0


def test_a_hang_up_is_nothing_to_a_run_under_nohup(folder):
    folder.stand_in(f"{PLAN}\nnote('ready', 1)\nwhile not Path('go').exists(): time.sleep(0.02)")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = folder.start("--no-report")
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_for(ready(folder))
    process.send_signal(signal.SIGHUP)
    (folder.path / "go").touch()
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and "Stop" not in said


def test_a_snakemake_killed_for_memory_is_told_and_leaves_no_job(folder):
    """Its job holds the pipe open, which must not be waited for."""
    folder.stand_in(f"{PLAN}\none = job()\nnote('ready', one.pid)\nos.kill(os.getpid(), signal.SIGKILL)")
    status, said = folder.run("--no-report")
    assert status == 137 and "Snakemake was killed (SIGKILL), most often by the kernel for want of memory" in said
    assert "make run CORES=1" in said and "Traceback" not in said
    assert not any(map(is_alive, pids(folder)))


def test_bytes_that_are_no_text_and_letters_that_a_terminal_lacks(folder):
    folder.stand_in(
        "sys.stdout.buffer.write(b'caf\\xe9 \\xf0\\x9f\\n' + 'Über → alles\\n'.encode()); sys.stdout.flush(); sys.exit(3)"
    )
    status, said = folder.run("--no-report", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert status == 3 and "The run stopped (exit status 3)" in said and "Traceback" not in said
    assert "Über → alles" in folder.log.read_text(encoding="utf-8")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_under_the_log_costs_lines_and_not_the_run(folder):
    folder.stand_in(f"{PLAN}\nfor n in range(3): plugin.do(n, 'a'); print(n)\nplugin.close()\nnote('end')")
    folder.log.parent.mkdir(parents=True)
    folder.log.symlink_to("/dev/full")
    status, said = folder.run("--no-report")
    assert status == 0 and (folder.path / "end").exists()
    assert said.count("snakemake.log cannot be written now (No space left on device)") == 1 and "3/3 jobs" in said


def test_no_snakemake_and_no_packages_are_told(folder):
    status, said = folder.run("--no-report", PATH="/nowhere")
    assert status == 1 and said.startswith("error: snakemake cannot be started (No such file or directory)")
    assert not folder.noted
    bare = subprocess.run(
        [sys.executable, "-S", "-I", "workflow/run.py"], cwd=folder.path, capture_output=True, text=True, check=False
    )
    assert bare.returncode == 1 and "has no psutil, tqdm" in bare.stderr and "Traceback" not in bare.stderr


def test_a_cluster_run_that_is_killed_by_keys_keeps_its_note(folder):
    """Snakemake, killed, has cancelled none of its jobs."""
    folder.stand_in(f"{DEAF}\ntime.sleep(60)")
    process = folder.start("--profile", "there", "--no-report", program="cluster")
    status, said = ended(process, signal.SIGINT, signal.SIGINT, after=ready(folder))
    assert status == 130 and "make cluster-recover" in said and "Traceback" not in said
    note = json.loads((folder.path / ".snakemake/safety-geometry-run.json").read_text())
    assert note["cluster"] == "there" and note["host"] == socket.gethostname()
    assert not any(map(is_alive, pids(folder)))


def test_a_cluster_run_that_stops_at_the_first_takes_its_note_away(folder):
    folder.stand_in(STOPS.replace("3000", "3"))
    process = folder.start("--profile", "there", "--no-report", program="cluster")
    status, said = ended(process, signal.SIGTERM, after=ready(folder))
    assert status == 143 and "Stopped. The same command resumes it." in said and not folder.noted
