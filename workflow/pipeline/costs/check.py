"""A finished run beside what was said of it: seconds, memory and GPU memory from its jobs' benchmark files and logs."""

import csv
import re
from collections.abc import Iterable
from pathlib import Path

from pipeline.costs.facts import Need

COLUMNS = ("rule", "jobs", "seconds", "said_seconds", "memory_mb", "said_memory_mb", "gpu_mb", "said_gpu_mb")
PEAK = re.compile(r"^GPU memory at its peak: (\d+) MB$", re.MULTILINE)  # what scripts/_gpu.py writes


def measured(benchmark: Path) -> tuple[float, float]:
    """Seconds and largest resident memory in MB of the job that left a benchmark file."""
    with benchmark.open(encoding="utf-8") as file:
        *_, row = csv.DictReader(file, delimiter="\t")
    memory = float(row["max_rss"]) if row["max_rss"] not in ("-", "NA") else 0.0
    return float(row["s"]), memory * 2**20 / 1e6


def gpu_peak(log: Path) -> float:
    """GPU memory in MB that the job of a log held at most; 0 where it says nothing of it."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return max(map(float, PEAK.findall(text)), default=0.0)


def compare(jobs: Iterable[tuple[str, Need, Path, Path]]) -> list[dict[str, object]]:
    """A row of COLUMNS for each rule, the longest first: seconds of its jobs together, memory of the largest.

    jobs: rule (or whatever jobs are put together by), what was said of it, its benchmark file and its log; jobs without
    a benchmark file are left out.
    """
    rows: dict[str, dict] = {}
    for rule, need, benchmark, log in jobs:
        if not benchmark.is_file():
            continue
        seconds, memory = measured(benchmark)
        row = rows.setdefault(rule, dict.fromkeys(COLUMNS, 0.0) | {"rule": rule, "jobs": 0})
        row["jobs"] += 1
        row["seconds"], row["said_seconds"] = row["seconds"] + seconds, row["said_seconds"] + need.seconds
        for name, took, said in (("memory_mb", memory, need.memory), ("gpu_mb", gpu_peak(log), need.gpu)):
            row[name], row[f"said_{name}"] = max(row[name], took), max(row[f"said_{name}"], said)
    return sorted(rows.values(), key=lambda row: -row["seconds"])
