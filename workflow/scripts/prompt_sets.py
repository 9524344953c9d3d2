"""Prompt sets: sources to roles, one JSON Lines file per role, and the leakage table.

params: sources {name: {format, label, path, [files], [targets: {path, [files]}], [sample]}} where `path` is the place
of the file or fetched folder among --sources, or a list of places, and `sample` how many of its prompts stand for it;
roles (see safety_geometry.prompts.splits.Role); seed; threshold; on_leak fail|drop; target_words. Each --roles file is
named <role>.jsonl; rows: id, role, label, source, prompt, target (harmful), and the source's fields.
"""

import sys

from _job import Job, JobError, explained

from safety_geometry.prompts.leakage import LeakageError
from safety_geometry.prompts.rows import PromptError
from safety_geometry.prompts.sets import make_roles, read_source, with_target
from safety_geometry.prompts.sources import SourceError
from safety_geometry.prompts.splits import RoleError


def main() -> None:
    job = Job(__doc__, inputs=["sources*"], outputs=["roles*", "leakage"])
    params, seed, paths = job.params, job.params["seed"], {path.stem: path for path in job.roles}
    if set(paths) != set(params["roles"]):
        raise JobError(
            f"--roles has files for {sorted(paths)}, params.roles for {sorted(params['roles'])}; they must be the same"
        )
    if params["on_leak"] not in ("fail", "drop"):
        raise JobError(f"on_leak is {params['on_leak']!r}; it has to be fail or drop")
    with explained(LeakageError, PromptError, RoleError, SourceError):
        sources = {name: read_source(name, job.sources, spec, seed) for name, spec in params["sources"].items()}
        drop = params["on_leak"] == "drop"
        rows, leakage, counts = make_roles(sources, params["roles"], seed, params["threshold"], drop)
    for name, path in paths.items():
        with explained(ValueError, of=f"role {name}"):
            role = [with_target(row, params.get("target_words")) for row in rows[name]]
        job.write_jsonl(role, path)
    job.write_table(leakage, job.leakage)
    for name, count in counts.items():
        near = (
            f"{len(rows[name])} prompts of {count['fitting']}; {count['dropped']} near prompts of other roles left out"
        )
        print(f"{name}: {near}, {count['taken'] - len(rows[name])} dropped as leaks", file=sys.stderr)


if __name__ == "__main__":
    main()
