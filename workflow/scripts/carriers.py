"""Carriers, coupling, geometry and companions of one (seed, regime), from cached activations and candidate scores.

--activations come in the order of params.steps, --scores in the order of params.scored_steps. A save without scores reads
both carriers at the sites of the scored step before it (the first scored step, where none precedes): selection frozen.
A checkpoint without a refusal carrier has empty cells where one is needed, and is named on stderr. params: seed, regime, steps, anchors
{name: step}, reference (a step), scored_steps, settings (geometry.checkpoint.GeometrySettings).
"""

import sys

import pandas as pd
from _job import Job, JobError

from safety_geometry.artefacts.activations import Activations
from safety_geometry.artefacts.candidate_scores import read_scores
from safety_geometry.artefacts.carriers import write_carriers
from safety_geometry.artefacts.tables.geometry import COUPLING_CONTROLS
from safety_geometry.geometry.checkpoint import GeometrySettings, Save, select_sites
from safety_geometry.geometry.measures import measure
from safety_geometry.geometry.tables import companion_rows, coupling_row, describe_geometry, profile
from safety_geometry.settings.identity import Checkpoint


def main() -> None:
    job = Job(__doc__, ["activations*", "scores*"], ["carriers", "coupling", "geometry", "controls", "profile"])
    settings = GeometrySettings(**job.params["settings"])
    try:
        selected = select_sites(saves(job), settings)
        reference = next(each for each in selected if each.checkpoint.step == job.params["reference"])
        measured = [(each, measure(each, reference, settings)) for each in selected]
        geometry = describe_geometry(selected, reference, settings)
    except ValueError as error:
        raise JobError(f"seed {job.params['seed']}, regime {job.params['regime']}: {error}") from error
    for each in selected:
        if each.carriers.r is None:
            why = f"refusal.contrast: behaviour: {each.carriers.r_missing}"
            print(f"step {each.checkpoint.step}: no refusal carrier: {why}", file=sys.stderr)
    controls = [row for pair in measured for row in companion_rows(*pair)]
    job.write_table(pd.DataFrame([coupling_row(*pair) for pair in measured]), job.coupling)
    job.write_table(pd.DataFrame(controls, columns=COUPLING_CONTROLS.names), job.controls)
    job.write_table(pd.DataFrame(geometry), job.geometry)
    job.write_table(pd.concat([profile(each, settings.h_score) for each in selected]), job.profile)
    with job.publish(job.carriers) as scratch:
        write_carriers(scratch, {each.checkpoint.step: each.carriers for each in selected})


def saves(job: Job) -> list[Save]:
    """Every save in order of its step."""
    p, anchors = job.params, {step: name for name, step in job.params["anchors"].items()}
    steps, scored = p["steps"], p["scored_steps"]
    if len(steps) != len(job.activations) or len(scored) != len(job.scores) or not scored:
        raise JobError(
            f"{len(job.activations)} activation files for steps {steps} and {len(job.scores)} score files for scored_steps "
            f"{scored}: one file per step, and at least one scored step"
        )
    unknown = sorted({*scored, *anchors, p["reference"]} - set(steps))
    if unknown or len(anchors) < len(p["anchors"]):
        raise JobError(f"steps {unknown} have no activations, or two anchors share a step: {p['anchors']}")
    scores = {step: read_scores(path) for step, path in zip(scored, job.scores, strict=True)}
    return [
        Save(
            Checkpoint(p["seed"], p["regime"], step, anchors.get(step)),
            Activations(path),
            step in scores,
            scores.get(step),
        )
        for step, path in sorted(zip(steps, job.activations, strict=True))
    ]


if __name__ == "__main__":
    main()
