"""The exact wording that a published judge was trained on, taken out of the file in which its authors publish it."""

import ast
import hashlib
import re
from collections.abc import Mapping, Sequence

from safety_geometry.artefacts.text_files import TextFileError, json_value


class TemplateFileError(ValueError):
    """The file does not hold the wording where it was looked for. The message is one plain line."""


def template_in(
    text: str, name: str, at: Sequence[str], fields: Mapping[str, str] | None = None, sha256: str | None = None
) -> str:
    """The wording in file `name` (its content is `text`) at the keys `at`, its fields renamed as `fields` says.

    JSON: `at` are the keys. Python: `at` begins with the name of a constant at the top of the file, read as a literal
    and never run. `sha256` is of the published wording, before renaming. Raises TemplateFileError.
    """
    if name.endswith(".json"):
        try:
            wording = json_value(text, dict, name)
        except TextFileError as error:
            raise TemplateFileError(str(error)) from error
        keys = list(at)
    elif name.endswith(".py"):
        wording, keys = _constant(text, name, at[0]), list(at[1:])
    else:
        raise TemplateFileError(
            f"{name}: a wording is taken out of .json and .py files; name a text file itself as template"
        )
    for depth, key in enumerate(keys):
        if not isinstance(wording, dict) or key not in wording:
            has = ", ".join(map(str, wording)) if isinstance(wording, dict) else type(wording).__name__
            raise TemplateFileError(
                f"{name} has no {'.'.join([*at[: len(at) - len(keys) + depth], key])}; there is {has}"
            )
        wording = wording[key]
    if not isinstance(wording, str):
        raise TemplateFileError(f"{name}: {'.'.join(at)} is not a text but a {type(wording).__name__}")
    if sha256 is not None and (digest := hashlib.sha256(wording.encode()).hexdigest()) != sha256:
        raise TemplateFileError(
            f"{name}: the wording at {'.'.join(at)} has another SHA-256 than given: expected {sha256}, got {digest}; "
            "it is not the one that the judge was trained on"
        )
    for old in fields or {}:
        if "{" + old + "}" not in wording:
            raise TemplateFileError(f"{name}: the wording at {'.'.join(at)} has no field {{{old}}}")
    return re.sub(r"\{(\w+)\}", lambda m: "{" + (fields or {}).get(m[1], m[1]) + "}", wording)


def _constant(text: str, name: str, wanted: str) -> object:
    try:
        body = ast.parse(text).body
    except SyntaxError as error:
        raise TemplateFileError(f"{name} is not Python (line {error.lineno})") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise TemplateFileError(f"{name} is no Python that can be read ({type(error).__name__})") from error
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == wanted for target in targets):
            try:
                return ast.literal_eval(node.value)
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
                raise TemplateFileError(f"{name}: {wanted} is not a plain value") from error
    raise TemplateFileError(f"{name} has no constant {wanted} at its top level")
