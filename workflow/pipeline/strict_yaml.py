"""A configuration file read so that it means what it says: a key given twice, 010 for 8 and 1:30 for 90 are refused.

Snakemake reads such a file for itself and keeps the last of two keys; the workflow reads it once more with this.
"""

import json
import re
from pathlib import Path
from typing import NoReturn

import yaml

WHOLE = re.compile(r"[-+]?(0|[1-9][0-9_]*)")  # how people write whole numbers
INTEGER, FLOAT, MERGE = (f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "merge"))
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast
GUARDED = 40_000  # letters, from which the slow one reads: nested so often, the fast one ends the process


def read_keys(path: Path) -> dict:
    """The keys of a file of JSON or YAML, which are tried in this order, as Snakemake does.

    Raises:
        SystemExit: there is no such file, it cannot be read, holds no keys, or one of them twice, or a number that YAML
            reads otherwise than people do.
    """
    text = _text(path)
    try:
        config = _json(text, path)
        if config is None:
            config = _yaml(text, path)
    except RecursionError:
        _refuse(path, "is nested too deeply")
    if not isinstance(config, dict):
        _refuse(path, "holds no keys; config.yaml shows every key and says what it does")
    return config


def _text(path: Path) -> str:
    if path.is_dir():
        raise SystemExit(f"error: {path} is a folder; give a configuration file with CONFIG=FILE")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise SystemExit(f"error: no configuration {path}; give one with CONFIG=FILE") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        _refuse(path, f"is not YAML in UTF-8 (byte 0x{error.object[error.start]:02x} in line {line}); save it as UTF-8")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise SystemExit(f"error: the configuration {path} cannot be read: {error}") from error


def _json(text: str, path: Path) -> object:
    """None where it is no JSON."""

    def unique(pairs: list[tuple[str, object]]) -> dict:
        names = [name for name, _ in pairs]
        for name in names:
            if names.count(name) > 1:
                raise SystemExit(f"config error: {name} is given twice in one place of {path}; keep one")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=unique)
    except ValueError:
        return None


def _yaml(text: str, path: Path) -> object:
    try:
        loader = (Loader if len(text) < GUARDED else yaml.SafeLoader)(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check(node, "", (), set(), path)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-13-45
        _refuse(path, f"is not YAML: {_sentence(error, text)}")


def _check(node: yaml.Node, key: str, above: tuple[int, ...], seen: set[int], path: Path) -> None:
    """Every node once; `above`: those that it stands in."""
    if id(node) in above:
        raise SystemExit(f"config error: {key} in {path} holds itself; write its values out")
    if id(node) in seen:
        return
    seen.add(id(node))
    above = (*above, id(node))
    if isinstance(node, yaml.ScalarNode):
        _check_number(node, key, path)
    elif isinstance(node, yaml.SequenceNode):
        for number, entry in enumerate(node.value):
            _check(entry, f"{key}[{number}]", above, seen, path)
    else:
        lines: dict[str, int] = {}
        for name, value in node.value:
            if not isinstance(name, yaml.ScalarNode):
                line = name.start_mark.line + 1
                raise SystemExit(
                    f"config error: {path}, line {line}: a key is a word, and no list or mapping; correct it"
                )
            inner, line = f"{key}.{name.value}" if key else name.value, name.start_mark.line + 1
            if name.tag != MERGE:
                _check_number(name, inner, path)
                if name.value in lines:
                    where = f"lines {lines[name.value]} and {line}" if lines[name.value] != line else f"line {line}"
                    raise SystemExit(f"config error: {inner} is given twice ({path}, {where}); keep one")
                lines[name.value] = line
            _check(value, inner, above, seen, path)


def _check_number(node: yaml.ScalarNode, key: str, path: Path) -> None:
    odd = (node.tag == INTEGER and not WHOLE.fullmatch(node.value)) or (node.tag == FLOAT and ":" in node.value)
    if not odd:
        return
    digits = node.value.lstrip("+-0_").replace("_", "")
    try:
        read = yaml.load(node.value, Loader)
    except ValueError:  # 08: no octal number, and yet no text
        read = "an octal number"
    write = digits if digits.isdigit() else read
    raise SystemExit(
        f"config error: {key} = {node.value} ({path}, line {node.start_mark.line + 1}): YAML reads this as {read};"
        f" write {write}, or '{node.value}' if it is text"
    )


def _sentence(error: Exception, text: str) -> str:
    """What a YAML error says, in one line."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return " ".join(str(error).split())
    line = text.split("\n")[mark.line] if mark.line <= text.count("\n") else ""
    tabs = "; indent with blanks, not with tabs" if "\t" in line[: len(line) - len(line.lstrip())] else ""
    return f"line {mark.line + 1}: {problem}{tabs}"


def _refuse(path: Path, what: str) -> NoReturn:
    raise SystemExit(f"config error: {path} {what}")
