"""Working tables, CSV: columns are named once with their kind; text stays text, and only an empty cell is missing."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from safety_geometry.artefacts.errors import ArtefactError

DTYPES = {
    "text": (str, str),
    "whole": ("int64", "Int64"),
    "number": ("float64", "float64"),
    "flag": ("bool", "boolean"),
}


@dataclass(frozen=True)
class Column:
    """kind: text, whole, number or flag (True, False); `empty`: a cell may be missing."""

    kind: str
    empty: bool = False

    @property
    def dtype(self):
        return DTYPES[self.kind][self.empty]


TEXT, WHOLE, NUMBER, FLAG = (Column(kind) for kind in DTYPES)
TEXT_OR_NONE, WHOLE_OR_NONE, NUMBER_OR_NONE, FLAG_OR_NONE = (Column(kind, True) for kind in DTYPES)


def read_columns(path: Path, columns: Mapping[str, Column]) -> pd.DataFrame:
    """The table in `path`, typed by its columns. Raises ArtefactError with file and column when it cannot be such a table."""
    dtypes = {name: column.dtype for name, column in columns.items()}
    try:
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=dtypes)
    except (ValueError, OSError) as error:
        raise ArtefactError(f"{path}: not a table of its kind ({error}); run the rule that makes it") from error
    if list(frame.columns) != list(columns):
        missing, more = set(columns) - set(frame.columns), set(frame.columns) - set(columns)
        raise ArtefactError(
            f"{path}: columns differ: missing {sorted(missing)}, unexpected {sorted(more)} (or the order); run the rule that"
            " makes it"
        )
    for name, column in columns.items():
        if not column.empty and frame[name].isna().any():
            raise ArtefactError(f"{path}: {name} has an empty cell; run the rule that makes it")
    return frame


def write_columns(frame: pd.DataFrame, columns: Mapping[str, Column], path: Path, digits: int = 6) -> None:
    """Numbers with so many significant digits. Raises ArtefactError when a column is missing."""
    if missing := [name for name in columns if name not in frame]:
        raise ArtefactError(f"{path}: columns {', '.join(missing)} are missing")
    whole = {
        name: column.dtype for name, column in columns.items() if column.kind == "whole"
    }  # as floats, seeds would be rounded
    frame = frame[list(columns)].astype(whole)
    frame.to_csv(path, index=False, float_format=f"%.{digits}g", lineterminator="\n")
