"""Prompt sets: what files hold becomes rows of roles, with the openings that attacks want."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from safety_geometry.prompts.files import read_prompts
from safety_geometry.prompts.leakage import check_leakage, drop_leaks, leakage_table
from safety_geometry.prompts.rows import LABELS, request_of
from safety_geometry.prompts.sources import SourceError, source_files
from safety_geometry.prompts.splits import assign, read_roles
from safety_geometry.prompts.targets import affirmative_target, clip

Rows = dict[str, list[dict]]


def make_roles(
    sources: Mapping[str, list[dict]],
    roles: Mapping[str, Mapping],
    seed: int,
    threshold: float,
    drop: bool,
    judges: Rows | None = None,
) -> tuple[Rows, pd.DataFrame, dict[str, Mapping]]:
    """Rows of each role, their leakage (`leakage_table`), and counts by role that was drawn (see `splits.Assignment`).

    `drop`: leaks are left out; otherwise they raise LeakageError. `judges`: rows of the judges' roles, if they are
    drawn already. Raises RoleError for roles that cannot be filled.
    """
    assignment = assign(sources, roles, seed, threshold, judges)
    known, rows, dropped = read_roles(roles, sources), assignment.rows, {}
    if drop:
        rows, dropped = drop_leaks(rows, known, threshold)
    check_leakage(rows, known, threshold)
    return rows, leakage_table(rows, known, threshold, dropped), assignment.counts


def read_source(name: str, paths: Sequence[Path], spec: Mapping, seed: int) -> list[dict]:
    """Rows of one source, each with a label; a prompt that stands in several of its files is kept once.

    spec: format, path (place or places among `paths`), [files, label, sample, targets {path, files}]; `seed` is that of
    the sample. Raises SourceError, and PromptError for what a file holds.
    """
    if (label := spec.get("label")) not in (None, *LABELS):
        raise SourceError(f"sources.{name}.label is {label!r}; it has to be one of {', '.join(LABELS)}")
    files, targets = files_of(name, paths, spec), spec.get("targets")
    openings = files_of(f"{name}.targets", paths, targets) if targets else []
    rows = read_prompts(files, spec["format"], name, openings, spec.get("sample"), seed)
    return [({"label": label} if label else {}) | row for row in rows]


def files_of(name: str, paths: Sequence[Path], spec: Mapping) -> list[Path]:
    """All files at the places of `spec["path"]`; in a folder, those that `spec["files"]` names."""
    files = []
    for place in spec["path"] if isinstance(spec["path"], list) else [spec["path"]]:
        if not 0 <= place < len(paths):
            raise SourceError(f"sources.{name}.path is {place}, but there are {len(paths)} paths")
        path = paths[place]
        if path.is_dir():
            files += [path / file for file in source_files(path, spec.get("files", "**"), f"sources.{name}")]
        else:
            files.append(path)
    return files


def with_targets(rows: Rows, words: int | None) -> Rows:
    """All rows, `with_target`. Raises ValueError, which names the role, where an opening cannot be built."""
    made = {}
    for name, role in rows.items():
        try:
            made[name] = [with_target(row, words) for row in role]
        except ValueError as error:
            raise ValueError(f"role {name}: {error}") from error
    return made


def with_target(row: dict, words: int | None) -> dict:
    """A harmful row with its affirmative opening: the file's own first one, else built from the request.

    Raises ValueError where none can be built.
    """
    if row["label"] != "harmful" or "target" in row:
        return row
    try:
        target = clip(row["targets"][0], words) if row.get("targets") else affirmative_target(request_of(row), words)
    except ValueError as error:  # a request of signs only
        raise ValueError(f"no affirmative opening can be built for prompt {row['id']} ({error})") from error
    head = {key: row[key] for key in ("id", "role", "label", "source", "prompt")}
    return head | {"target": target} | {key: value for key, value in row.items() if key not in head}
