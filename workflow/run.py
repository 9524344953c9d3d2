"""`make run`: Snakemake with one progress line and an ETA, recovery from a killed run, and the report at the end.

Everything else (targets, profiles, clusters) is plain `snakemake`; this wrapper only adds what a first-time user needs.
"""

import argparse
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

NEEDED = ("psutil", "tqdm", "yaml", "pydantic", "snakemake")
if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
    sys.exit(
        f"error: {sys.executable} has no {', '.join(missing)}: it is not this project's environment, or that is broken."
        " `make run` makes it anew after .venv is deleted"
    )

from pipeline import ROOT  # noqa: E402
from pipeline.at_work import RUN_FILE, begin, is_locked, members, recover  # noqa: E402
from pipeline.config_file import device_of, results_folder  # noqa: E402
from pipeline.damage import stop_if_damaged  # noqa: E402
from pipeline.devices import given_gpus, pooled  # noqa: E402
from pipeline.places import check_places, settle_caches  # noqa: E402
from pipeline.snakemake_internals import jobs_run_here, only_looks, whole_study  # noqa: E402
from pipeline.supervise import Supervisor, say  # noqa: E402

LAST = 60  # lines of Snakemake's text, where it ended before it could say what failed


def main() -> int:
    arguments, extra, config, results = read_arguments(argument_parser(__doc__))
    command = ["snakemake", *config, "--cores", str(arguments.cores), *extra]
    if only_looks(extra):
        settle_caches()
        return subprocess.run(command, check=False).returncode
    check_places(results)
    device = device_of(Path(arguments.configfile), arguments.config)
    if device != "cpu" and jobs_run_here(extra):
        command = pooled(command, given_gpus(device))
    whole = whole_study(extra)
    recover(command, arguments.dead)
    stop_if_damaged(results, arguments.configfile)
    run = begin()
    supervisor = Supervisor(run["id"])
    try:
        with supervisor:
            # The prompt sets first, on their own: role files that come out as they were then rerun nothing below them.
            status = execute([*command, "--until", "prompt_sets"], supervisor, results, first=True) if whole else 0
            if status == 0 and not supervisor.signal:
                status = execute(command, supervisor, results)
    finally:
        close(run, supervisor)
    if status == 0 and not arguments.no_report and whole:
        report(command, results)
        summary(config, results)
    return status


def argument_parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--configfile", default="config.yaml")
    parser.add_argument("--cores", type=int, default=2, help="of this machine")
    parser.add_argument("--dead", action="store_true", help="the run that left its note here is known to be dead")
    parser.add_argument("--no-report", action="store_true", help="leave out the HTML report and the summary")
    parser.add_argument("--config", nargs="+", default=[], metavar="KEY=VALUE", help="overlay of the configuration")
    return parser


def read_arguments(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, list[str], list[str], Path]:
    """Arguments; those for Snakemake; how it is given the configuration; the study's folder. Settles folder and
    environment."""
    arguments, extra = parser.parse_known_args()
    os.chdir(ROOT)
    os.environ["PYTHONUTF8"] = "1"  # Snakemake and its jobs write UTF-8 whatever the login's locale
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # without bytecode every start takes seconds longer
    # Where Snakemake looks for the logger plugin.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "workflow"), os.environ.get("PYTHONPATH")]))
    overlay = ["--config", *arguments.config] if arguments.config else []
    results = results_folder(Path(arguments.configfile), arguments.config)
    return arguments, extra, ["--configfile", arguments.configfile, *overlay], results


def close(run: dict, supervisor: Supervisor) -> None:
    """Take away the note of a run, unless something of it is left that the next one has to end: a process, a lock."""
    if members(run["id"]):
        say("Some processes of the run could not be ended; the next `make run` tries again.", error=True)
    elif not (supervisor.lost and is_locked()):
        RUN_FILE.unlink(missing_ok=True)


