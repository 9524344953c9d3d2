"""docs/tables.md says what the specification says."""

from pathlib import Path

import pytest

from safety_geometry.artefacts.tables.document import document
from safety_geometry.artefacts.tables.registry import FINAL, TABLES, WORKING

TEXT = (Path(__file__).resolve().parents[2] / "docs/tables.md").read_text(encoding="utf-8")


def test_documentation_is_in_sync():
    assert document() == TEXT, "run PYTHONPATH=src python workflow/scripts/table_docs.py"


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_column_is_described(table):
    part = TEXT.split(f"\n## {table.name}\n", 1)[1].split("\n## ")[0]
    assert table.description.strip() and table.description in part
    for column in table.columns:
        assert f"| `{column.name}` | {column.kind}" in part
        assert column.description.strip(), f"{table.name}.{column.name} has no description"


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_specification_is_sound(table):
    assert len(set(table.names)) == len(table.names) and set(table.key) <= set(table.names)
    for column in table.columns:
        assert column.kind in ("string", "integer", "number", "boolean")
        assert not column.values or column.kind == "string"
        assert column.minimum is None or column.maximum is None or column.minimum < column.maximum


def test_what_a_report_shows_has_a_category_and_a_caption():
    assert all(table.category and table.caption for table in FINAL.values())
    assert not any(table.category or table.caption for table in WORKING.values())
