"""How far a run is: one line, weighted by the seconds that jobs take; what the rules took; the memory they needed."""

import contextlib
import csv
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import psutil
from tqdm import tqdm

from pipeline.costs.facts import Need

COLUMNS = ("rule", "jobs", "seconds", "total")
SILENCE = 15  # seconds between two lines where there is no bar
UNKNOWN = 5.0  # seconds of a job of which nothing is known


@dataclass(frozen=True)
class Outlook:
    """What the Snakefile says of a run before its first job.

    seconds: of a job, by rule; minutes: of all jobs on this machine, None where they run on others.
    """

    study: str
    device: str
    results: Path
    seconds: Mapping[str, float]
    minutes: float | None

    @classmethod
    def of(
        cls,
        config: Mapping,
        results: Path,
        jobs: Iterable[Any],
        need: Callable[[str, Mapping], Need],
        cores: int | None,
        device: str,
    ) -> "Outlook":
        """jobs: Snakemake's, that are going to run; need: what a job of a rule with its wildcards costs; cores: of this
        machine, None where the jobs run on others; device: what they run on, in words. Rules that have run in this
        study take what they took then, others what they cost."""
        took = {rule: float(row["seconds"]) for rule, row in read_timings(results / "timings.csv").items()}
        seconds: dict[str, list[float]] = {}
        work = 0.0  # core seconds
        for job in jobs:
            rule = job.rule.name
            each = took[rule] if rule in took else need(rule, job.wildcards_dict).seconds
            seconds.setdefault(rule, []).append(each)
            work += each * min(job.threads, cores or 1)
        means = {rule: sum(values) / len(values) for rule, values in seconds.items()}
        return cls(config["study"], device, results, means, work / cores / 60 if cores else None)

    def describe(self, jobs: int) -> str:
        """The first line of a run."""
        minutes = "" if self.minutes is None else f", about {self.minutes:.1f} min"
        return f"Study {self.study} on {self.device}: {jobs} {'job' if jobs == 1 else 'jobs'}{minutes}"


class View:
    """One bar over all jobs of a plan (jobs by rule) on a terminal, a line now and then elsewhere."""

    def __init__(self, plan: Mapping[str, int], seconds: Mapping[str, float], stream: TextIO, brief: bool = False):
        """seconds: of a job, by rule. brief: nothing is left of it at the end."""
        self.weight = {rule: seconds.get(rule, 0.0 if rule == "all" else UNKNOWN) for rule in plan}
        self.total = sum(self.weight[rule] * n for rule, n in plan.items())
        self.jobs, self.n_jobs, self.done = 0, sum(plan.values()), 0.0
        self.running: Counter[str] = Counter()
        self.stream, self.brief = stream, brief
        self.started = self.spoken = time.monotonic()
        self.bar = tqdm(
            total=max(self.total, 1e-9),
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed} gone, about {remaining} left{postfix}",
            smoothing=0,
            file=stream,
            leave=not brief,
            dynamic_ncols=True,
            disable=not is_terminal(stream),
        )
        self.show()

    def began(self, rule: str) -> None:
        self.running[rule] += 1
        self.show()

    def failed(self, rule: str) -> None:
        self.running -= Counter([rule])
        self.show()

    def finished(self, rule: str) -> None:
        self.running -= Counter([rule])
        self.jobs, self.done = self.jobs + 1, self.done + self.weight.get(rule, 0.0)
        with contextlib.suppress(OSError):  # the terminal is gone
            self.bar.update(self.weight.get(rule, 0.0))
        self.show()
        if self.bar.disable and (time.monotonic() - self.spoken > SILENCE or (self.ended and not self.brief)):
            self.spoken = time.monotonic()
            gone = self.spoken - self.started
            left = gone * (self.total / max(self.done, 1e-9) - 1)
            tell(
                f"{self.jobs}/{self.n_jobs} jobs, {gone / 60:.1f} min gone, about {left / 60:.1f} min left"
                f" ({self.now() or rule})",
                self.stream,
            )

    @property
    def ended(self) -> bool:
        return self.jobs == self.n_jobs

    def now(self) -> str:
        """What runs: its rules, and how many jobs of each."""
        return ", ".join(f"{n} {rule}" if n > 1 else rule for rule, n in sorted(self.running.items()))

    def show(self) -> None:
        with contextlib.suppress(OSError):
            self.bar.set_postfix_str(self.now(), refresh=False)
            self.bar.set_description_str(f"{self.jobs}/{self.n_jobs} jobs")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.bar.close()


class Memory:
    """Peak of the summed resident memory of this process and all that it began, sampled every two seconds."""

    def __init__(self):
        self.peak = 0
        self._done = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._done.is_set():
            now = 0
            for process in [me, *me.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    now += process.memory_info().rss
            self.peak = max(self.peak, now)
            self._done.wait(2.0)

    def stop(self) -> None:
        self._done.set()


def tell(text: str, stream: TextIO) -> None:
    """Print, unless the terminal is gone: a run outlives its reader."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=stream, flush=True)


def is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (OSError, ValueError):
        return False


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


def write_timings(took: Mapping[str, list[float]], path: Path) -> str:
    """Seconds of each rule the last time it ran: rules that did not run now keep their rows. Returns why it could not
    be done, or "".

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
        return f"{path} could not be written ({error.strerror}): how long the rules took is not kept."
    return ""


def benchmarked(path: str | None) -> float | None:
    """Seconds of a job by its benchmark file: of one that was submitted the time in the queue does not count."""
    try:
        with open(path or "", encoding="utf-8", newline="") as file:
            return float(list(csv.DictReader(file, delimiter="\t"))[-1]["s"])
    except (OSError, ValueError, KeyError, IndexError, csv.Error):
        return None
