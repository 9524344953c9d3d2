"""A finished run beside what was said of it: seconds and memory from the benchmark files of its jobs."""

import csv
import re
from collections.abc import Iterable
from pathlib import Path

from costs.facts import Facts
from costs.jobs import need

Row = tuple[str, dict[str, str], float, float]
COLUMNS = ("rule", "jobs", "seconds", "said_seconds", "memory_mb", "said_memory_mb")


def measured(results: Path) -> list[Row]:
    """(rule, wildcards, seconds, largest resident memory in MB) of every job that left a benchmark file below results/<study>."""
    out = []
    for path in sorted(results.rglob("benchmarks/*.tsv")):
        with path.open(encoding="utf-8") as file:
            *_, row = csv.DictReader(file, delimiter="\t")
        seed = path.parents[1].name.removeprefix("seed")
        rule, at = job_of(path.stem)
        memory = float(row["max_rss"]) if row["max_rss"] not in ("-", "NA") else 0.0
        out.append((rule, at | ({"seed": seed} if seed.isdigit() else {}), float(row["s"]), memory * 2**20 / 1e6))
    return out


def job_of(benchmark: str) -> tuple[str, dict[str, str]]:
    """Rule and wildcards by the name of a benchmark file."""
    m = re.fullmatch(
        r"(probe|completions|sweep|follow_up|transfer|attack_gcg|attack_autodan)_(.+)_step(\d+)", benchmark
    )
    if m is None:
        return benchmark, {}
    rule, regime, step = m.groups()
    return (f"probe_anchor_{regime}" if rule == "probe" else rule), {"regime": regime, "step": step}


def compare(facts: Facts, jobs: Iterable[Row]) -> list[dict[str, object]]:
    """A row of COLUMNS for each rule, the longest first: seconds of its jobs together, memory of the largest."""
    rows: dict[str, dict] = {}
    for rule, at, seconds, memory in jobs:
        said = need(facts, rule, at)
        row = rows.setdefault(rule, dict.fromkeys(COLUMNS, 0.0) | {"rule": rule, "jobs": 0})
        row["jobs"] += 1
        row["seconds"], row["said_seconds"] = row["seconds"] + seconds, row["said_seconds"] + said.seconds
        row["memory_mb"], row["said_memory_mb"] = max(row["memory_mb"], memory), max(row["said_memory_mb"], said.memory)
    return sorted(rows.values(), key=lambda row: -row["seconds"])
