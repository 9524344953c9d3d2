"""Prompt sets: sources to roles, one JSON Lines file per role, and the leakage table.

params: sources {name: {format, label, path, [files], [targets: {path, [files]}]}} where `path` is the place of the fetched
file or folder among --sources; roles (see safety_geometry.splits.Role); seed; threshold; on_leak fail|drop; target_words.
Each --roles file is named <role>.jsonl; rows: id, role, label, source, prompt, target (harmful), and the source's fields.
"""

import sys
from pathlib import Path

from _job import Job, JobError

from safety_geometry.leakage import LeakageError, check_leakage, drop_leaks, leakage_table
from safety_geometry.prompts import LABELS, PromptError, parse, request_of
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
        sources = {name: read_source(name, job.sources, spec) for name, spec in params["sources"].items()}
        assignment = assign(sources, params["roles"], params["seed"], params["threshold"])
        roles, rows, dropped = read_roles(params["roles"], sources), assignment.rows, {}
        if params["on_leak"] == "drop":
            rows, dropped = drop_leaks(rows, roles, params["threshold"])
        check_leakage(rows, roles, params["threshold"])
        table = leakage_table(rows, roles, params["threshold"], dropped)
    except (LeakageError, PromptError, RoleError, SourceError) as error:
        raise JobError(str(error)) from error
    for name, path in paths.items():
        job.write_jsonl([with_target(row, params.get("target_words")) for row in rows[name]], path)
    job.write_table(table, job.leakage)
    for name, count in assignment.counts.items():
        print(
            f"{name}: {len(rows[name])} prompts of {count['fitting']}; {count['dropped']} near prompts of other roles left out, "
            f"{count['taken'] - len(rows[name])} dropped as leaks", file=sys.stderr
        )  # fmt: skip


def read_source(name: str, paths: list[Path], spec: dict) -> list[dict]:
    """Rows of one source, each with a label; a prompt that stands in several of its files is kept once."""
    if (label := spec.get("label")) not in (None, *LABELS):
        raise JobError(f"sources.{name}.label is {label!r}; it has to be one of {', '.join(LABELS)}")
    targets = None
    if "targets" in spec:
        targets = "".join(
            read_files(
                f"{name}.targets",
                paths,
                {"path": spec["targets"]} if isinstance(spec["targets"], int) else spec["targets"],
            )
        )
    rows: dict[str, dict] = {}
    for text in read_files(name, paths, spec):
        for row in parse(spec["format"], text, name, targets):
            rows.setdefault(row["id"], ({"label": label} if label else {}) | row)
    return list(rows.values())


def read_files(name: str, paths: list[Path], spec: dict) -> list[str]:
    if not 0 <= spec["path"] < len(paths):
        raise JobError(f"sources.{name}.path is {spec['path']}, but --sources has {len(paths)} paths")
    path = paths[spec["path"]]
    files = (
        [path / n for n in source_files(path, spec.get("files", "**"), f"sources.{name}")] if path.is_dir() else [path]
    )
    try:
        return [
            file.read_bytes().decode("utf-8-sig") for file in files
        ]  # bytes: line ends inside CSV cells stay as they are
    except UnicodeDecodeError as error:
        raise JobError(
            f"sources.{name}: a file of {path.name} is not UTF-8 text (byte {error.start}); give files that are"
        ) from error


def with_target(row: dict, words: int | None) -> dict:
    """A harmful row with its affirmative opening: the file's own first one, else built from the request."""
    if row["label"] != "harmful" or "target" in row:
        return row
    target = clip(row["targets"][0], words) if row.get("targets") else affirmative_target(request_of(row), words)
    head = {key: row[key] for key in ("id", "role", "label", "source", "prompt")}
    return head | {"target": target} | {key: value for key, value in row.items() if key not in head}


if __name__ == "__main__":
    main()
