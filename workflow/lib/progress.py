"""How far a run is: one line, weighted by the seconds each rule is known to take; what the rules took; the memory they needed."""

import contextlib
import csv
import os
import re
import sys
import threading
import time
from pathlib import Path

import psutil
from supervise import say
from tqdm import tqdm

ROOT = Path(__file__).parents[2]
FINISHED = re.compile(r"^Finished jobid: (\d+) \(Rule: (\S+)\)")
STARTED = re.compile(r"^ +jobid: (\d+)$")
PLANNED = re.compile(r"^(\w+) +(\d+)$")
COLUMNS = ("rule", "jobs", "seconds", "total")


class Progress:
    """Follows Snakemake's output, line by line."""

    def __init__(self, study: str):
        self.study = study
        self.took: dict[str, list[float]] = {}  # seconds of the jobs of a rule
        self.started = time.monotonic()
        self._plan: dict[str, int] = {}
        self._begun: dict[str, float] = {}
        self._view: View | None = None

    def read(self, line: str) -> None:
        if self._view is None and (match := PLANNED.match(line.rstrip())):
            if match[1] == "total":
                self._view = View(self._plan, self.study)
            else:
                self._plan[match[1]] = int(match[2])
        if match := STARTED.match(line):
            self._begun[match[1]] = time.monotonic()
        if self._view is not None and (match := FINISHED.match(line)):
            self.took.setdefault(match[2], []).append(time.monotonic() - self._begun.get(match[1], time.monotonic()))
            self._view.finished(match[2])

    def close(self) -> None:
        if self._view is not None:
            self._view.close()


class View:
    """One bar over all jobs, weighted by the seconds each rule took in the reference run of the study, or of the default."""

    def __init__(self, plan: dict[str, int], study: str):
        known: dict[str, float] = {}
        for table in (ROOT / "docs/timings.csv", ROOT / "docs/results" / study / "timings.csv"):
            known |= {rule: float(row["seconds"]) for rule, row in read_timings(table).items()}
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
            with contextlib.suppress(OSError):  # the terminal is gone
                self.bar.set_description(f"{self.jobs}/{self.n_jobs} jobs, last {rule}")
                self.bar.update(self.weight.get(rule, 5.0))
        elif time.monotonic() - self.spoken > 15 or self.jobs == self.n_jobs:
            self.spoken = time.monotonic()
            gone = self.spoken - self.started
            left = gone * (self.total / max(self.done, 1e-9) - 1)
            say(f"{self.jobs}/{self.n_jobs} jobs, {gone / 60:.1f} min gone, about {left / 60:.1f} min left ({rule})")

    def close(self) -> None:
        if self.bar is not None:
            with contextlib.suppress(OSError):
                self.bar.close()


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


def read_timings(path: Path) -> dict[str, dict]:
    """Rows of a table of timings by their rule; none where there is no table. Rows that are none are left out."""
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            rows = [row for row in csv.DictReader(file) if all(row.get(name) for name in COLUMNS)]
    except (OSError, csv.Error):
        return {}
    return {row["rule"]: row for row in rows if _is_number(row["seconds"]) and _is_number(row["total"])}


def _is_number(text: str) -> bool:
    try:
        return float(text) >= 0
    except ValueError:
        return False


def write_timings(took: dict[str, list[float]], path: Path) -> None:
    """Seconds of each rule the last time it ran: rules that did not run now keep their rows.

    docs/timings.csv is such a table of the reference run.
    """
    rows = read_timings(path)
    for rule, seconds in took.items():
        mean = sum(seconds) / len(seconds)
        rows[rule] = {"rule": rule, "jobs": len(seconds), "seconds": f"{mean:.1f}", "total": f"{sum(seconds):.1f}"}
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(sorted(rows.values(), key=lambda row: -float(row["total"])))
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        say(f"{path} could not be written ({error.strerror}): how long the rules took is not kept.")
