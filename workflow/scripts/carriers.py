"""Carriers, coupling, geometry and companions of one (seed, regime), from cached activations and candidate scores.

--activations come in the order of params.steps, --scores in that of params.scored_steps; --rulers stand beside every
separability. Checkpoints without a refusal carrier are named on stderr. params: seed, regime, steps, anchors {name:
step}, reference (a step), scored_steps, settings (GeometrySettings). --elsewhere: carriers of the regime whose
reference anchor (params.elsewhere, a step) says where R is read when this regime's has none.
"""

import sys

from _job import Job, JobError, explained

from safety_geometry.artefacts.activations import Activations
from safety_geometry.artefacts.candidate_scores import read_scores
from safety_geometry.artefacts.carriers import read_carriers, write_carriers
from safety_geometry.artefacts.tables.files import read_table
from safety_geometry.geometry.checkpoint import GeometrySettings, Save, select_sites
from safety_geometry.geometry.separability import ruler_scores
from safety_geometry.geometry.tables import TABLES, regime_tables
from safety_geometry.settings.identity import Checkpoint


def main() -> None:
    job = Job(__doc__, ["activations*", "scores*", "rulers", "elsewhere?"], ["carriers", *TABLES])
    params, settings = job.params, GeometrySettings(**job.params["settings"])
    with explained(ValueError, of=f"seed {params['seed']}, regime {params['regime']}"):
        other = read_carriers(job.elsewhere, params["elsewhere"]) if job.elsewhere else None
        selected = select_sites(saves(job), settings, params["reference"], other)
        tables = regime_tables(selected, params["reference"], settings, ruler_scores(read_table(job.rulers)))
    for step, carriers in ((each.checkpoint.step, each.carriers) for each in selected):
        if carriers.r is None:
            print(f"step {step}: no refusal carrier of its own: {carriers.r_missing}", file=sys.stderr)
    for name, table in tables.items():
        job.write_table(table, getattr(job, name))
    job.write(job.carriers, write_carriers, {each.checkpoint.step: each.carriers for each in selected})


def saves(job: Job) -> list[Save]:
    """Every save in order of its step."""
    params, anchors = job.params, {step: name for name, step in job.params["anchors"].items()}
    steps, scored = params["steps"], params["scored_steps"]
    if len(steps) != len(job.activations) or len(scored) != len(job.scores) or not scored:
        files = f"{len(job.activations)} activation files for steps {steps} and {len(job.scores)} score files for"
        raise JobError(f"{files} scored_steps {scored}: one file per step, and at least one scored step")
    unknown = sorted({*scored, *anchors, params["reference"]} - set(steps))
    if unknown or len(anchors) < len(params["anchors"]):
        raise JobError(f"steps {unknown} have no activations, or two anchors share a step: {params['anchors']}")
    scores = {step: read_scores(path) for step, path in zip(scored, job.scores, strict=True)}
    files = sorted(zip(steps, job.activations, strict=True))
    checkpoints = [Checkpoint(params["seed"], params["regime"], step, anchors.get(step)) for step, _ in files]
    return [
        Save(checkpoint, Activations(path), step in scores, scores.get(step))
        for checkpoint, (step, path) in zip(checkpoints, files, strict=True)
    ]


if __name__ == "__main__":
    main()
