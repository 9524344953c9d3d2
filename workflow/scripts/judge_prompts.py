"""Requests whose labelled answers train the judges: those of the study, out of reach of every seed's evaluation.

params: sources, roles (all of them), seed, threshold, target_words, as in prompt_sets.py. Each --roles file is named
<role>.jsonl, a role of kind judge.
"""

import sys

from _job import Job, explained

from safety_geometry.prompts.rows import PromptError
from safety_geometry.prompts.sets import read_source, with_targets
from safety_geometry.prompts.sources import SourceError
from safety_geometry.prompts.splits import RoleError, assign_judges


def main() -> None:
    job = Job(__doc__, inputs=["sources*"], outputs=["roles*"])
    params, seed, paths = job.params, job.params["seed"], {path.stem: path for path in job.roles}
    with explained(PromptError, RoleError, SourceError):
        sources = {name: read_source(name, job.sources, spec, seed) for name, spec in params["sources"].items()}
        drawn = assign_judges(sources, params["roles"], seed, params["threshold"])
    with explained(ValueError):
        rows = with_targets(drawn.rows, params["target_words"])
    for name, path in paths.items():
        job.write_jsonl(rows[name], path)
    for name, count in drawn.counts.items():
        left = f"{count['dropped']} near what evaluation may draw left out"
        print(f"{name}: {count['taken']} prompts of {count['fitting']}; {left}", file=sys.stderr)


if __name__ == "__main__":
    main()
