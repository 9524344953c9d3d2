"""Every table and column in words: the text of docs/tables.md."""

from collections.abc import Iterable

from safety_geometry.artefacts.tables.registry import FINAL, WORKING
from safety_geometry.artefacts.tables.specification import Column, Table

HEAD = """# Tables

Made from `src/safety_geometry/artefacts/tables` by `PYTHONPATH=src python workflow/scripts/table_docs.py`; do not edit by hand. Tables are
CSV, numbers have six significant digits, and a missing value is an empty cell. `anchor` is `reference` or a step, and empty
at saves that are no anchor.
"""
WITHIN = """
# Tables within a run

What the tables above are made from, below `results/<study>/seed*`. A regime's own `coupling`, `geometry`,
`coupling_controls` and `profile`, a segment's `training` and the trained judges' `judges` have the columns of the tables of
these names.
"""


def document() -> str:
    sections = [section(table) for table in _sorted(FINAL.values())]
    within = [section(table) for table in _sorted(WORKING.values())]
    return "\n".join([HEAD, _links(FINAL), *sections, WITHIN, _links(WORKING), *within]) + "\n"


def _sorted(tables: Iterable[Table]) -> list[Table]:
    return sorted(tables, key=lambda table: table.name)


def _links(names: Iterable[str]) -> str:
    return " · ".join(f"[{name}](#{name})" for name in sorted(names))


def section(table: Table) -> str:
    lines = [f"\n## {table.name}\n", table.description]
    if table.digits != 6:
        lines.append(f"Numbers have {table.digits} significant digits.")
    if table.key:
        lines.append(f"\nOne row per {', '.join(f'`{column}`' for column in table.key)}.")
    lines += ["\n| column | type | meaning |", "|---|---|---|"]
    lines += [f"| `{column.name}` | {kind(column)} | {cell(column.description)} |" for column in table.columns]
    return "\n".join(lines)


def kind(column: Column) -> str:
    words = [column.kind]
    if column.values:
        words.append("one of " + ", ".join(f"`{value}`" for value in column.values))
    elif column.minimum is not None and column.maximum is not None:
        words.append(f"{column.minimum} to {column.maximum}")
    elif column.minimum is not None:
        words.append(f"≥ {column.minimum}")
    elif column.maximum is not None:
        words.append(f"≤ {column.maximum}")
    if column.missing_allowed:
        words.append("may be empty")
    return ", ".join(words)


def cell(text: str) -> str:
    return text.replace("|", "\\|")
