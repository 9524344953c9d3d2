"""What is said of the tables of a run beside reference tables: which differ, where, and by how much."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from safety_geometry.artefacts.tables.registry import TABLES
from safety_geometry.claims.verify import Comparison, compare_tables

SHOWN = 12


def verify(results: Path, reference: Path, tolerance: float) -> tuple[list[str], bool]:
    """The report, and whether everything is within tolerance."""
    wanted = sorted(reference.glob("*.csv")) if reference.is_dir() else []
    if not wanted:
        return [f"no reference tables in {reference}; run `make reference` on a run that you trust"], False
    if not results.is_dir():
        return [f"no tables in {results}; run the study first (`make run`)"], False
    parts = [verify_table(results / path.name, path, tolerance) for path in wanted]
    lines = [line for part, _ in parts for line in part]
    if extra := sorted(path.stem for path in results.glob("*.csv") if not (reference / path.name).exists()):
        lines.append(f"  not in the reference, not compared: {', '.join(extra)}")
    return lines, all(good for _, good in parts)


def verify_table(file: Path, reference: Path, tolerance: float) -> tuple[list[str], bool]:
    """Lines about one table, and whether it is within tolerance."""
    name = reference.stem
    if not file.exists():
        return [f"  {name}: MISSING: this run has no {file}"], False
    if file.read_bytes() == reference.read_bytes():
        return [f"  {name}: identical"], True
    new, old = (pd.read_csv(path, keep_default_na=False, na_values=[""]) for path in (file, reference))
    if "seed" not in old and seeds(file.parent) != seeds(reference.parent):
        return [f"  {name}: over all seeds, and those differ: not compared"], True
    comparison = compare_tables(new, old, TABLES[name].key if name in TABLES else (), tolerance)
    return list(describe(name, comparison)), comparison.within


def seeds(tables: Path) -> list[int]:
    path = tables / "five_anchor.csv"
    return sorted(set(pd.read_csv(path)["seed"])) if path.exists() else []


def describe(name: str, comparison: Comparison) -> Iterator[str]:
    """Lines about one table, the worst columns first."""
    if comparison.identical:
        yield f"  {name}: identical"
        return
    if comparison.problem:
        yield f"  {name}: DIFFERS: {comparison.problem}"
        return
    yield f"  {name}: {'within tolerance' if comparison.within else 'DIFFERS'}"
    for rows, which in ((comparison.missing, "only in the reference"), (comparison.extra, "only in this run")):
        if rows:
            yield f"      {len(rows)} rows {which}: {', '.join(rows[:3])}{' …' if len(rows) > 3 else ''}"
    for column in sorted(comparison.columns, key=lambda column: -column.outside)[:SHOWN]:
        size = "text" if column.largest != column.largest else f"largest difference {column.largest:.3g}"
        cells = f"{column.differing} of {column.n} cells differ, {column.outside} beyond tolerance"
        yield f"      {column.name}: {cells}; {size} at {column.where}"
    if len(comparison.columns) > SHOWN:
        yield f"      … and {len(comparison.columns) - SHOWN} more columns"
    if not (comparison.columns or comparison.missing or comparison.extra):
        yield "      the rows stand in another order"
