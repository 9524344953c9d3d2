"""A finished run beside what was said of it: seconds and memory from the benchmark files of its jobs."""

import csv
from collections.abc import Iterable
from pathlib import Path

from pipeline.costs.facts import Need

COLUMNS = ("rule", "jobs", "seconds", "said_seconds", "memory_mb", "said_memory_mb")


def measured(benchmark: Path) -> tuple[float, float]:
    """Seconds and largest resident memory in MB of the job that left a benchmark file."""
    with benchmark.open(encoding="utf-8") as file:
        *_, row = csv.DictReader(file, delimiter="\t")
    memory = float(row["max_rss"]) if row["max_rss"] not in ("-", "NA") else 0.0
    return float(row["s"]), memory * 2**20 / 1e6


def compare(jobs: Iterable[tuple[str, Need, Path]]) -> list[dict[str, object]]:
    """A row of COLUMNS for each rule, the longest first: seconds of its jobs together, memory of the largest.

    jobs: rule, what was said of it, and its benchmark file; jobs without one are left out.
    """
    rows: dict[str, dict] = {}
    for rule, need, benchmark in jobs:
        if not benchmark.is_file():
            continue
        seconds, memory = measured(benchmark)
        row = rows.setdefault(rule, dict.fromkeys(COLUMNS, 0.0) | {"rule": rule, "jobs": 0})
        row["jobs"] += 1
        row["seconds"], row["said_seconds"] = row["seconds"] + seconds, row["said_seconds"] + need.seconds
        row["memory_mb"], row["said_memory_mb"] = max(row["memory_mb"], memory), max(row["said_memory_mb"], need.memory)
    return sorted(rows.values(), key=lambda row: -row["seconds"])
