"""What is said of a run that failed: the rules, their logs and how these end."""

import subprocess
import sys
from pathlib import Path

import at_work
from failures import LAST, WIDTH, Failures
from fake_runs import ROOT
from progress import Progress

STARTED = """[Thu Nov 26 23:18:32 2026]
localrule good:
    output: a.txt
    log: logs/good.log
    jobid: 1
"""
FAILED = """RuleException:
CalledProcessError in file "/there/Snakefile", line 10:
Command 'set -euo pipefail;  python a.py --params '{{"a": 1}}' 2> logs/bad.log' {exit}.
[Thu Nov 26 23:18:32 2026]
Error in rule bad:
    message: None
    jobid: {job}
    output: b.txt
    log: logs/bad.log (check log file(s) for error details)
    shell:
        python a.py --params '{{"a": 1}}' 2> logs/bad.log
        (command exited with non-zero exit code)
Logfile logs/bad.log:
====
"""
GROUP = """[Thu Nov 26 23:18:32 2026]
Error in group 0f8fad5b:
    jobs:
        rule first:
            jobid: 3
            output: a
            log: logs/first.log (check log file(s) for error details)
        rule second:
            jobid: 4
            log: logs/second.log (check log file(s) for error details)
"""
EXIT = "returned non-zero exit status {}"


def described(*texts: str) -> list[str]:
    failures = Failures()
    for line in "".join(texts).splitlines(keepends=True):
        failures.read(line)
    return failures.describe()


def failed(job: int = 2, how: str = EXIT.format(1)) -> str:
    return FAILED.format(job=job, exit=how)


def write_log(folder, text: str | bytes, name: str = "bad") -> None:
    (folder / "logs").mkdir(exist_ok=True)
    (folder / f"logs/{name}.log").write_bytes(text if isinstance(text, bytes) else text.encode())


def test_the_rule_its_log_and_how_it_ends(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_log(tmp_path, "".join(f"step {n}\n" for n in range(100)) + "\nerror: no room\n\n")
    told = described(STARTED, failed())
    assert told[0] == "error: rule bad failed; log: logs/bad.log"
    assert told[1:] == [f"    step {n}" for n in range(101 - LAST, 100)] + ["    error: no room"]


def test_every_job_that_failed_and_none_that_did_better_later(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_log(tmp_path, "error: one\n")
    write_log(tmp_path, "error: two\n", "second")
    told = described(
        failed(7), GROUP, "Finished jobid: 7 (Rule: bad)\n", failed(8), "Finished jobid: 3 (Rule: first)\n"
    )
    assert told == [
        "error: rule second failed; log: logs/second.log", "    error: two", "error: rule bad failed; log: logs/bad.log", "    error: one",
    ]  # fmt: skip


def test_a_log_that_is_long_in_one_line_or_no_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_log(tmp_path, b"\x1b[31mred\xff\x07\r\n" + b"z" * 100_000)
    told = described(failed())
    assert told[1] == "     [31mred\ufffd " and told[2] == f"    {'z' * WIDTH}" and len(told) == 3


def test_a_killed_job_is_said_to_lack_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_log(tmp_path, "")
    for how in (EXIT.format(137), "died with <Signals.SIGKILL: 9>"):
        told = described(failed(how=how))
        assert (
            told[1] == f"    the log is empty; the command {how}"
            and "want of memory" in told[-1]
            and "CORES=1" in told[-1]
        )
    assert "memory" not in " ".join(described(failed(how=EXIT.format(3))))
    assert "memory" not in " ".join(described(failed(how=EXIT.format(1377))))


def test_where_no_job_failed_snakemake_has_the_last_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    header = "SNAKEMAKE\n=========\n  Date: 2026-11-26\n  Config MD5: b07228\n\n"
    assert described(header, "config error: seeds\n") == ["", "config error: seeds"]
    told = described("".join(f"line {n}\n" for n in range(100)), "config error: seeds\n")
    assert told[-1] == "config error: seeds" and len(told) == 60
    missing = "MissingOutputException in rule bad:\nmissing files: b.txt\nError in rule bad:\n    jobid: 0\n    output: b.txt\n"
    told = described(missing)
    assert told[0] == "error: rule bad failed; log: none" and "    missing files: b.txt" in told


SNAKEFILE = """
import sys
sys.path.insert(0, {lib!r})
import at_work
onstart:
    at_work.enter(submits=not workflow.local_exec)
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


def test_snakemake_itself_speaks_as_it_is_understood(tmp_path, monkeypatch):
    """What its output looks like, and that it asks who is at work: so that another version of it is noticed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(at_work.TAG, raising=False)
    Path("Snakefile").write_text(SNAKEFILE.format(lib=str(ROOT / "workflow/lib"), TAG=at_work.TAG))
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--show-failed-logs"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 1
    assert described(done.stdout)[:2] == ["error: rule bad failed; log: logs/bad.log", "    error: it cannot be"]
    assert "want of memory" in described(done.stdout)[-1]
    progress = Progress("none")
    for line in done.stdout.splitlines(keepends=True):
        progress.read(line)
    assert list(progress.took) == ["good"]
    assert len(Path("a.txt").read_text().strip()) == 32 and at_work.notes_by_hand() == []  # its jobs carried a tag

    note = at_work.begin()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 1 and f"error: another run (process {note['pid']})" in done.stdout
    assert "Error in rule" not in done.stdout and "Traceback" not in done.stdout and not at_work.is_locked()
    assert described(done.stdout)[-1].startswith("error: another run")
