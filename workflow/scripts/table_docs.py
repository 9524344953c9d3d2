"""Write docs/tables.md from the table schemas: every table and column with what it means. `--check` only compares."""

import argparse
import sys
from pathlib import Path

import yaml
from _tables import SCHEMAS

ROOT = Path(__file__).parents[2]
HEAD = """# Tables

Made from `workflow/schemas/tables` by `python workflow/scripts/table_docs.py`; do not edit by hand. Tables are CSV, numbers have six
significant digits, and a missing value is an empty cell. `anchor` is `reference` or a step, and empty at saves that are no anchor.
"""


def document() -> str:
    schemas = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(SCHEMAS.glob("*.yaml"))}
    links = " · ".join(f"[{name}](#{name})" for name in schemas)
    return "\n".join([HEAD, links, *(section(name, schema) for name, schema in schemas.items())]) + "\n"


def section(name: str, schema: dict) -> str:
    lines = [f"\n## {name}\n", schema["description"]]
    if "key" in schema:
        lines.append(f"\nOne row per {', '.join(f'`{column}`' for column in schema['key'])}.")
    lines += ["\n| column | type | meaning |", "|---|---|---|"]
    lines += [
        f"| `{column}` | {kind(rule)} | {cell(rule['description'])} |" for column, rule in schema["columns"].items()
    ]
    return "\n".join(lines)


def kind(rule: dict) -> str:
    words = [rule["type"]]
    if "enum" in rule:
        words.append("one of " + ", ".join(f"`{value}`" for value in rule["enum"]))
    elif "min" in rule and "max" in rule:
        words.append(f"{rule['min']} to {rule['max']}")
    elif "min" in rule:
        words.append(f"≥ {rule['min']}")
    elif "max" in rule:
        words.append(f"≤ {rule['max']}")
    if rule.get("nullable"):
        words.append("may be empty")
    return ", ".join(words)


def cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ").strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, default=ROOT / "docs" / "tables.md", metavar="FILE")
    parser.add_argument("--check", action="store_true", help="exit with 1 when the file is not up to date")
    arguments = parser.parse_args()
    if arguments.check:
        if not arguments.file.exists() or arguments.file.read_text(encoding="utf-8") != document():
            sys.exit(f"{arguments.file} is not up to date; run python workflow/scripts/table_docs.py")
    else:
        arguments.file.write_text(document(), encoding="utf-8")


if __name__ == "__main__":
    main()
