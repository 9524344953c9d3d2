"""How far a table is from a reference table: which rows and columns differ, by how much, and whether that matters."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

ABSOLUTE = 1e-6


@dataclass(frozen=True)
class Column:
    """Differences of one column: `differing` of `n` cells, of which `outside` are beyond tolerance and reference
    interval.

    `largest` is the largest absolute difference of two numbers (NaN in a column of text), `where` the key of that cell.
    """

    name: str
    n: int
    differing: int
    outside: int
    largest: float
    where: str


@dataclass(frozen=True)
class Comparison:
    """`missing` and `extra` rows are keys that only the reference, or only the new table, has."""

    identical: bool
    columns: list[Column] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    problem: str = ""

    @property
    def within(self) -> bool:
        return not (self.problem or self.missing or self.extra or any(column.outside for column in self.columns))


def interval_of(column: str, columns: Sequence[str]) -> tuple[str, str] | None:
    """Names of a column's interval: `x_lo` and `x_hi`, or `lo` and `hi` for `value`."""
    lo, hi = ("lo", "hi") if column == "value" else (f"{column}_lo", f"{column}_hi")
    return (lo, hi) if lo in columns and hi in columns else None


def compare_tables(
    new: pd.DataFrame, reference: pd.DataFrame, key: Sequence[str], tolerance: float = 0.01
) -> Comparison:
    """New table against the reference, rows matched by `key` (by place where it is empty).

    A number may differ by 1e-6 + tolerance × the larger magnitude, lie inside the interval that the reference prints
    for it, or, where the reference has several seeds, between the least and the largest of them. The ends of an
    interval are reported, but only their value decides. Text has to be equal. Seeds that the new table does not have
    are left out.
    """
    if list(new.columns) != list(reference.columns):
        odd = sorted(set(new.columns) ^ set(reference.columns))
        return Comparison(False, problem=f"columns differ: {', '.join(odd) or 'their order'}")
    low, high = over_seeds(reference, key)
    if "seed" in key:
        shared = reference["seed"].isin(new["seed"])
        reference, low, high = (frame[shared] for frame in (reference, low, high))
    new, reference, low, high = (indexed(frame, key) for frame in (new, reference, low, high))
    for name, frame in (("this table", new), ("the reference", reference)):
        if frame.index.has_duplicates:
            return Comparison(False, problem=f"rows of {name} are not unique in {', '.join(key)}")
    missing = [label(k) for k in reference.index.difference(new.index, sort=False)]
    extra = [label(k) for k in new.index.difference(reference.index, sort=False)]
    common = reference.index.intersection(new.index, sort=False)
    frames = [frame.loc[common] for frame in (new, reference, low, high)]
    columns = [column for name in reference if (column := compare_column(name, *frames, tolerance))]
    same = not (columns or missing or extra) and list(new.index) == list(reference.index)
    return Comparison(same, columns, missing, extra)


def over_seeds(reference: pd.DataFrame, key: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table with the least and with the largest value over the seeds in each row; NaN for text outside the key."""
    values = reference.drop(columns=list(key)).apply(pd.to_numeric, errors="coerce")
    rest = [reference[k] for k in key if k != "seed"] or [pd.Series(0, index=reference.index)]
    groups = values.groupby(rest, dropna=False) if "seed" in key else values.groupby(np.arange(len(values)))
    ends = (groups.transform("min"), groups.transform("max"))
    return tuple(reference[list(key)].join(end)[list(reference.columns)] for end in ends)


def compare_column(
    name: str, new: pd.DataFrame, reference: pd.DataFrame, low: pd.DataFrame, high: pd.DataFrame, tolerance: float
) -> Column | None:
    """Differences of one column in rows already matched; None where there are none. Between `low` and `high` all
    passes."""
    a, b = new[name], reference[name]
    both_empty = (a.isna() & b.isna()).to_numpy()
    numbers = [pd.to_numeric(v.astype(str).where(v.notna()), errors="coerce") for v in (a, b)]
    if all(x.notna().equals(v.notna()) for x, v in zip(numbers, (a, b), strict=True)):
        x, y = (v.to_numpy(float) for v in numbers)
        gap = np.abs(x - y)
        differs = ~both_empty & ~(x == y)
        allowed = gap <= ABSOLUTE + tolerance * np.maximum(np.abs(x), np.abs(y))
        if (ends := interval_of(name, list(reference.columns))) is not None:
            lo, hi = (pd.to_numeric(reference[e], errors="coerce").to_numpy(float) for e in ends)
            allowed |= (x >= lo - ABSOLUTE) & (x <= hi + ABSOLUTE)
        allowed |= (x >= low[name].to_numpy(float)) & (x <= high[name].to_numpy(float))
        is_end = any(name in (interval_of(column, list(reference.columns)) or ()) for column in reference)
        outside = differs & ~(allowed | (is_end & ~np.isnan(gap)))
        measured = np.where(differs & ~np.isnan(gap), gap, -1.0)
        largest = float(measured.max()) if (measured >= 0).any() else float("nan")
        place = int(measured.argmax()) if (measured >= 0).any() else int(differs.argmax()) if len(differs) else 0
    else:
        differs = ~both_empty & (a.astype(str).to_numpy() != b.astype(str).to_numpy())
        outside, largest, place = differs, float("nan"), int(differs.argmax()) if len(differs) else 0
    if not differs.any():
        return None
    return Column(name, len(a), int(differs.sum()), int(outside.sum()), largest, label(a.index[place]))


def indexed(frame: pd.DataFrame, key: Sequence[str]) -> pd.DataFrame:
    return frame.set_index(list(key)) if key else frame


def label(key: object) -> str:
    return "/".join(map(str, key)) if isinstance(key, tuple) else str(key)
