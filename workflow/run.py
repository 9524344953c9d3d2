"""`make run`: Snakemake with one progress line and an ETA, recovery from a killed run, and the report at the end.

Everything else (targets, profiles, clusters) is plain `snakemake`; this wrapper only adds what a first-time user needs.
"""

import argparse
import contextlib
import csv
import json
import os
import re
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import psutil
from tqdm import tqdm

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "workflow" / "lib"))

from asked import whole_study  # noqa: E402
from config_file import results_folder  # noqa: E402

RUN_FILE = Path(".snakemake") / "safety-geometry-run.json"
TAG = "SAFETY_GEOMETRY_RUN"  # in the environment of every job, so that orphans can be told from other processes
FINISHED = re.compile(r"^Finished jobid: (\d+) \(Rule: (\S+)\)")
STARTED = re.compile(r"^ +jobid: (\d+)$")
PLANNED = re.compile(r"^(\w+) +(\d+)$")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--configfile", default="config.yaml")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--no-report", action="store_true", help="leave out the HTML report")
    parser.add_argument("--config", nargs="+", default=[], metavar="KEY=VALUE", help="overlay of the configuration")
    arguments, extra = parser.parse_known_args()
    os.chdir(ROOT)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # without bytecode every start takes seconds longer
    results = results_folder(Path(arguments.configfile), arguments.config)
    command = ["snakemake", "--configfile", arguments.configfile, "--cores", str(arguments.cores), *extra]
    if arguments.config:
        command += ["--config", *arguments.config]

    whole = whole_study(extra)
    recover(command)
    run = {"id": uuid.uuid4().hex, "pid": os.getpid(), "started": psutil.Process().create_time()}
    RUN_FILE.parent.mkdir(exist_ok=True)
    RUN_FILE.write_text(json.dumps(run), encoding="utf-8")
    try:
        # The prompt sets first, on their own: role files that come out as they were then rerun nothing below them.
        status = execute([*command, "--until", "prompt_sets"], run["id"], results, first=True) if whole else 0
        if status == 0:
            status = execute(command, run["id"], results)
    finally:
        RUN_FILE.unlink(missing_ok=True)
    if status == 0 and not arguments.no_report and whole:
        report(command, results)
    return status


def recover(command: list[str]) -> None:
    """After a run that was killed: end its orphaned jobs and take away its lock. Stops if that run is still alive."""
    if RUN_FILE.exists():
        old = json.loads(RUN_FILE.read_text(encoding="utf-8"))
        if "cluster" in old:
            sys.exit(
                f"error: the last run in this folder, process {old['pid']} of {old['host']} with {old['cluster']}, is at work or"
                " was killed, and its jobs may be running; `make cluster-recover` ends them"
            )
        if _alive(old):
            sys.exit(f"error: another run (process {old['pid']}) is at work in this folder; wait for it or stop it")
        orphans = [p for p in psutil.process_iter() if _tagged(p, old["id"])]
        print(f"The last run was killed; ending {len(orphans)} orphaned process(es) and resuming.", flush=True)
        for process in orphans:
            process.kill()
        psutil.wait_procs(orphans, timeout=10)
        RUN_FILE.unlink()
        unlock(command)
    remove_partial()


def unlock(command: list[str]) -> None:
    """Take away the lock that a killed Snakemake left."""
    if _locked():
        subprocess.run([*command, "--unlock"], check=True, capture_output=True)
        print("Removed its dead lock.", flush=True)


def remove_partial() -> None:
    """Delete what jobs that are no more had begun to write; nothing while a Snakemake holds the folder.

    Its jobs may run on other machines, where process ids mean something else.
    """
    if _locked():
        return
    for partial in Path("results").rglob(".*.partial-*"):
        pid = re.search(r"partial-(\d+)", partial.name)
        if pid and not psutil.pid_exists(int(pid[1])):
            _remove(partial)


def execute(command: list[str], run_id: str, results: Path, first: bool = False) -> int:
    """Run Snakemake, show progress, keep its whole output in logs/snakemake.log; on failure show what it said.

    first: a preparation, whose end is not worth a word.
    """
    log = results / "logs" / ("prompts.log" if first else "snakemake.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    view, begun, took = None, {}, {}
    memory = Memory()
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {TAG: run_id}
        )
        try:
            for line in process.stdout:
                file.write(line)
                file.flush()
                lines.append(line)
                if view is None and line.startswith("total "):
                    view = Progress(_plan(lines), results.name)
                if match := STARTED.match(line):
                    begun[match[1]] = time.monotonic()
                if view is not None and (match := FINISHED.match(line)):
                    took.setdefault(match[2], []).append(time.monotonic() - begun.get(match[1], time.monotonic()))
                    view.finished(match[2])
        except KeyboardInterrupt:
            print("\nstopping ...", flush=True)
        status = process.wait()
    memory.stop()
    if view is not None:
        view.close()
    if status == 0 and took and not first:
        write_timings(took, results / "timings.csv")
        print(f"Done in {(time.monotonic() - view.started) / 60:.1f} min; peak memory {memory.peak / 2**30:.1f} GiB.")
    if status:
        shown = [line for line in lines if not line.startswith(("Command '", "Select jobs", "Execute "))]
        sys.stderr.write("".join(shown[-60:]))
        print(
            f"\nThe run stopped (exit status {status}). The same command resumes it. Full log: {log}", file=sys.stderr
        )
    elif not first and any("Nothing to be done" in line for line in lines):
        print("Nothing to do: all results are up to date.")
    return status


