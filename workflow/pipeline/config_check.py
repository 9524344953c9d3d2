"""The configuration against its models, with messages for people: which key, what stands there, and what to do."""

import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError

from safety_geometry.settings.kinds import Form, fields, is_mapping, is_tag, options
from safety_geometry.settings.study import StudySettings

KINDS = {
    int: "a whole number", float: "a number", str: "text", bool: "true or false", list: "a list",
    dict: "a mapping of keys to values", NoneType: "null",
}  # fmt: skip
BOUNDS = {
    "greater_than_equal": ("at least", "ge"), "greater_than": ("above", "gt"), "less_than_equal": ("at most", "le"),
    "less_than": ("below", "lt"),
}  # fmt: skip
SHOWN = 10
LARGEST, LONGEST = 2**63 - 1, 1e30  # a whole number of 64 bits; what float32 can still be multiplied with
STEPS = re.compile(r"checkpoints\.[^.]+\.steps")  # the one mapping whose keys are numbers
WHOLE = "the configuration"


class ConfigError(SystemExit):
    """Ends the start of the workflow: names the key, its value and what to do. `faults`: (key, sentence) of several."""

    def __init__(self, key: str = "", value: object = None, fix: str = "", faults: Sequence[tuple[str, str]] = ()):
        self.faults = faults or [(key, f"{key} = {value!r}: {fix}")]
        lines = [f"config error: {sentence}" for sentence in dict.fromkeys(sentence for _, sentence in self.faults)]
        more = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        super().__init__("\n".join([*lines[:SHOWN], *more]))


def check(config: Mapping) -> None:
    """Raises ConfigError with every value that does not fit: key, value and fix."""
    # What no model can say comes first: names that are text, and numbers that are numbers.
    faults = [(sentence.split(" = ")[0], sentence) for sentence in unusable(config, "", ())]
    if not faults:
        try:
            StudySettings.model_validate(config)
        except ValidationError as error:
            faults = [fault for one in error.errors(include_url=False) for fault in explain(one)]
    if faults:
        raise ConfigError(faults=sorted(faults))


def unusable(value: object, key: str, above: tuple[int, ...]) -> Iterator[str]:
    """`key = value: what to do` for every value below `key` that no setting can have. `above`: ids of what it stands
    in."""
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
                        f"{_join(key, name)} = {_show(inner)}: the name of a key has to be text, and YAML reads this"
                        f" one as {name!r} (as it reads yes, no, on, off, null and 7); call it something else"
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


def explain(error: Mapping) -> Iterator[tuple[str, str]]:
    """(key, `key = value: what to do`) of one of pydantic's errors; several where several keys are missing."""
    rule, value, limits = error["type"], error["input"], error.get("ctx", {})
    place = tuple(part for part in error["loc"] if not is_tag(part))
    if rule == "missing" or rule == "lacking":
        names = limits.get("names", place[-1:])
        where = _key(place[:-1] if rule == "missing" else place)
        for name in names:
            missing = _join(where, name)
            yield missing, f"{missing} is missing: add it; config.yaml shows every key and says what it does"
        return
    kind = kind_at(place)
    if place[-1:] == ("[key]",):  # the fault is in a name
        place = place[:-2]
    key = _key(place)
    if rule == "extra_forbidden":
        models = filter(is_mapping, options(kind_at(place[:-1])))
        known = sorted(key for model in models for key, _, _ in fields(model))
        close = difflib.get_close_matches(place[-1], known, 1)
        hint = f"did you mean {close[0]}?" if close else f"the keys here are {', '.join(known)}"
        fix = f"there is no such key; {hint}"
    elif rule == "refused":
        key, value, fix = _join(key, limits["name"]), limits["value"], limits["fix"]
    else:
        fix = _fix(rule, limits, kind, value) or error["msg"]
    yield key, f"{key} = {_show(value)}: {fix}"


