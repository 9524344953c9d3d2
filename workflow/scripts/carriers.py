"""Carriers, coupling, geometry and companions of one (seed, regime), from cached activations and candidate scores.

--activations come in the order of params.steps, --scores in the order of params.scored_steps. A save without scores reads
both carriers at the sites of the scored step before it (the first scored step, where none precedes): selection frozen.
A checkpoint without a refusal carrier (see checkpoint.py of the library) has empty cells where one is needed, and is named on stderr.
"""

import json
import sys

import pandas as pd
from _activations import Activations, read_scores
from _job import Job, JobError
from safetensors.numpy import save_file

from safety_geometry.checkpoint import Checkpoint, freeze_sites
from safety_geometry.geometry_tables import CONTROLS, couple_one, describe_geometry, profile


def main() -> None:
    job = Job(__doc__, ["activations*", "scores*"], ["carriers", "coupling", "geometry", "controls", "profile"])
    params = job.params
    try:
        checkpoints = load(job)
        reference = next(c for c in checkpoints if c.step == params["reference"])
        coupling, controls = zip(*(couple_one(c, reference, params) for c in checkpoints), strict=True)
        geometry = describe_geometry(checkpoints, params)
        tensors, metadata = pack(checkpoints)
    except ValueError as error:
        raise JobError(f"seed {params['seed']}, regime {params['regime']}: {error}") from error
    job.write_table(pd.DataFrame(list(coupling)), job.coupling)
    for c in checkpoints:
        if not c.has_r:
            print(f"step {c.step}: no refusal carrier: {c.r_missing}", file=sys.stderr)
    job.write_table(pd.DataFrame([row for rows in controls for row in rows], columns=CONTROLS), job.controls)
    job.write_table(pd.DataFrame(geometry), job.geometry)
    job.write_table(pd.concat([profile(c, params) for c in checkpoints]), job.profile)
    with job.publish(job.carriers) as scratch:
        save_file(tensors, scratch, metadata)


def load(job: Job) -> list[Checkpoint]:
    """Every save in order of its step, sites chosen."""
    params = job.params
    steps, scored = params["steps"], params["scored_steps"]
    if len(steps) != len(job.activations) or len(scored) != len(job.scores) or not scored:
        raise JobError(
            f"{len(job.activations)} activation files for steps {steps} and {len(job.scores)} score files for scored_steps "
            f"{scored}: one file per step, and at least one scored step"
        )
    names = {step: name for name, step in params["anchors"].items()}
    unknown = sorted({*scored, *names, params["reference"]} - set(steps))
    if unknown or len(names) < len(params["anchors"]):
        raise JobError(f"steps {unknown} have no activations, or two anchors share a step: {params['anchors']}")
    scores = dict(zip(scored, job.scores, strict=True))
    checkpoints = []
    for step, path in sorted(zip(steps, job.activations, strict=True)):
        found = read_scores(scores[step]) if step in scores else None
        checkpoints.append(Checkpoint(step, names.get(step, ""), Activations(path), params, found, step in scores))
    freeze_sites(checkpoints)
    return checkpoints


def pack(checkpoints: list[Checkpoint]) -> tuple[dict, dict[str, str]]:
    """Tensors by step, and one metadata entry: several would be written in an order that changes from run to run."""
    tensors, facts = {}, {}
    for c in checkpoints:
        facts[str(c.step)] = {"anchor": c.anchor, "selection": c.selection}
        for kind in "HR":
            key = kind.lower()
            if kind == "R" and not c.has_r:
                facts[str(c.step)][key] = {"missing": c.r_missing}
                continue
            carrier = c.carrier(kind)
            tensors[f"step{c.step}.{key}"] = carrier.direction.astype("float32")
            tensors[f"step{c.step}.{key}_subspace"] = c.subspace(kind).astype("float32", order="C")
            facts[str(c.step)][key] = {
                "layer": carrier.layer, "position": carrier.position, "norm": carrier.norm,
                "score": None if carrier.score != carrier.score else carrier.score, "admissible": carrier.admissible,
            }  # fmt: skip
    return tensors, {"carriers": json.dumps(facts, sort_keys=True)}


if __name__ == "__main__":
    main()
