"""Reading a table back: text columns stay text, and only an empty cell is missing (`none` is a refusal class)."""

from pathlib import Path

import pandas as pd
import yaml
from _job import JobError
from _tables import SCHEMAS


def read_table(path: Path) -> pd.DataFrame:
    """The table in `path`, typed by the schema of its name. Raises JobError when it cannot be a table of that name."""
    schema = SCHEMAS / f"{path.stem}.yaml"
    if not schema.exists():
        raise JobError(f"{path}: there is no table {path.stem!r} (workflow/schemas/tables)")
    columns = yaml.safe_load(schema.read_text(encoding="utf-8"))["columns"]
    text = {name: str for name, rule in columns.items() if rule["type"] == "string"}
    try:
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=text)
    except (ValueError, OSError) as error:
        raise JobError(f"{path}: not a table ({error})") from error
    if missing := set(columns) - set(frame.columns):
        raise JobError(f"{path}: columns {sorted(missing)} are missing; run the rule that makes it")
    return frame


def read_tables(paths: list[Path]) -> dict[str, pd.DataFrame]:
    """Tables by name."""
    return {path.stem: read_table(path) for path in paths}
