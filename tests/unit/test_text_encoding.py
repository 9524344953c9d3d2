"""Text is read and written as UTF-8 whatever the login's locale: no place leaves the encoding to it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(path for part in ("src", "workflow", "benchmarks") for path in (ROOT / part).rglob("*.py"))
TEXT = {"read_text": 1, "write_text": 2}  # number of positional arguments that includes the encoding

PIPES = ("text", "universal_newlines")  # of a process: its output is decoded


def without_encoding(source: str) -> list[int]:
    """Lines of calls that open text in the locale's encoding."""
    lines = []
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call) or any(keyword.arg == "encoding" for keyword in call.keywords):
            continue
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        if any(keyword.arg in PIPES and ast.unparse(keyword.value) == "True" for keyword in call.keywords):
            lines.append(call.lineno)
        if name in TEXT and len(call.args) < TEXT[name]:
            lines.append(call.lineno)
        if name == "open":
            first = call.args[0 if isinstance(call.func, ast.Attribute) else 1 :][:1]
            binary = first and "b" in ast.unparse(first[0]).strip("'\"")
            member = first and not isinstance(first[0], ast.Constant | ast.IfExp)  # of an archive
            if not binary and not member:
                lines.append(call.lineno)
    return lines


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_text_file_is_opened_as_utf_8(path):
    assert without_encoding(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "call",
    [
        "path.read_text()",
        "path.write_text(text)",
        "path.open()",
        'path.open("w")',
        'open(path, "a")',
        "open(path)",
        "run(command, text=True)",
        "subprocess.Popen(command, stdout=PIPE, universal_newlines=True)",
    ],
)
def test_a_call_in_the_locales_encoding_is_seen(call):
    assert without_encoding(call) == [1]