def _fix(rule: str, limits: Mapping, kind: Any, value: object) -> str | None:
    if rule in BOUNDS:
        words, name = BOUNDS[rule]
        limit = limits[name]
        return f"has to be {words} {int(limit) if limit == int(limit) else limit}"
    if rule in ("too_short", "string_too_short"):
        return "must not be empty"
    if rule == "too_long":
        return f"lists more than {limits['max_length']}; take some out"
    if rule == "string_pattern_mismatch":
        return f"has to be {next(form.words for form in _metadata(kind, Form))}"
    if rule == "literal_error" and get_origin(kind) is Literal and len(get_args(kind)) > 1:
        return f"has to be one of {', '.join(map(str, get_args(kind)))}"
    if rule.endswith("_type") or rule in ("literal_error", "union_tag_invalid", "union_tag_not_found"):
        return f"has to be {' or '.join(_words(kind))}{_meant(kind, value)}"
    return None


# ----------------------------------------------------------------------------------------------------- what a key takes


def kind_at(place: tuple) -> Any:
    """The annotation of what stands at a place of the configuration; None where there is no such key."""
    kind: Any = StudySettings
    for part, after in zip(place, [*place, None][1:], strict=True):
        if part != "[key]":
            kind = next(iter(_inside(kind, part, after == "[key]")), None)
    return kind


def _inside(kind: Any, part: object, name: bool) -> Iterator[Any]:
    """The annotation below one, or that of the name itself."""
    for option in options(kind):
        origin = get_origin(option) or option
        if origin is list and isinstance(part, int) and get_args(option):
            yield get_args(option)[0]
        elif origin is dict and get_args(option):
            yield get_args(option)[0 if name else 1]
        elif is_mapping(option):
            yield from (annotation for key, _, annotation in fields(option) if key == part)


def _metadata(kind: Any, wanted: type) -> Iterator[Any]:
    if get_origin(kind) is Annotated:
        yield from (one for one in get_args(kind)[1:] if isinstance(one, wanted))
    if get_origin(kind) in (Annotated, Union, UnionType):
        for part in get_args(kind):
            yield from _metadata(part, wanted)


def _words(kind: Any, among: bool = False) -> list[str]:
    """What a value has to be: `all`, `a list`. among: it is one of several kinds."""
    if get_origin(kind) is Annotated:
        forms = [one.short for one in get_args(kind)[1:] if isinstance(one, Form) and among]
        return forms or _words(get_args(kind)[0], among)
    if get_origin(kind) in (Union, UnionType):
        words = list(dict.fromkeys(word for part in get_args(kind) for word in _words(part, True)))
        return [word for word in words if word != KINDS[int] or KINDS[float] not in words]
    if get_origin(kind) is Literal:
        return [str(value) for value in get_args(kind)]
    return [KINDS[dict if is_mapping(kind) else get_origin(kind) or kind]]


def _meant(kind: Any, value: object) -> str:
    """What to write for a number that YAML takes for text (1e-3) or for a broken one (2.0), and for text that it takes
    for a truth."""
    kinds = options(kind)
    if isinstance(value, bool):
        taken = " (YAML reads yes, no, on, off, true and false as true or false; write it in quotes)"
        return taken if str in kinds or any(get_origin(k) is Literal for k in kinds) else ""
    if not {int, float} & {*kinds} or not isinstance(value, str | float):
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    if not math.isfinite(number) or (float not in kinds and not number.is_integer()):
        return ""
    write = number if float in kinds else int(number)
    return f" (YAML takes it for text; write {write!r})" if isinstance(value, str) else f"; write {write!r}"


# ---------------------------------------------------------------------------------------------------------------- words


def _key(place: tuple) -> str:
    key = ""
    for part in place:
        key = f"{key}[{part}]" if isinstance(part, int) and not STEPS.fullmatch(key) else _join(key, part)
    return key or WHOLE


def _join(where: str, name: object) -> str:
    return str(name) if where in ("", WHOLE) else f"{where}.{name}"


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
