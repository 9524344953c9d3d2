"""What is said of a run that failed: the rules, their logs and how these end."""

import os
import subprocess
import sys
from pathlib import Path

from fake_runs import ROOT
from pipeline import at_work
from pipeline.failures import LAST, WIDTH, Failures

COMMAND = "RuleException:\nCalledProcessError in file \"/there/Snakefile\", line 10:\nCommand 'set -euo pipefail;  python a.py' {}."
EXIT = "returned non-zero exit status {}"


def failed(failures: Failures, job: int = 2, how: str = EXIT.format(1)) -> Failures:
    """As Snakemake says it of a job of the rule `bad`."""
    failures.error(COMMAND.format(how))
    failures.failed(job, "bad", ["logs/bad.log"])
    return failures


def write_log(folder, text: str | bytes, name: str = "bad") -> None:
    (folder / "logs").mkdir(exist_ok=True)
    (folder / f"logs/{name}.log").write_bytes(text if isinstance(text, bytes) else text.encode())


def test_the_rule_its_log_and_how_it_ends(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_log(tmp_path, "".join(f"step {n}\n" for n in range(100)) + "\nerror: no room\n\n")
    told = failed(Failures()).describe()
    assert told[0] == "error: rule bad failed; log: logs/bad.log"
    assert told[1:] == [f"    step {n}" for n in range(101 - LAST, 100)] + ["    error: no room"]


def test_every_job_that_failed_and_none_that_did_better_later(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_log(tmp_path, "error: one\n")
    write_log(tmp_path, "error: two\n", "second")
    failures = failed(Failures(), 7)
    failures.failed(3, "first", ["logs/first.log"])
    failures.failed(4, "second", ["logs/second.log"], "SLURM status is: 'TIMEOUT'")
    failures.finished(7)
    failed(failures, 8)
    failures.finished(3)
    told = failures.describe()
    assert told == [
        "error: rule second failed; log: logs/second.log", "    SLURM status is: 'TIMEOUT'", "    error: two",
        "error: rule bad failed; log: logs/bad.log", "    error: one",
    ]  # fmt: skip


def test_a_log_that_is_long_in_one_line_or_no_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_log(tmp_path, b"\x1b[31mred\xff\x07\r\n" + b"z" * 100_000)
    told = failed(Failures()).describe()
    assert told[1] == "     [31mred\ufffd " and told[2] == f"    {'z' * WIDTH}" and len(told) == 3


def test_a_killed_job_is_said_to_lack_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_log(tmp_path, "")
    for how in (EXIT.format(137), "died with <Signals.SIGKILL: 9>"):
        told = failed(Failures(), how=how).describe()
        assert (
            told[1] == f"    the log is empty; the command {how}"
            and "want of memory" in told[-1]
            and "CORES=1" in told[-1]
        )
    assert "memory" not in " ".join(failed(Failures(), how=EXIT.format(3)).describe())
    assert "memory" not in " ".join(failed(Failures(), how=EXIT.format(1377)).describe())


def test_where_no_job_failed_snakemake_has_the_last_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failures = Failures()
    failures.error("config error: seeds\n")
    assert failures.describe() == ["config error: seeds"]
    for n in range(100):
        failures.error(f"line {n}")
    failures.error("config error: seeds")
    told = failures.describe()
    assert told[-1] == "config error: seeds" and len(told) == 60
    failures = Failures()
    failures.error("MissingOutputException in rule bad:\nmissing files: b.txt")
    failures.failed(0, "bad", [])
    told = failures.describe()
    assert told[0] == "error: rule bad failed; log: none" and "    missing files: b.txt" in told


SNAKEFILE = """
import sys
sys.path.insert(0, {lib!r})
from pathlib import Path
from pipeline import at_work
from pipeline.progress import Outlook
from snakemake.logging import logger
onstart:
    at_work.enter(submits=not workflow.local_exec)
    logger.info("a study", extra={{"outlook": Outlook("mine", "cpu", Path(), {{"good": 5.0}}, 0.5)}})
rule all:
    input: "a.txt", "b.txt"
rule good:
    output: "a.txt"
    log: "logs/good.log"
    shell: "echo ${TAG} > {{output}}"
rule bad:
    input: "a.txt"
    output: "b.txt"
    log: "logs/bad.log"
    shell: "(echo error: it cannot be; exit 137) > {{log}}"
"""


def snakemake(*more: str, terminal: int | None = None) -> subprocess.CompletedProcess[str]:
    """With the plugin, its two streams in one. terminal: another open file for the progress."""
    command = [sys.executable, "-m", "snakemake", *more, "--cores", "1", "--logger", "safety-geometry"]
    if terminal is not None:
        command += ["--logger-safety-geometry-terminal", str(terminal)]
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT / "workflow")}, pass_fds=[] if terminal is None else [terminal],
    )  # fmt: skip


def test_snakemake_itself_speaks_as_it_is_understood(tmp_path, monkeypatch):
    """What its records look like, and that it asks who is at work: so that another version of it is noticed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(at_work.TAG, raising=False)
    Path("Snakefile").write_text(SNAKEFILE.format(lib=str(ROOT / "workflow"), TAG=at_work.TAG))
    done = snakemake()
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[:2] == ["Study mine on cpu: 3 jobs, about 0.5 min", "error: rule bad failed; log: logs/bad.log"]
    assert "    error: it cannot be" in lines and "want of memory" in lines[-1]
    assert "Job stats" not in done.stdout and not Path("timings.csv").exists()
    assert len(Path("a.txt").read_text().strip()) == 32 and at_work.notes_by_hand() == []  # its jobs carried a tag

    told = ["--logger-safety-geometry-failures", "told.txt"]
    with open("terminal.txt", "w") as terminal:  # as `make run` gives one: Snakemake's own text stays
        done = snakemake(*told, terminal=terminal.fileno())
    assert done.returncode == 1 and "Job stats" in done.stdout and "Error in rule bad" in done.stdout
    assert Path("terminal.txt").read_text() == "Study mine on cpu: 2 jobs, about 0.5 min\n"
    assert Path("told.txt").read_text().splitlines()[:2] == [
        "error: rule bad failed; log: logs/bad.log",
        "    error: it cannot be",
    ]

    done = snakemake("a.txt", "--forceall")
    assert done.returncode == 0 and "Done in 0.0 min; peak memory" in done.stdout
    assert Path("timings.csv").read_text().splitlines()[1].startswith("good,1,")
    done = snakemake("a.txt")
    assert done.returncode == 0 and done.stdout.endswith("Nothing to do: all results are up to date.\n")
    done = snakemake("-n")  # a plan is Snakemake's own text
    assert done.returncode == 0 and "Job stats" in done.stdout

    note = at_work.begin()
    for options in ([], told):
        done = snakemake(*options)
        assert done.returncode == 1 and f"error: another run (process {note['pid']})" in done.stdout
        assert "rule bad failed" not in done.stdout and "Traceback" not in done.stdout and not at_work.is_locked()
    assert Path("told.txt").read_text().startswith("error: another run")
