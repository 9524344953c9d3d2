"""What a run of a copy of the project would do, and changes to the copy."""

import importlib
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import yaml
from pipeline.config_file import differences, merged
from pipeline.snakemake_internals import dry_run
from pipeline.strict_yaml import read_keys


def plan(folder: Path, config: str = "configs/smoke.yaml") -> Counter[str]:
    """Number of jobs per rule that a run would execute now, `all` left out. Empty: nothing to be done."""
    return Counter(name for name, _ in planned(folder, config))


# Rules whose jobs are told apart by a wildcard.
DETAILS = {"figure": "figure", "probe_anchor": "regime", "carriers": "regime", "convert_model": "model"}


def detailed(folder: Path, config: str = "configs/smoke.yaml") -> Counter[str]:
    """As `plan`, with the figure, regime or model behind the names of DETAILS: carriers_sft."""
    jobs = planned(folder, config)
    return Counter(f"{name}_{wildcards[DETAILS[name]]}" if name in DETAILS else name for name, wildcards in jobs)


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
    """The Snakefile imports `pipeline` by path; another copy of the project must not get that of the last one. What `digests`
    knows of a text stays, of a path it does not."""
    for path in [path for path in sys.path if path.endswith("/workflow")]:
        sys.path.remove(path)
    for name in [name for name in sys.modules if name.split(".")[0] == "pipeline" and name != "pipeline.digests"]:
        del sys.modules[name]
    if "pipeline.digests" in sys.modules:
        sys.modules["pipeline.digests"]._module.cache_clear()
    importlib.invalidate_caches()


def change(folder: Path, key: str, value: object, config: str = "configs/smoke.yaml") -> None:
    """Set one key (dots between its parts) of a study's file; the order of all others stays."""
    path = folder / config
    default = folder / "config.yaml"
    whole = read_keys(path) if path == default else merged({"default": read_keys(default), "study": read_keys(path)})
    *parents, last = key.split(".")
    place = whole
    for parent in parents:
        place = place[parent]
    place[last] = value
    keys = whole if path == default else differences(read_keys(default), whole)
    path.write_text(yaml.safe_dump(keys, sort_keys=False))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times in {path}"
    path.write_text(text.replace(old, new), encoding="utf-8")