def execute(command: list[str], supervisor: Supervisor, results: Path, first: bool = False) -> int:
    """Run Snakemake with the logger plugin, and keep its whole output in logs/snakemake.log; on failure say what
    failed.

    first: a preparation, whose end is not worth a word. Returns the exit status, 128 and the signal's number after a
    signal.
    """
    log = Log(results / "logs" / ("prompts.log" if first else "snakemake.log"))
    failures = log.path.with_name("failures.txt").absolute()
    failures.unlink(missing_ok=True)
    terminal = os.dup(sys.stderr.fileno())
    ours = "--logger-safety-geometry"
    options = ["--logger", "safety-geometry", f"{ours}-terminal", str(terminal), f"{ours}-failures", str(failures)]
    options += [f"{ours}-preparation"] * first
    status = supervisor.run([command[0], *options, *command[1:]], log.write, terminal)
    os.close(terminal)
    log.close()
    if supervisor.signal:
        say(f"Stopped. The same command resumes it. Full log: {log.path}")
        return 128 + supervisor.signal
    if status:
        if failures.exists():
            say(failures.read_text(encoding="utf-8").rstrip(), error=True)
        elif status > 0:
            say("".join(log.last).rstrip(), error=True)
        if status < 0:
            say(killed(-status), error=True)
            status = 128 - status
        say(f"\nThe run stopped (exit status {status}). The same command resumes it. Full log: {log.path}", error=True)
    return status


def killed(number: int) -> str:
    """What it means that a signal ended Snakemake."""
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    if number == signal.SIGKILL:
        return (
            f"error: Snakemake was killed ({name}), most often by the kernel for want of memory: close other programs,"
            " or run one job at a time (make run CORES=1); docs/troubleshooting.md, Out of memory. Its jobs were ended"
        )
    return (
        f"error: Snakemake was ended by {name}, which came from outside or from a fault in a library. Its jobs were"
        " ended"
    )


class Log:
    """A file of lines, each there at once. A disk that is full costs lines, not the run."""

    def __init__(self, path: Path):
        self.path, self._told = path, False
        self.last: deque[str] = deque(maxlen=LAST)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            sys.exit(f"error: {path} cannot be written ({error.strerror}); make it writable, or make room")

    def write(self, line: str) -> None:
        self.last.append(line)
        try:
            self._file.write(line.encode())
        except OSError as error:
            if not self._told:
                self._told = True
                say(f"{self.path} cannot be written now ({error.strerror}): it will have gaps. The run goes on.")

    def close(self) -> None:
        self._file.close()


def report(command: list[str], results: Path) -> None:
    """Snakemake's self-contained HTML report, unless it is newer than every table, figure and caption."""
    target = results / "report.html"
    if outdated(target, results):
        style = ["--report-stylesheet", str(ROOT / "workflow/report/report.css")]
        make_page([*command, "--report", str(target), *style], "the report")
    print(f"Report: {target}")


def summary(config: list[str], results: Path) -> None:
    """One page to look at (pipeline/summary.py), unless it is newer than what it shows."""
    target = results / "summary.html"
    if outdated(target, results, ROOT / "workflow/pipeline/summary.py"):
        make_page([sys.executable, str(ROOT / "workflow/summary.py"), *config], "the summary")
    print(f"Summary: {target}")


def outdated(target: Path, results: Path, *code: Path) -> bool:
    """Whether a page is missing or older than a table, a figure or a caption."""
    shown = [
        *(results / "tables").glob("*"),
        *(results / "figures").glob("*"),
        *(ROOT / "workflow/report").glob("*"),
        *(ROOT / "src/safety_geometry/artefacts/tables").glob("*.py"),  # captions of tables
        *code,
    ]
    newest = max((path.stat().st_mtime for path in shown), default=0.0)
    # One of the future says nothing: the clock was set back since.
    return not target.exists() or not newest <= target.stat().st_mtime <= time.time()


def make_page(command: list[str], what: str) -> None:
    """Run a command that makes a page. Ends with its text where that fails."""
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\nThe results are complete, but {what} could not be made.")


def stopped_by_keys(program: Callable[[], int]) -> None:
    """End with a program's exit status; with that of Ctrl-C where one comes before or after Snakemake's work."""
    sys.stdout.reconfigure(errors="backslashreplace")  # a letter that the terminal lacks ends no run
    try:
        sys.exit(program())
    except KeyboardInterrupt:
        say("\nStopped. The same command resumes it.")
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    stopped_by_keys(main)
