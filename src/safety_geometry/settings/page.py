"""The reference page of keys (docs/configuration.md) and the JSON schema, both made from the models.

python -m safety_geometry.settings.page --schema            prints the JSON schema of a whole configuration
                                                            (workflow/schemas/config.schema.json)
python -m safety_geometry.settings.page --keys config.yaml  prints the page of keys, with the values of a file beside
                                                            them
"""

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml

from safety_geometry.settings.kinds import Form, Settings, fields, is_mapping, options
from safety_geometry.settings.study import StudySettings

HEAD = """# Keys of the configuration

Made by `python -m safety_geometry.settings.page --keys config.yaml` from the models in \
`src/safety_geometry/settings`; do not edit.
How files are merged, and how an entry is taken away: [howto.md](howto.md). *optional*: may be left out.
"""
KINDS = {
    int: "whole number",
    float: "number",
    str: "text",
    bool: "true or false",
    type(None): "null",
    list: "list",
    dict: "mapping",
}
LONGEST = 48  # letters of a value that is shown


def page(values: Mapping) -> str:
    """The page: a section for each key of a study, with the value of each key in `values`."""
    parts = [HEAD]
    for name, field, kind in fields(StudySettings):
        rows = list(_rows(name, field, kind, values.get(name)))
        model = _model(kind)
        about = model.__doc__ if model is not None else field.description
        parts += [
            f"## {name}\n",
            f"{_text(about)}\n",
            "| key | kind | config.yaml | meaning |\n|---|---|---|---|",
            *rows,
            "",
        ]
    return "\n".join(parts)


def _text(words: str) -> str:
    """Words as they are in Markdown, where <study> would be a tag."""
    return re.sub(r"(`[^`]*`)|<", lambda match: match[1] or "&lt;", words)


def _rows(key: str, field: Any, kind: Any, value: object) -> Iterator[str]:
    model, origins = _model(kind), [get_origin(option) for option in options(kind)]
    shown = "" if model is not None else _value(value)
    left = " *optional*" if not field.is_required() else ""
    cells = (f"`{key}`", words(kind) + left, shown, _text(field.description))
    yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    if model is not None:
        inner = f"{key}.NAME" if dict in origins else f"{key}[]" if list in origins else key
        for name, part, annotation in fields(model):
            below = value.get(name) if isinstance(value, Mapping) and dict not in origins else None
            yield from _rows(f"{inner}.{name}", part, annotation, below)


def _value(value: object) -> str:
    if value is None:
        return ""
    text = json.dumps(value, ensure_ascii=False)
    return f"`{text}`" if len(text) <= LONGEST else "…"


def _model(kind: Any) -> type[Settings] | None:
    """The mapping with known keys that a value is, has by name, or lists."""
    models = (_model(get_args(option)[-1]) if get_args(option) else option for option in options(kind))
    return next(filter(is_mapping, models), None)


def words(kind: Any) -> str:
    """What a value has to be: `list of whole numbers, 1 or more`."""
    if get_origin(kind) is Annotated:
        forms = [one.short for one in get_args(kind)[1:] if isinstance(one, Form)]
        limits = [limit for one in get_args(kind)[1:] for limit in _limits(one)]
        inner = forms[0] if forms else words(get_args(kind)[0])
        return f"{inner} {', '.join(limits)}" if limits and not forms else inner
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(dict.fromkeys(words(part) for part in get_args(kind)))
    if get_origin(kind) is Literal:
        return ", ".join("null" if value is None else f"`{value}`" for value in get_args(kind))
    if get_origin(kind) is list:
        return f"list: {words(get_args(kind)[0])}"
    if get_origin(kind) is dict:
        return f"mapping by name: {words(get_args(kind)[1])}"
    return "mapping" if is_mapping(kind) else KINDS[kind]


def _limits(field: Any) -> Iterator[str]:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    for limit in getattr(field, "metadata", ()):
        for name, sign in signs.items():
            if (bound := getattr(limit, name, None)) is not None and abs(bound) < 10**9:
                yield f"{sign} {bound:g}"


def schema() -> dict:
    """The JSON schema of a whole configuration: config.yaml with what a study says otherwise."""
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "safety-geometry: a whole configuration",
    }
    return head | {key: value for key, value in _any_of(StudySettings.model_json_schema()).items() if key not in head}


def _any_of(part: Any) -> Any:
    """The same with `anyOf` for `oneOf`: to JSON 1.0 is a number and a whole number, two kinds at once."""
    if isinstance(part, list):
        return [_any_of(one) for one in part]
    if not isinstance(part, dict):
        return part
    return {"anyOf" if key == "oneOf" else key: _any_of(value) for key, value in part.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--schema", action="store_true")
    what.add_argument("--keys", type=Path, metavar="CONFIG")
    options = parser.parse_args()
    if options.schema:
        print(json.dumps(schema(), indent=1, ensure_ascii=False))
    else:
        print(page(yaml.safe_load(options.keys.read_text(encoding="utf-8"))), end="")


if __name__ == "__main__":
    main()
