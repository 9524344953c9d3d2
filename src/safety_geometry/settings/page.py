"""The reference page of keys (docs/configuration.md) and the JSON schema, both made from the models.

python -m safety_geometry.settings.page --schema            prints the JSON schema of a whole configuration
python -m safety_geometry.settings.page --keys config.yaml  prints the page of keys, with the values of a file beside
                                                            them
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from safety_geometry.settings.kinds import Form, Settings
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
        parts += [f"## {name}\n", f"{about}\n", "| key | kind | config.yaml | meaning |\n|---|---|---|---|", *rows, ""]
    return "\n".join(parts)


def fields(model: type[Settings]) -> Iterator[tuple[str, Any, Any]]:
    """(key, pydantic's field, annotation) of every key of a mapping."""
    hints = get_type_hints(model, include_extras=True)
    for name, field in model.model_fields.items():
        yield field.alias or name, field, hints[name]


def _rows(key: str, field: Any, kind: Any, value: object) -> Iterator[str]:
    model, named = _model(kind), get_origin(_bare(kind)) is dict
    shown = "" if model is not None else _value(value)
    left = " *optional*" if not field.is_required() else ""
    cells = (f"`{key}`", words(kind) + left, shown, field.description)
    yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    if model is not None:
        inner = f"{key}.NAME" if named else f"{key}[]" if get_origin(_bare(kind)) is list else key
        for name, part, annotation in fields(model):
            below = value.get(name) if isinstance(value, Mapping) and not named else None
            yield from _rows(f"{inner}.{name}", part, annotation, below)


def _value(value: object) -> str:
    if value is None:
        return ""
    text = json.dumps(value, ensure_ascii=False)
    return f"`{text}`" if len(text) <= LONGEST else "…"


def _bare(kind: Any) -> Any:
    """Without what is annotated, and without null."""
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        parts = [part for part in get_args(kind) if part is not type(None)]
        return _bare(parts[0]) if len(parts) == 1 else kind
    return kind


def _model(kind: Any) -> type[Settings] | None:
    """The mapping with known keys that a value is, has by name, or lists."""
    kind = _bare(kind)
    if get_origin(kind) in (dict, list):
        return _model(get_args(kind)[-1])
    if get_origin(kind) in (Union, UnionType):
        return next((model for part in get_args(kind) if (model := _model(part)) is not None), None)
    return kind if isinstance(kind, type) and issubclass(kind, Settings) else None


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
    return "mapping" if issubclass(kind, Settings) else KINDS[kind]


def _limits(field: Any) -> Iterator[str]:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    for limit in getattr(field, "metadata", ()):
        for name, sign in signs.items():
            if (bound := getattr(limit, name, None)) is not None and abs(bound) < 10**9:
                yield f"{sign} {bound:g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--schema", action="store_true")
    what.add_argument("--keys", type=Path, metavar="CONFIG")
    options = parser.parse_args()
    if options.schema:
        print(json.dumps(StudySettings.model_json_schema(), indent=1))
    else:
        print(page(yaml.safe_load(options.keys.read_text(encoding="utf-8"))), end="")


if __name__ == "__main__":
    main()
