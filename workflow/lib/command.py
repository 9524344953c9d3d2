"""Pieces of the shell commands of rules, in which every path stays one word."""

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping

GLOB = re.compile(r"(\*+|\?|\[[!^]?|\])")  # what the shell reads in a pattern; all else is quoted


def options(files: Mapping[str, str | Iterable[str]]) -> str:
    """`--name path …` for every name that has a path or several; `_` in names is `-` in options."""
    words = []
    for name, paths in files.items():
        paths = [paths] if isinstance(paths, str) else list(paths)
        if paths:
            words += [f"--{name.replace('_', '-')}", *paths]
    return shlex.join(words)


def patterns(names: Iterable[str], globs: Iterable[str]) -> str:
    """Files by name, and patterns that the shell (globstar) finds files by."""
    return " ".join([*map(shlex.quote, names), *map(_pattern, globs)])


def _pattern(glob: str) -> str:
    pieces = GLOB.split(glob)
    return "".join(piece if number % 2 else shlex.quote(piece) for number, piece in enumerate(pieces) if piece)


def given_gpus(device: str) -> None:
    """End the run before its first job where the jobs run here, on a GPU that this machine does not have.

    Asked in a process of its own: torch takes seconds and, on a GPU, memory. Nothing is said where torch is not installed here.

    Raises:
        SystemExit: device is cuda, or cuda:N, and there is none.
    """
    if not device.startswith("cuda") or importlib.util.find_spec("torch") is None:
        return
    asked = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
    count = int(subprocess.run(asked, capture_output=True, encoding="utf-8", check=True).stdout)
    number = int(device.partition(":")[2] or 0)
    if number >= count:
        has = f"{count} GPU(s), counted from 0" if count else "no GPU that torch can use"
        raise SystemExit(f"config error: model.device = {device!r}: this machine has {has}; set another device, or cpu")
