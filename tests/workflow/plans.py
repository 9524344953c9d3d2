"""What a run of a copy of the project would do, and changes to the copy."""

import importlib
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import yaml
from dry_run import dry_run


def plan(folder: Path, config: str = "configs/smoke.yaml") -> Counter[str]:
    """Number of jobs per rule that a run would execute now, `all` left out. Empty: nothing to be done."""
    return Counter(name for name, _ in planned(folder, config))


def planned(folder: Path, config: str = "configs/smoke.yaml") -> list[tuple[str, dict[str, str]]]:
    """(rule, wildcards) of every job that a run would execute now."""
    return [(job.rule.name, dict(job.wildcards_dict)) for job in _dry_run(folder, config)[0]]


def jobs_of(folder: Path, config: str = "configs/smoke.yaml") -> tuple[list[tuple[str, dict, set[str]]], dict]:
    """(rule, resources, names of the inputs) of every job that a run on this machine would execute now, and what limits it."""
    jobs, limits = _dry_run(folder, config)
    return [(job.rule.name, dict(job.resources.items()), set(job.input.keys())) for job in jobs], limits


def _dry_run(folder: Path, config: str) -> tuple[list, Mapping]:
    forget_modules()
    return dry_run(folder, folder / config)


def forget_modules() -> None:
    """The Snakefile imports its helpers by path; another copy of the project must not get those of the last one. What `code_digest`
    knows of a text stays, of a path it does not."""
    folders = [p for p in sys.path if p.endswith("workflow/lib")]
    for path in folders:
        sys.path.remove(path)
    own = {path.stem for path in (Path(__file__).parents[2] / "workflow" / "lib").iterdir()}
    for name in [name for name in sys.modules if name.split(".")[0] in own - {"code_digest"}]:
        del sys.modules[name]
    if "code_digest" in sys.modules:
        sys.modules["code_digest"]._module.cache_clear()
    importlib.invalidate_caches()


def change(folder: Path, key: str, value: object, config: str = "configs/smoke.yaml") -> None:
    """Set one key (dots between its parts) of a configuration; the order of all others stays."""
    path = folder / config
    whole = yaml.safe_load(path.read_text())
    *parents, last = key.split(".")
    place = whole
    for parent in parents:
        place = place[parent]
    place[last] = value
    path.write_text(yaml.safe_dump(whole, sort_keys=False))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times in {path}"
    path.write_text(text.replace(old, new), encoding="utf-8")
