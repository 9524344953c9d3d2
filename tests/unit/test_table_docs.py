"""docs/tables.md says what the schemas say."""

from pathlib import Path

import table_docs
import yaml

ROOT = Path(__file__).resolve().parents[2]


def test_documentation_is_in_sync():
    text = (ROOT / "docs/tables.md").read_text()
    assert text == table_docs.document(), "run python workflow/scripts/table_docs.py"


def test_every_column_is_described():
    text = (ROOT / "docs/tables.md").read_text()
    for path in (ROOT / "workflow/schemas/tables").glob("*.yaml"):
        part = text.split(f"\n## {path.stem}\n", 1)[1].split("\n## ")[0]
        for column, rule in yaml.safe_load(path.read_text())["columns"].items():
            assert f"| `{column}` | {rule['type']}" in part
            assert rule["description"].strip(), f"{path.stem}.{column} has no description"
