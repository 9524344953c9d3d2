"""Compare the tables of a run with reference tables: what differs, where, and by how much.

Exit status 0: every table is identical, or every difference is within the tolerance, the reference's printed interval or
the range of the reference's seeds.
1: a table, row or cell is not, or there is nothing to compare with. Timings are in no table and are not compared.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from safety_geometry.artefacts.tables.registry import TABLES
from safety_geometry.claims.verify import Comparison, compare_tables

SHOWN = 12


def describe(name: str, found: Comparison) -> list[str]:
    """Lines about one table, the worst columns first."""
    if found.identical:
        return [f"  {name}: identical"]
    if found.problem:
        return [f"  {name}: DIFFERS: {found.problem}"]
    lines = [f"  {name}: {'within tolerance' if found.within else 'DIFFERS'}"]
    for rows, which in ((found.missing, "only in the reference"), (found.extra, "only in this run")):
        if rows:
            lines.append(f"      {len(rows)} rows {which}: {', '.join(rows[:3])}{' …' if len(rows) > 3 else ''}")
    for c in sorted(found.columns, key=lambda c: -c.outside)[:SHOWN]:
        size = "text" if c.largest != c.largest else f"largest difference {c.largest:.3g}"
        lines.append(
            f"      {c.name}: {c.differing} of {c.n} cells differ, {c.outside} beyond tolerance; {size} at {c.where}"
        )
    if len(found.columns) > SHOWN:
        lines.append(f"      … and {len(found.columns) - SHOWN} more columns")
    if not (found.columns or found.missing or found.extra):
        lines.append("      the rows stand in another order")
    return lines


def seeds(tables: Path) -> list[int]:
    path = tables / "five_anchor.csv"
    return sorted(set(pd.read_csv(path)["seed"])) if path.exists() else []


def verify(results: Path, reference: Path, tolerance: float) -> tuple[list[str], bool]:
    """The report, and whether everything is within tolerance."""
    wanted = sorted(reference.glob("*.csv")) if reference.is_dir() else []
    if not wanted:
        return [f"no reference tables in {reference}; run `make reference` on a run that you trust"], False
    if not results.is_dir():
        return [f"no tables in {results}; run the study first (`make run`)"], False
    lines, good = [], True
    for path in wanted:
        mine = results / path.name
        if not mine.exists():
            lines.append(f"  {path.stem}: MISSING: this run has no {mine}")
            good = False
            continue
        if mine.read_bytes() == path.read_bytes():
            lines.append(f"  {path.stem}: identical")
            continue
        key = TABLES[path.stem].key if path.stem in TABLES else ()
        new, old = (pd.read_csv(p, keep_default_na=False, na_values=[""]) for p in (mine, path))
        if "seed" not in old and seeds(results) != seeds(reference):
            lines.append(f"  {path.stem}: over all seeds, and those differ: not compared")
            continue
        found = compare_tables(new, old, key, tolerance)
        lines += describe(path.stem, found)
        good &= found.within
    extra = sorted(p.stem for p in results.glob("*.csv") if not (reference / p.name).exists())
    if extra:
        lines.append(f"  not in the reference, not compared: {', '.join(extra)}")
    return lines, good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="tables of the run")
    parser.add_argument("--reference", type=Path, default=Path("docs/results/tables"), help="tables to compare with")
    parser.add_argument("--tolerance", type=float, default=0.01, help="relative difference that is let pass")
    arguments = parser.parse_args()
    lines, good = verify(arguments.results, arguments.reference, arguments.tolerance)
    print(f"{arguments.results} against {arguments.reference}:")
    print("\n".join(lines))
    print("all within tolerance" if good else "not all within tolerance")
    sys.exit(not good)


if __name__ == "__main__":
    main()
