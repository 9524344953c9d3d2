"""The configuration against its schema, with messages for people: which key, what stands there, and what to do."""

import difflib
import functools
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from strict_yaml import Loader

KINDS = {
    "integer": "a whole number", "number": "a number", "string": "text", "boolean": "true or false",
    "array": "a list", "object": "a mapping of keys to values", "null": "null",
}  # fmt: skip
FORMS = {"count": "a whole number", "natural": "a whole number", "name": "a name", "path": "the name of a file"}
SHOWN = 10
LARGEST, LONGEST = 2**63 - 1, 1e30  # a whole number of 64 bits; what float32 can still be multiplied with
STEPS = re.compile(r"checkpoints\.[^.]+\.steps")  # the one mapping whose keys are numbers


def check(config: Mapping, schema: Path) -> None:
    """End the start of the workflow with one line per fault: key, value and fix.

    Raises:
        SystemExit: the configuration does not fit the schema.
    """
    # What no schema can say comes first: the schema's own rules need names that are text and numbers that are numbers.
    lines = list(unusable(config, "", ()))
    if not lines:
        found = sorted(_validator(schema).iter_errors(config), key=lambda e: [str(part) for part in e.absolute_path])
        lines = [line for error in found for line in explain(error)]
    lines = [f"config error: {line}" for line in dict.fromkeys(lines)]
    if lines:
        more = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        raise SystemExit("\n".join([*lines[:SHOWN], *more]))


@functools.cache
def _validator(schema: Path) -> Draft202012Validator:
    """2.0 is no whole number to it: it would stand in a file's name, or count nothing."""
    whole = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    text = schema.read_text(encoding="utf-8")
    return extend(Draft202012Validator, type_checker=whole)(yaml.load(text, Loader))


def unusable(value: object, key: str, above: tuple[int, ...]) -> Iterator[str]:
    """`key = value: what to do` for every value below `key` that no setting can have. `above`: ids of what it stands in."""
    if isinstance(value, Mapping | list):
        if id(value) in above:
            yield f"{key} holds itself; write its values out"
            return
        above = (*above, id(value))
    match value:
        case Mapping():
            for name, inner in value.items():
                if not isinstance(name, str) and not (type(name) is int and STEPS.fullmatch(key)):
                    yield (
                        f"{_join(key, name)} = {_show(inner)}: the name of a key has to be text, and YAML reads this one as"
                        f" {name!r} (as it reads yes, no, on, off, null and 7); call it something else"
                    )
                else:
                    yield from unusable(inner, _join(key, name), above)
        case list():
            for number, inner in enumerate(value):
                yield from unusable(inner, f"{key}[{number}]", above)
        case bool() | None:
            pass
        case float():
            if not math.isfinite(value):
                yield f"{key} = {value!r}: has to be a finite number"
            elif abs(value) > LONGEST:
                yield f"{key} = {value!r}: is too large for a number"
        case int():
            if abs(value) > LARGEST:
                yield f"{key} = {_show(value)}: is too large for a number"
        case str():
            if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
                yield f"{key} = {_show(value)}: has letters that no text has (NUL, or half of a pair); take them out"
        case _:
            yield f"{key} = {value!s}: YAML reads this as {type(value).__name__}; write it in quotes"


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
    elif rule in ("anyOf", "oneOf") and (inner := _of_its_form(error)):
        for one in inner:
            yield from explain(one)
    else:
        yield f"{where} = {_show(value)}: {_fix(rule, limit, value, error)}"


def _of_its_form(error: ValidationError) -> list[ValidationError]:
    """What is wrong with a value that has one of several forms, where its own form can be told: the type fits."""
    other = {
        one.schema_path[0]
        for one in error.context
        if one.validator in ("type", "enum", "const") and len(one.relative_path) == 0
    }
    return [one for one in error.context if one.schema_path[0] not in other]


def _fix(rule: str, limit: object, value: object, error: ValidationError) -> str:
    match rule:
        case "type":
            kinds = [limit] if isinstance(limit, str) else limit
            return f"has to be {' or '.join(KINDS[k] for k in kinds)}{_meant(kinds, value)}"
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
            described = error.schema.get("description")
            return f"has to be {described}" if described else f"has to fit the pattern {limit}"
        case "maxItems":
            return f"lists more than {limit}; take some out"
        case "anyOf" | "oneOf":
            options = [" or ".join(_option(choice)) for choice in limit]
            return f"has to be {' or '.join(options)}{_meant(_kinds(limit), value)}"
    return error.message


def _kinds(choices: list[dict]) -> list[str]:
    """JSON's types among several forms."""
    refs = {"a whole number": "integer", "a name": "string", "the name of a file": "string"}
    return [
        choice["type"] if "type" in choice else refs.get(option, "string")
        for choice in choices
        for option in _option(choice)[:1]
    ]


def _option(choice: dict) -> list[str]:
    if "const" in choice:
        return [str(choice["const"])]
    if "enum" in choice:
        return [str(v) for v in choice["enum"]]
    if "$ref" in choice:
        return [FORMS[choice["$ref"].split("/")[-1]]]
    return [KINDS[choice["type"]]]


def _meant(kinds: list[str], value: object) -> str:
    """What to write for a number that YAML takes for text (1e-3) or for a broken one (2.0), and for text that it takes for a truth."""
    if isinstance(value, bool):
        taken = " (YAML reads yes, no, on, off, true and false as true or false; write it in quotes)"
        return taken if "string" in kinds else ""
    if not {"number", "integer"} & set(kinds) or not isinstance(value, str | float):
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    if not math.isfinite(number) or ("number" not in kinds and not number.is_integer()):
        return ""
    write = int(number) if "number" not in kinds else number
    return f" (YAML takes it for text; write {write!r})" if isinstance(value, str) else f"; write {write!r}"


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
