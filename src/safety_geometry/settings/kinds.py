"""Kinds of values: numbers, names, files, lists, and values of several kinds."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

LARGEST_COUNT, LARGEST_SEED = 10**9, 2**32 - 1


class Settings(BaseModel):
    """A mapping with known keys. No other keys, and no value that is only nearly of its kind: 2.0 is no whole
    number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())


def optional(description: str) -> Any:
    """A key that may be left out (and then is None in the model)."""
    return Field(default=None, description=description)


def key(description: str, alias: str | None = None) -> Any:
    """A key that has to be there."""
    return Field(description=description, alias=alias)


def fields(model: type[Settings]) -> Iterator[tuple[str, Any, Any]]:
    """(key, pydantic's field, annotation) of every key of a mapping."""
    hints = get_type_hints(model, include_extras=True)
    return ((field.alias or name, field, hints[name]) for name, field in model.model_fields.items())


def options(kind: Any) -> list[Any]:
    """The kinds that a value may be of, without what is annotated to them."""
    if get_origin(kind) is Annotated:
        return options(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [option for part in get_args(kind) for option in options(part)]
    return [kind]


def is_mapping(kind: Any) -> bool:
    """Whether a kind is one of the models here."""
    return isinstance(kind, type) and issubclass(kind, Settings)


def lacking(names: list[str]) -> PydanticCustomError:
    """Keys of the mapping at hand that its other values ask for."""
    return PydanticCustomError("lacking", "needs {names}", {"names": names})


def refused(name: str, value: object, fix: str) -> PydanticCustomError:
    """A value of the mapping at hand that its other values do not go with."""
    return PydanticCustomError("refused", "{fix}", {"name": name, "value": value, "fix": fix})


# ----------------------------------------------------------------------------------------------------------------- text


@dataclass(frozen=True)
class Form:
    """What a text with a pattern is, in words: in full, and among other kinds of values."""

    words: str
    short: str


def _form(pattern: str, words: str, short: str) -> Any:
    return Annotated[str, Field(pattern=pattern), Form(words, short)]


# Every name becomes part of a path or a command. Which ones are taken is in workflow/pipeline/combinations.
Name = _form(
    "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$",
    "a name of at most 64 letters, digits, _ and -, which begins with a letter or a digit",
    "a name",
)
RegimeName = _form(
    "^[a-z][a-z0-9_]{0,39}$",
    "a name of at most 40 small letters, digits and _, which begins with a letter",
    "a name",
)
FileName = _form(r"^[^\x00-\x1f\x7f]+$", "the name of a file or folder in one line", "the name of a file")
Sha256 = _form("^[0-9a-f]{64}$", "a SHA-256 of 64 small hexadecimal digits", "a SHA-256")
PackageName = _form("^[A-Za-z0-9][A-Za-z0-9._-]*$", "the name of a package", "a name")
Version = _form("^[A-Za-z0-9][A-Za-z0-9.!+_-]*$", "the version of a package", "a version")
Repository = _form(
    "^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$", "a repository, OWNER/NAME", "a repository"
)
Revision = _form("^[A-Za-z0-9][A-Za-z0-9._/-]*$", "a commit, branch or tag", "a revision")
Address = _form(r"^https?://[^\s\x00-\x1f\x7f]+$", "an address that begins with http:// or https://", "an address")
Device = _form("^(cpu|cuda(:(0|[1-9][0-9]?))?)$", "cpu, cuda or cuda:N with the number of a GPU (cpu|cuda)", "a device")
Text = Annotated[str, Field(min_length=1)]

# -------------------------------------------------------------------------------------------------------------- numbers

Count = Annotated[int, Field(ge=1, le=LARGEST_COUNT)]
Natural = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
Step = Annotated[int, Field(ge=0, le=LARGEST_COUNT)]
Share = Annotated[float, Field(ge=0, le=1)]
Part = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
FromTheEnd = Annotated[int, Field(le=-1)]


def at_least(least: int) -> Any:
    """A whole number with its own least value."""
    return Annotated[int, Field(ge=least, le=LARGEST_COUNT)]


# ---------------------------------------------------------------------------------------------------------------- lists


def _once(values: list) -> list:
    if len({value if isinstance(value, Hashable) else repr(value) for value in values}) < len(values):
        raise PydanticCustomError("twice", "lists something twice; keep each once")
    return values


_ONCE = (AfterValidator(_once), Field(json_schema_extra={"uniqueItems": True}))


def each_once(kind: Any, least: int = 0) -> Any:
    """A list without repetition, of at least so many."""
    return Annotated[list[kind], Field(min_length=least), *_ONCE]


FileNames = each_once(FileName, 1)
Steps = each_once(Count, 1)
Layers = each_once(Natural)


# ---------------------------------------------------------------------------------------------- values of several kinds


def either(*kinds: Any) -> Any:
    """A value of one of several kinds, told apart by the type that it has: the faults of its own kind are shown."""
    tagged = tuple(Annotated[kind, Tag(tag(_base(kind)))] for kind in kinds)
    return Annotated[Union[tagged], Discriminator(_tag_of_value)]  # noqa: UP007


def tag(kind: type) -> str:
    """No key has this in it (see `is_tag`)."""
    return f"\0{kind.__name__}"


def is_tag(part: object) -> bool:
    """Whether a part of an error's place names a kind of `either`, and no key."""
    return isinstance(part, str) and part.startswith("\0")


def _tag_of_value(value: object) -> str:
    return tag(dict if isinstance(value, dict | Settings) else type(value))


def _base(kind: Any) -> type:
    (kind,) = options(kind)
    if get_origin(kind) is Literal:
        return type(get_args(kind)[0])
    return dict if is_mapping(kind) else get_origin(kind) or kind
