"""Tables as CSV files, typed and checked by their specification.

Only an empty cell is missing (`none` is a refusal class). A column's type in memory follows from its specification, never
from what stands in it: text stays text, and whole numbers and flags that may be missing are `Int64` and `boolean`.
"""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from safety_geometry.artefacts.errors import ArtefactError
from safety_geometry.artefacts.tables.registry import TABLES
from safety_geometry.artefacts.tables.specification import Column, Table

KINDS = {
    "string": lambda s: s.map(lambda v: isinstance(v, str)),
    "integer": lambda s: pd.to_numeric(s, errors="coerce").mod(1).eq(0),
    "number": lambda s: pd.to_numeric(s, errors="coerce").notna(),
    "boolean": lambda s: s.map(lambda v: str(v) in ("True", "False")),
}
# In memory: of a column that has to be full, and of one that may have empty cells.
DTYPES = {
    "string": (str, str),
    "integer": ("int64", "Int64"),
    "number": ("float64", "float64"),
    "boolean": ("bool", "boolean"),
}
SLACK = 1e-6  # beyond a bound: rounding


class TableError(ArtefactError):
    """A table, or a file, does not fit its specification. Says which column, and what is wrong with it."""


def table_of(path: Path) -> Table:
    """The table that a file is by its name. Raises TableError where there is no such table."""
    if path.stem not in TABLES:
        raise TableError(f"{path}: there is no table {path.stem!r} (safety_geometry.artefacts.tables)")
    return TABLES[path.stem]


def _types(table: Table) -> dict[str, type | str]:
    return {column.name: DTYPES[column.kind][column.missing_allowed] for column in table.columns}


def read_table(path: Path, table: Table | None = None) -> pd.DataFrame:
    """The table in `path`, typed; which one its name says, unless `table` does.

    Raises TableError when the file is no such table, or does not fit it.
    """
    table = table or table_of(path)
    try:
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=_types(table))
    except (ValueError, OSError) as error:
        raise TableError(f"{path}: not a table ({error}); run the rule that makes it") from error
    if missing := [name for name in table.names if name not in frame]:
        raise TableError(f"{path}: columns {missing} are missing; run the rule that makes it")
    try:
        check_table(frame, table)
    except TableError as error:
        raise TableError(f"{path}: {error}; run the rule that makes it") from error
    return frame


def check_table(frame: pd.DataFrame, table: Table) -> None:
    """Raise TableError unless `frame` has exactly the columns of `table`, of the right kind and range, and a unique key."""
    if list(frame.columns) != table.names:
        missing, extra = set(table.names) - set(frame.columns), set(frame.columns) - set(table.names)
        raise TableError(
            f"{table.name}: columns differ: missing {sorted(missing)}, unexpected {sorted(extra)} (or the order)"
        )
    for column in table.columns:
        _check_column(frame[column.name], column, f"{table.name}.{column.name}")
    if table.key and frame.duplicated(list(table.key)).any():
        raise TableError(f"{table.name}: rows are not unique in {list(table.key)}")


def _check_column(values: pd.Series, column: Column, name: str) -> None:
    present = values[values.notna()]
    if len(present) < len(values) and not column.missing_allowed:
        raise TableError(f"{name}: {len(values) - len(present)} empty cells in a column that has to be full")
    bad = present[~KINDS[column.kind](present).astype(bool)]
    if bad.empty and (column.minimum is not None or column.maximum is not None):
        numbers = pd.to_numeric(present)
        below = False if column.minimum is None else numbers < column.minimum - SLACK
        above = False if column.maximum is None else numbers > column.maximum + SLACK
        bad = present[below | above]
    if bad.empty and column.values:  # noqa: PD011
        bad = present[~present.isin(column.values)]
    if not bad.empty:
        raise TableError(f"{name}: {bad.iloc[0]!r} is not a valid {column.kind} ({column})")


def frame_of(rows: Iterable[Mapping], table: Table) -> pd.DataFrame:
    """Rows as a frame, typed by their table; what a row does not have is missing. A whole number is never a float between."""
    rows = list(rows)
    columns = {column.name: pd.Series([row.get(column.name) for row in rows], dtype=object) for column in table.columns}
    return pd.DataFrame(columns).astype(_types(table))


def write_table(frame: pd.DataFrame, path: Path, table: Table | None = None) -> None:
    """CSV with the table's number of significant digits, an empty cell for a missing value; lines end with LF.

    Raises TableError, and writes nothing, when the frame does not fit.
    """
    table = table or table_of(path)
    check_table(frame, table)
    number = f"%.{table.digits}g"
    frame.to_csv(path, index=False, float_format=number, quoting=csv.QUOTE_MINIMAL, lineterminator="\n")
