"""Tables against their schemas: workflow/schemas/tables/<table>.yaml lists the columns, in order."""

from pathlib import Path

import pandas as pd
import yaml

SCHEMAS = Path(__file__).parents[1] / "schemas" / "tables"
KINDS = {
    "string": lambda s: s.map(lambda v: isinstance(v, str)),
    "integer": lambda s: pd.to_numeric(s, errors="coerce").mod(1).eq(0),
    "number": lambda s: pd.to_numeric(s, errors="coerce").notna(),
    "boolean": lambda s: s.map(lambda v: str(v) in ("True", "False")),
}


class TableError(ValueError):
    """A table does not fit its schema."""


def check_table(frame: pd.DataFrame, table: str) -> None:
    """Raise TableError unless `frame` has exactly the columns of the schema, of the right kind and range.

    A schema has `description`, `columns: {name: {type, description, [min], [max], [enum], [nullable]}}` and optionally
    `key: [columns]`, whose values must be unique.
    """
    schema = yaml.safe_load((SCHEMAS / f"{table}.yaml").read_text(encoding="utf-8"))
    columns = schema["columns"]
    if list(frame.columns) != list(columns):
        missing, extra = set(columns) - set(frame.columns), set(frame.columns) - set(columns)
        raise TableError(
            f"{table}: columns differ: missing {sorted(missing)}, unexpected {sorted(extra)} (or the order)"
        )
    for name, rule in columns.items():
        values = frame[name]
        present = values[values.notna()]
        if len(present) < len(values) and not rule.get("nullable", False):
            raise TableError(
                f"{table}.{name}: {len(values) - len(present)} empty cells in a column that has to be full"
            )
        bad = present[~KINDS[rule["type"]](present).astype(bool)]
        if rule["type"] in ("integer", "number") and bad.empty:
            numbers = pd.to_numeric(present)
            slack = 1e-6
            bad = present[
                (numbers < rule.get("min", -float("inf")) - slack) | (numbers > rule.get("max", float("inf")) + slack)
            ]
        if "enum" in rule and bad.empty:
            bad = present[~present.isin(rule["enum"])]
        if not bad.empty:
            raise TableError(f"{table}.{name}: {bad.iloc[0]!r} is not a valid {rule['type']} ({rule})")
    if "key" in schema and frame.duplicated(schema["key"]).any():
        raise TableError(f"{table}: rows are not unique in {schema['key']}")
