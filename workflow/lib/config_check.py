"""The configuration against its schema, with messages for people: which key, what stands there, and what to do."""

import difflib
from collections.abc import Iterator
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

KINDS = {
    "integer": "a whole number", "number": "a number", "string": "text", "boolean": "true or false",
    "array": "a list", "object": "a mapping of keys to values", "null": "null",
}  # fmt: skip
SHOWN = 10


def check(config: dict, schema: Path) -> None:
    """End the start of the workflow with one line per fault: key, value and fix.

    Raises:
        SystemExit: the configuration does not fit the schema.
    """
    validator = Draft202012Validator(yaml.safe_load(schema.read_text(encoding="utf-8")))
    found = sorted(validator.iter_errors(config), key=lambda error: [str(part) for part in error.absolute_path])
    lines = list(dict.fromkeys(f"config error: {line}" for error in found for line in explain(error)))
    if lines:
        more = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        raise SystemExit("\n".join([*lines[:SHOWN], *more]))


def explain(error: ValidationError) -> Iterator[str]:
    """`key = value: what to do`, once per faulty key of the error."""
    rule, limit, value, where = error.validator, error.validator_value, error.instance, _key(error)
    if rule == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        for name in sorted(set(value) - set(known)):
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else f"the keys here are {', '.join(known)}"
            yield f"{_join(where, name)} = {_show(value[name])}: there is no such key; {hint}"
    elif rule == "required":
        for name in [n for n in limit if n not in value]:
            yield f"{_join(where, name)} is missing: add it; config.yaml shows every key and says what it does"
    else:
        yield f"{where} = {_show(value)}: {_fix(rule, limit, value, error)}"


def _fix(rule: str, limit: object, value: object, error: ValidationError) -> str:
    match rule:
        case "type":
            kinds = [limit] if isinstance(limit, str) else limit
            return f"has to be {' or '.join(KINDS[k] for k in kinds)}{_number_in_text(kinds, value)}"
        case "minimum":
            return f"has to be at least {limit}"
        case "exclusiveMinimum":
            return f"has to be above {limit}"
        case "maximum":
            return f"has to be at most {limit}"
        case "exclusiveMaximum":
            return f"has to be below {limit}"
        case "enum":
            return f"has to be one of {', '.join(map(str, limit))}"
        case "const":
            return f"has to be {limit}"
        case "uniqueItems":
            return "lists something twice; keep each once"
        case "minItems" | "minLength" | "minProperties":
            return "must not be empty"
        case "contains":
            return f"has to contain {limit.get('const', limit)}"
        case "pattern":
            return f"has to fit the pattern {limit}"
        case "anyOf":
            options = [" or ".join(_option(choice)) for choice in limit]
            return f"has to be {' or '.join(options)}"
    return error.message


def _option(choice: dict) -> list[str]:
    if "const" in choice:
        return [str(choice["const"])]
    if "enum" in choice:
        return [str(v) for v in choice["enum"]]
    return [KINDS.get(choice.get("type"), "another form")]


def _number_in_text(kinds: list[str], value: object) -> str:
    """YAML reads 1e-3 as text."""
    if {"number", "integer"} & set(kinds) and isinstance(value, str):
        try:
            return f" (YAML takes it for text; write {float(value)!r})"
        except ValueError:
            pass
    return ""


def _key(error: ValidationError) -> str:
    key = ""
    for part in error.absolute_path:
        key = f"{key}[{part}]" if isinstance(part, int) else _join(key, part)
    return key or "the configuration"


def _join(where: str, name: str) -> str:
    return str(name) if where in ("", "the configuration") else f"{where}.{name}"


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
