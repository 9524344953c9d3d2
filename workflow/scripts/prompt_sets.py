"""Prompt sets: sources to roles, one JSON Lines file per role, and the leakage table.

params: sources {name: {format, label, path, [files], [targets: {path, [files]}], [sample]}} where `path` is the place of the
file or fetched folder among --sources, or a list of places, and `sample` how many of its prompts stand for it; roles (see
safety_geometry.splits.Role); seed; threshold; on_leak fail|drop; target_words.
Each --roles file is named <role>.jsonl; rows: id, role, label, source, prompt, target (harmful), and the source's fields.
"""

import sys
from pathlib import Path

from _job import Job, JobError

from safety_geometry.leakage import LeakageError, check_leakage, drop_leaks, leakage_table
from safety_geometry.prompt_files import read_prompts
from safety_geometry.prompts import LABELS, PromptError, request_of
from safety_geometry.sources import SourceError, source_files
from safety_geometry.splits import RoleError, assign, read_roles
from safety_geometry.targets import affirmative_target, clip


def main() -> None:
    job = Job(__doc__, inputs=["sources*"], outputs=["roles*", "leakage"])
    params = job.params
    paths = {path.stem: path for path in job.roles}
    if set(paths) != set(params["roles"]):
        raise JobError(
            f"--roles has files for {sorted(paths)}, params.roles for {sorted(params['roles'])}; they must be the same"
        )
    if params["on_leak"] not in ("fail", "drop"):
        raise JobError(f"on_leak is {params['on_leak']!r}; it has to be fail or drop")
    try:
        sources = {
            name: read_source(name, job.sources, spec, params["seed"]) for name, spec in params["sources"].items()
        }
        assignment = assign(sources, params["roles"], params["seed"], params["threshold"])
        roles, rows, dropped = read_roles(params["roles"], sources), assignment.rows, {}
        if params["on_leak"] == "drop":
            rows, dropped = drop_leaks(rows, roles, params["threshold"])
        check_leakage(rows, roles, params["threshold"])
        table = leakage_table(rows, roles, params["threshold"], dropped)
    except (LeakageError, PromptError, RoleError, SourceError) as error:
        raise JobError(str(error)) from error
    for name, path in paths.items():
        try:
            role = [with_target(row, params.get("target_words")) for row in rows[name]]
        except ValueError as error:
            raise JobError(f"role {name}: {error}") from error
        job.write_jsonl(role, path)
    job.write_table(table, job.leakage)
    for name, count in assignment.counts.items():
        print(
            f"{name}: {len(rows[name])} prompts of {count['fitting']}; {count['dropped']} near prompts of other roles left out, "
            f"{count['taken'] - len(rows[name])} dropped as leaks", file=sys.stderr
        )  # fmt: skip


def read_source(name: str, paths: list[Path], spec: dict, seed: int) -> list[dict]:
    """Rows of one source, each with a label; a prompt that stands in several of its files is kept once."""
    if (label := spec.get("label")) not in (None, *LABELS):
        raise JobError(f"sources.{name}.label is {label!r}; it has to be one of {', '.join(LABELS)}")
    targets = spec.get("targets")
    rows = read_prompts(
        files_of(name, paths, spec),
        spec["format"],
        name,
        files_of(f"{name}.targets", paths, targets) if targets else [],
        spec.get("sample"),
        seed,
    )
    return [({"label": label} if label else {}) | row for row in rows]


def files_of(name: str, paths: list[Path], spec: dict) -> list[Path]:
    """All files at the places of `spec["path"]`; in a folder, those that `spec["files"]` names."""
    found = []
    for place in spec["path"] if isinstance(spec["path"], list) else [spec["path"]]:
        if not 0 <= place < len(paths):
            raise JobError(f"sources.{name}.path is {place}, but --sources has {len(paths)} paths")
        path = paths[place]
        if path.is_dir():
            found += [path / file for file in source_files(path, spec.get("files", "**"), f"sources.{name}")]
        else:
            found.append(path)
    return found


def with_target(row: dict, words: int | None) -> dict:
    """A harmful row with its affirmative opening: the file's own first one, else built from the request."""
    if row["label"] != "harmful" or "target" in row:
        return row
    try:
        target = clip(row["targets"][0], words) if row.get("targets") else affirmative_target(request_of(row), words)
    except ValueError as error:  # a request of signs only
        raise ValueError(f"no affirmative opening can be built for prompt {row['id']} ({error})") from error
    head = {key: row[key] for key in ("id", "role", "label", "source", "prompt")}
    return head | {"target": target} | {key: value for key, value in row.items() if key not in head}


if __name__ == "__main__":
    main()
