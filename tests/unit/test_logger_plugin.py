"""The logger plugin: what it shows of a run and says at its end, given Snakemake's records; that the records are Snakemake's own is seen
in test_failures."""

import os
import pty
import re
import struct
import time
from fcntl import ioctl
from logging import ERROR, WARNING
from pathlib import Path
from select import select
from termios import TIOCSWINSZ

import pytest
from pipeline import progress
from plugin_records import Plugin
from snakemake_interface_logger_plugins.common import LogEvent

LINES = r"Study mine on cpu: 4 jobs, about 0\.5 min\n(\d+/4 jobs, .*\n)*4/4 jobs, .*\(all\)\nDone in [\d.]+ min; peak memory [\d.]+ GiB\.\n"


@pytest.fixture
def plugin(tmp_path, monkeypatch) -> Plugin:
    """With a file for its terminal."""
    monkeypatch.chdir(tmp_path)
    file = os.open("terminal.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    return Plugin(terminal=file, failures=tmp_path / "failures.txt")


def shown() -> str:
    return Path("terminal.txt").read_text()


def test_lines_and_the_timings_of_a_whole_run(plugin):
    plugin.plan(Path(), {"train__a__0_5": 1, "probe": 2, "all": 1}, train__a__0_5=30.0, probe=5.0)
    now = time.time()
    for n, rule in enumerate(("train__a__0_5", "probe", "probe", "all")):
        plugin.begin(n, rule, created=now + 100 * n)
        plugin.finish(n, created=now + 100 * n + 10 * (n + 1))
    plugin.close()
    plugin.close()
    assert re.fullmatch(LINES, shown())
    assert Path("timings.csv").read_text().splitlines() == [
        "rule,jobs,seconds,total", "probe,2,25.0,50.0", "all,1,40.0,40.0", "train__a__0_5,1,10.0,10.0",
    ]  # fmt: skip
    assert not Path("failures.txt").exists()


def test_the_time_that_is_left_goes_by_seconds_and_what_runs_is_named(plugin, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    plugin.plan(Path(), {"train": 1, "probe": 3, "all": 1}, train=90.0, probe=10.0)
    for n, rule in enumerate(("train", "probe", "probe", "probe")):
        plugin.begin(n, rule)
    plugin.finish(1)
    assert shown().count("\n") == 1  # too soon for another line
    clock[0] = 60.0
    plugin.finish(0)  # 100 of 120 seconds of work are done
    assert shown().splitlines()[1] == "2/5 jobs, 1.0 min gone, about 0.2 min left (2 probe)"


def test_a_bar_on_a_terminal(tmp_path):
    ours, theirs = pty.openpty()
    ioctl(theirs, TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    plugin = Plugin(terminal=theirs)
    plugin.plan(tmp_path, {"a": 2, "all": 1}, a=4.0)
    plugin.begin(0, "a")
    plugin.begin(1, "a")
    text = read_until(ours, "0/3 jobs")
    assert "Study mine on cpu: 3 jobs" in text
    time.sleep(0.2)  # it is not drawn more often
    plugin.finish(0)
    assert "left, a" in read_until(ours, "1/3 jobs  50%")
    plugin.close()


def read_until(terminal: int, part: str) -> str:
    text = ""
    while part not in text or not text.endswith(("a", "\n")):
        assert select([terminal], [], [], 10)[0], f"no {part} in {text!r}"
        text += os.read(terminal, 9999).decode()
    return text


def test_jobs_that_failed_are_described_at_the_end(plugin):
    Path("bad.log").write_text("step 1\nerror: no room\n")
    plugin.plan(Path(), {"bad": 2, "all": 1})
    for n in range(2):
        plugin.begin(n, "bad")
        plugin.fail(n, "bad", "bad.log")
    plugin.do(0, "bad")  # at a later attempt
    plugin.close()
    assert Path("failures.txt").read_text().splitlines() == [
        "error: rule bad failed; log: bad.log", "    step 1", "    error: no room",
    ]  # fmt: skip
    assert not Path("timings.csv").exists() and "Done" not in shown()


def test_a_failure_that_a_later_attempt_mended_is_none(plugin):
    plugin.plan(Path(), {"a": 1, "all": 1})
    plugin.begin(0, "a")
    plugin.error("SLURM-job '5' failed")
    plugin.fail(0, "a", why="TIMEOUT")
    plugin.do(0, "a")
    plugin.do(1, "all")
    plugin.close()
    assert "Done in" in shown() and not Path("failures.txt").exists()


def test_without_a_terminal_it_takes_the_place_of_snakemake_s_text(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    plugin = Plugin()
    assert plugin.handler.writes_to_stream
    plugin.emit(None, "Building DAG of jobs...")
    plugin.emit(None, "this file system is slow", WARNING)
    plugin.emit(None, "Exiting because a job failed", ERROR)
    plugin.error("MissingInputException: a.txt")
    plugin.close()
    assert (
        capfd.readouterr().err
        == "this file system is slow\nExiting because a job failed\nMissingInputException: a.txt\n"
    )


def test_a_plan_is_snakemake_s_to_show(tmp_path, capfd):
    plugin = Plugin(dryrun=True)
    assert not plugin.handler.writes_to_stream
    plugin.plan(tmp_path, {"a": 1})
    plugin.close()
    assert capfd.readouterr() == ("", "")


def test_a_preparation_speaks_only_of_what_goes_wrong(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for fails in (False, True):
        plugin = Plugin(
            terminal=os.open("terminal.txt", os.O_WRONLY | os.O_CREAT), failures=Path("failures.txt"), preparation=True
        )
        plugin.plan(Path(), {"prompt_sets": 1})
        plugin.begin(0, "prompt_sets")
        if fails:
            plugin.fail(0, "prompt_sets")
        else:
            plugin.finish(0)
        plugin.close()
        assert shown() == "" and not Path("timings.csv").exists() and Path("failures.txt").exists() is fails


def test_nothing_to_do_is_said_and_a_run_that_never_began_says_nothing(plugin):
    Plugin(terminal=os.open("other.txt", os.O_WRONLY | os.O_CREAT)).close()
    assert Path("other.txt").read_text() == ""
    plugin.emit(LogEvent.WORKFLOW_STARTED)
    plugin.close()
    assert shown() == "Nothing to do: all results are up to date.\n"


def test_a_sentence_of_the_snakefile_that_ends_the_run_is_passed_on(plugin):
    plugin.emit(LogEvent.WORKFLOW_STARTED)
    try:
        raise SystemExit("config error: seeds")
    except SystemExit:
        plugin.close()
    assert Path("failures.txt").read_text() == "config error: seeds\n" and shown() == ""


def test_the_queue_of_a_cluster_is_no_time_of_a_job(plugin):
    Path("a.tsv").write_text("s\th:m:s\tmax_rss\n12.5\t0:00:12\t10\n")
    plugin.plan(Path(), {"a": 1, "b": 1}, minutes=None)
    for n, (rule, file) in enumerate({"a": "a.tsv", "b": None}.items()):
        plugin.begin(n, rule, here=False, benchmark=file, created=0.0)
        plugin.finish(n, created=1000.0)
    plugin.close()
    assert "a,1,12.5,12.5" in Path("timings.csv").read_text() and "b,1,1000.0" in Path("timings.csv").read_text()
    assert shown().startswith("Study mine on cpu: 2 jobs\n") and "peak memory" not in shown()


def test_a_terminal_that_is_gone_ends_nothing(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    plugin = Plugin(terminal=writer)
    plugin.plan(tmp_path, {"a": 2})
    plugin.do(0, "a")
    plugin.do(1, "a")
    plugin.close()
    assert (tmp_path / "timings.csv").exists()


def test_a_record_that_it_does_not_understand_is_said_once(plugin):
    for _ in range(3):
        plugin.emit(LogEvent.JOB_INFO)
    plugin.plan(Path(), {"a": 1})
    plugin.do(0, "a")
    plugin.close()
    assert shown().count("the progress of the run cannot be followed") == 1 and "Done in" in shown()
