"""A seed's prompt sets: sources to roles, one JSON Lines file per role, and their leakage.

--judges: files of the judges' roles, which judge_prompts.py has drawn for all seeds; the roles here keep out of them.
params: sources {name: {format, label, path, [files], [targets: {path, [files]}], [sample]}} where `path` is the place
of the file or fetched folder among --sources, or a list of places, and `sample` how many of its prompts stand for it,
in every seed; roles (see safety_geometry.prompts.splits.Role); seed of the study's prompts; run: the seed; per_seed:
whether its draw is its own; threshold; on_leak fail|drop; target_words. Each --roles file is named <role>.jsonl; rows:
id, role, label, source, prompt, target (harmful), and the source's fields.
"""

import sys

from _job import Job, JobError, explained

from safety_geometry.artefacts.prompts import read_role
from safety_geometry.prompts.leakage import LeakageError
from safety_geometry.prompts.rows import PromptError
from safety_geometry.prompts.sets import make_roles, read_source, with_targets
from safety_geometry.prompts.sources import SourceError
from safety_geometry.prompts.splits import RoleError, draw_seed


def main() -> None:
    job = Job(__doc__, inputs=["sources*", "judges*"], outputs=["roles*", "leakage"])
    params, paths = job.params, {path.stem: path for path in job.roles}
    judges = {path.stem: read_role(path) for path in job.judges}
    if {*paths, *judges} != set(params["roles"]):
        raise JobError(
            f"--roles and --judges have files for {sorted([*paths, *judges])}, params.roles for"
            f" {sorted(params['roles'])}; they must be the same"
        )
    if params["on_leak"] not in ("fail", "drop"):
        raise JobError(f"on_leak is {params['on_leak']!r}; it has to be fail or drop")
    drop, seed = params["on_leak"] == "drop", params["seed"]
    draw = draw_seed(seed, params["run"] if params["per_seed"] else None)
    with explained(LeakageError, PromptError, RoleError, SourceError):
        sources = {name: read_source(name, job.sources, spec, seed) for name, spec in params["sources"].items()}
        rows, leakage, counts = make_roles(sources, params["roles"], draw, params["threshold"], drop, judges)
    with explained(ValueError):
        rows = with_targets({name: rows[name] for name in paths}, params["target_words"])
    for name, path in paths.items():
        job.write_jsonl(rows[name], path)
    leakage.insert(0, "seed", params["run"])
    job.write_table(leakage, job.leakage)
    for name, count in counts.items():
        near = (
            f"{len(rows[name])} prompts of {count['fitting']}; {count['dropped']} near prompts of other roles left out"
        )
        print(f"{name}: {near}, {count['taken'] - len(rows[name])} dropped as leaks", file=sys.stderr)


if __name__ == "__main__":
    main()