def write_timings(took: dict[str, list[float]], path: Path) -> None:
    """Seconds of each rule the last time it ran: rules that did not run now keep their rows.

    docs/timings.csv is such a table of the reference run.
    """
    rows = {}
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            rows = {row["rule"]: row for row in csv.DictReader(file)}
    for rule, seconds in took.items():
        mean = sum(seconds) / len(seconds)
        rows[rule] = {"rule": rule, "jobs": len(seconds), "seconds": f"{mean:.1f}", "total": f"{sum(seconds):.1f}"}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["rule", "jobs", "seconds", "total"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows.values(), key=lambda row: -float(row["total"])))


class Memory:
    """Peak of the summed resident memory of all processes of this run, sampled every two seconds."""

    def __init__(self):
        self.peak = 0
        self._done = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self._done.wait(2.0):
            now = 0
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    now += process.memory_info().rss
            self.peak = max(self.peak, now)

    def stop(self) -> None:
        self._done.set()


def expected(rule: str, known: dict[str, float]) -> float:
    """Seconds of a rule: as known, or as those took whose names begin like its own."""
    parts = rule.split("_")
    for n in range(len(parts), 0, -1):
        if alike := [seconds for name, seconds in known.items() if name.split("_")[:n] == parts[:n]]:
            return sum(alike) / len(alike)
    return 5.0


class Progress:
    """One bar over all jobs, weighted by the seconds each rule took in the reference run of the study, or of the default."""

    def __init__(self, plan: dict[str, int], study: str):
        known: dict[str, float] = {}
        for table in (ROOT / "docs/timings.csv", ROOT / "docs/results" / study / "timings.csv"):
            if table.exists():
                known |= {row["rule"]: float(row["seconds"]) for row in csv.DictReader(table.open(encoding="utf-8"))}
        self.weight = {rule: expected(rule, known) for rule in plan}
        self.total = sum(self.weight[rule] * n for rule, n in plan.items())
        self.jobs, self.n_jobs, self.done = 0, sum(plan.values()), 0.0
        self.started = self.spoken = time.monotonic()
        self.bar = None
        if sys.stderr.isatty():
            layout = "{desc} {percentage:3.0f}%|{bar}| {elapsed} gone, about {remaining} left"
            self.bar = tqdm(total=self.total, bar_format=layout, desc=f"0/{self.n_jobs} jobs", smoothing=0.05)

    def finished(self, rule: str) -> None:
        self.jobs, self.done = self.jobs + 1, self.done + self.weight.get(rule, 5.0)
        if self.bar is not None:
            self.bar.set_description(f"{self.jobs}/{self.n_jobs} jobs, last {rule}")
            self.bar.update(self.weight.get(rule, 5.0))
        elif time.monotonic() - self.spoken > 15 or self.jobs == self.n_jobs:
            self.spoken = time.monotonic()
            gone = self.spoken - self.started
            left = gone * (self.total / max(self.done, 1e-9) - 1)
            print(
                f"{self.jobs}/{self.n_jobs} jobs, {gone / 60:.1f} min gone, about {left / 60:.1f} min left ({rule})",
                flush=True,
            )

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def report(command: list[str], results: Path) -> None:
    """Snakemake's self-contained HTML report, unless it is newer than every table, figure and caption."""
    target = results / "report.html"
    shown = [
        *(results / "tables").glob("*"),
        *(results / "figures").glob("*"),
        *(ROOT / "workflow/report").glob("*"),
    ]
    if not target.exists() or target.stat().st_mtime < max(path.stat().st_mtime for path in shown):
        style = ["--report-stylesheet", str(ROOT / "workflow/report/report.css")]
        done = subprocess.run([*command, "--report", str(target), *style], capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stdout + done.stderr + "\nThe results are complete, but the report could not be made.")
    print(f"Report: {target}")


def _alive(run: dict) -> bool:
    """The process of a run that was noted before; a killed one may linger as a zombie until its parent looks."""
    try:
        process = psutil.Process(run["pid"])
        return process.create_time() == run["started"] and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _plan(lines: list[str]) -> dict[str, int]:
    """Rule -> number of jobs, from Snakemake's job table."""
    found = (PLANNED.match(line.rstrip()) for line in lines)
    return {m[1]: int(m[2]) for m in found if m and m[1] != "total"}


def _tagged(process: psutil.Process, run_id: str) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get(TAG) == run_id
    except psutil.Error:
        return False


def _locked() -> bool:
    locks = Path(".snakemake/locks")
    return locks.is_dir() and any(locks.iterdir())


def _remove(path: Path) -> None:
    if path.is_dir():
        import shutil

        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
