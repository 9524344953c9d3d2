"""What a table is: its columns in order, their kinds and bounds, and what they mean."""

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Column:
    """kind: string, integer, number or boolean; minimum and maximum are included; values: the only ones, if not empty."""

    name: str
    kind: str
    description: str
    minimum: float | None = None
    maximum: float | None = None
    values: tuple[str, ...] = ()
    missing_allowed: bool = False


@dataclass(frozen=True)
class Table:
    """key: columns whose values together are unique; digits: significant ones of a number in the file.

    category and caption (reStructuredText): where a report shows the table, and what it says above it.
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    category: str = ""
    caption: str = ""
    digits: int = 6

    @property
    def names(self) -> list[str]:
        """Of the columns, in order."""
        return names(self.columns)

    @property
    def whole_numbers(self) -> list[str]:
        return [column.name for column in self.columns if column.kind == "integer"]


def names(columns: Iterable[Column]) -> list[str]:
    return [column.name for column in columns]


def text(name: str, description: str, values: Iterable[str] = (), missing: bool = False) -> Column:
    return Column(name, "string", description, values=tuple(values), missing_allowed=missing)


def whole(
    name: str, description: str, minimum: int | None = None, maximum: int | None = None, missing: bool = False
) -> Column:
    """A whole number."""
    return Column(name, "integer", description, minimum, maximum, missing_allowed=missing)


def number(
    name: str, description: str, minimum: float | None = None, maximum: float | None = None, missing: bool = False
) -> Column:
    return Column(name, "number", description, minimum, maximum, missing_allowed=missing)


def share(name: str, description: str, missing: bool = False) -> Column:
    """A number from 0 to 1."""
    return number(name, description, 0, 1, missing)


def flag(name: str, description: str, missing: bool = False) -> Column:
    """True or False."""
    return Column(name, "boolean", description, missing_allowed=missing)


def optional(*columns: Column) -> tuple[Column, ...]:
    """The same columns, of which cells may be empty."""
    return tuple(replace(column, missing_allowed=True) for column in columns)


def interval(column: Column, lower: str = "lower end") -> tuple[Column, ...]:
    """`x`, `x_lo` and `x_hi`: a value and its interval, of which `lower` says what kind it is."""
    ends = ((f"{column.name}_lo", lower), (f"{column.name}_hi", "upper end"))
    return column, *(replace(column, name=name, description=description) for name, description in ends)


def counted(column: Column, lower: str) -> tuple[Column, ...]:
    """`x`, `x_lo`, `x_hi` and `x_n`, the completions behind it."""
    n = whole(f"{column.name}_n", "completions", 0, missing=column.missing_allowed)
    return *interval(column, lower), n
