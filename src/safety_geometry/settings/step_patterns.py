"""Trajectories that are written as one pattern: an entry with `source` and a list of steps stands for a source of each.

Plain Python, as every job reads its configuration with this; `settings.sources` checks what is written.
"""

import re
from collections.abc import Mapping
from string import Formatter

PATTERNS = {"hub": ("repo", "revision", "subfolder"), "path": ("path",)}  # keys in which {step} may stand, by kind
WIDTH = re.compile(r"0?[0-9]{0,2}d?")  # {step}, {step:04d}


class PatternError(ValueError):
    """A pattern that cannot be filled in: under which `key` of its source, why, and what to write."""

    def __init__(self, key: str, fix: str):
        super().__init__(fix)
        self.key = key


def holes(key: str, pattern: str) -> int:
    """How often {step} stands in the pattern of a key. Raises PatternError for other braces."""
    try:
        parts = [part for part in Formatter().parse(pattern) if part[1] is not None]
    except ValueError as error:
        raise PatternError(key, "has a brace without its fellow; {step} alone may stand in braces") from error
    for _, name, width, conversion in parts:
        if name != "step" or conversion or not WIDTH.fullmatch(width):
            raise PatternError(key, "{step} alone may stand in braces, or, with zeros before it, {step:04d}")
    return len(parts)


def numbered(steps: list[int] | list[str]) -> dict[int, int | str]:
    """Step -> what stands for it in a pattern: steps stand for themselves, names count from 1 in their order."""
    return dict(enumerate(steps, 1)) if isinstance(steps[0], str) else {step: step for step in steps}


def filled_in(trajectory: Mapping, value: int | str) -> dict:
    """The source of one step. Of a repository without `members`, the files of a model only."""
    source = dict(trajectory["source"])
    for key in PATTERNS[source["kind"]]:
        if key in source:
            try:
                source[key] = source[key].format(step=value)
            except ValueError as error:
                raise PatternError(key, "a name takes no width: write {step}") from error
    if source["kind"] == "hub" and "members" not in source:
        source["only"] = "model"
    return source


def source_name(trajectory: str, step: int) -> str:
    """How the source of a step is called, beside those of `sources`."""
    return f"{trajectory}_step{step}"


def expanded(config: Mapping) -> tuple[dict, dict[str, str]]:
    """(configuration with a source and an entry for each step of the patterns; name of such a source -> the key that
    it comes from). One without patterns comes back as it is."""
    sources, trajectories, keys = {}, {}, {}
    for name, trajectory in (config.get("checkpoints") or {}).items():
        if "source" not in trajectory:
            continue
        entry = {"format": trajectory.get("format", "folder")}
        rest = {key: value for key, value in trajectory.items() if key not in ("source", "format")}
        trajectories[name] = rest | {"steps": {}}
        for step, value in sorted(numbered(trajectory["steps"]).items()):
            made = source_name(name, step)
            sources[made], keys[made] = filled_in(trajectory, value), f"checkpoints.{name}.source"
            trajectories[name]["steps"][step] = {"source": made} | entry
    if not trajectories:
        return config, {}
    changed = {
        "sources": config["sources"] | sources,
        "checkpoints": config["checkpoints"] | trajectories,
    }
    return config | changed, keys
