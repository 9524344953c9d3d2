"""What is said of the tables of a run beside reference tables: whether what counts agrees, and what else differs."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from safety_geometry.artefacts.tables.registry import TABLES
from safety_geometry.claims.headline import EARLIER, HEADLINE, VERDICTS, claims_differ, rates_differ
from safety_geometry.claims.verify import Comparison, compare_tables

SHOWN = 12
DISAGREES = "This run does not agree with the reference; what contradicts it stands first."


def verify(results: Path, reference: Path, tolerance: float) -> tuple[list[str], bool]:
    """The report, and whether verdicts agree and headline values lie within the reference's intervals."""
    wanted = sorted(reference.glob("*.csv")) if reference.is_dir() else []
    if not wanted:
        return [f"no reference tables in {reference}; run `make reference` on a run that you trust"], False
    if not results.is_dir():
        return [f"no tables in {results}; run the study first (`make run`)"], False
    problems, notes = headline(results, reference)
    details = [line for path in wanted for line in verify_table(results / path.name, path, tolerance)]
    if extra := sorted(path.stem for path in results.glob("*.csv") if not (reference / path.name).exists()):
        details.append(f"  not in the reference, not compared: {', '.join(extra)}")
    if problems:
        return [*problems, *notes, "table by table:", *details, DISAGREES], False
    return [agrees(notes), *notes, "table by table:", *details], True


def headline(results: Path, reference: Path) -> tuple[list[str], list[str]]:
    """What contradicts the reference, and what could not be held against it."""
    problems, notes = [], []
    for name in HEADLINE:
        old, new = reference / f"{name}.csv", results / f"{name}.csv"
        if not old.exists():
            notes.append(f"the reference has no table {name}")
        elif not new.exists():
            problems.append(f"{name}: this run has no {new}")
        elif name == "five_anchor":
            problems += rates_differ(read(new), read(old))
        elif not {*VERDICTS, "estimate"} <= set(read(old)):
            notes.append(EARLIER)
        elif seeds(results) != seeds(reference):
            notes.append(
                f"claims are over all seeds, and those differ ({seeds(results)}, {seeds(reference)}): not compared"
            )
        else:
            problems = [*claims_differ(read(new), read(old)), *problems]
    return problems, notes


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def agrees(notes: Sequence[str]) -> str:
    """What a run shares with its reference; `notes`: what could not be compared."""
    verdicts = "" if notes else "its verdicts are the same, and "
    return (
        f"This run agrees with the reference: {verdicts}its headline values lie within the reference's intervals. "
        "Cells that differ below are no contradiction: another processor rounds otherwise."
    )


def verify_table(file: Path, reference: Path, tolerance: float) -> list[str]:
    """Lines about one table."""
    name = reference.stem
    if not file.exists():
        return [f"  {name}: missing, this run has no {file}"]
    if file.read_bytes() == reference.read_bytes():
        return [f"  {name}: identical"]
    new, old = read(file), read(reference)
    if "seed" not in old and seeds(file.parent) != seeds(reference.parent):
        return [f"  {name}: over all seeds, and those differ: not compared"]
    return list(describe(name, compare_tables(new, old, TABLES[name].key if name in TABLES else (), tolerance)))


def seeds(tables: Path) -> list[int]:
    path = tables / "five_anchor.csv"
    return sorted(set(pd.read_csv(path)["seed"])) if path.exists() else []


def describe(name: str, comparison: Comparison) -> Iterator[str]:
    """Lines about one table, the worst columns first."""
    if comparison.identical:
        yield f"  {name}: identical"
        return
    if comparison.problem:
        yield f"  {name}: differs: {comparison.problem}"
        return
    yield f"  {name}: {'within tolerance' if comparison.within else 'differs'}"
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
