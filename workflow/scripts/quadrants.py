"""The four quadrants of input and output, sampled from the answers at all anchors, with the carriers' projections.

Files come in the order of params.checkpoints ({seed, regime, step, anchor}): judged and completions of a checkpoint,
the activations of the asked prompts (--prompts, in the order of the completions), its probe activations and its
regime's carriers. --table carries ids, hashes, labels and scores; the texts go to --texts (private). params:
per_quadrant, harmful and benign (suites), stats_seed.
"""

from pathlib import Path

import pandas as pd
from _job import Job, JobError, explained

from safety_geometry.artefacts.activations import Activations
from safety_geometry.artefacts.carriers import read_carriers
from safety_geometry.artefacts.jsonl import read_jsonl
from safety_geometry.artefacts.per_checkpoint import by_checkpoint
from safety_geometry.artefacts.prompt_activations import PromptActivations
from safety_geometry.artefacts.tables.files import read_table
from safety_geometry.artefacts.tables.follow_up import QUADRANTS
from safety_geometry.causal.quadrants import projections, quadrants, sample
from safety_geometry.settings.identity import Checkpoint

PLACE = ("seed", "regime", "step", "id")  # of an answer
TEXTS = ("prompt", "completion")


def main() -> None:
    job = Job(
        __doc__, inputs=["judged*", "completions*", "prompts*", "activations*", "carriers*"], outputs=["table", "texts"]
    )
    params, frames, texts = job.params, [], {}
    checkpoints = [Checkpoint(**identity) for identity in params["checkpoints"]]
    completions = by_checkpoint(checkpoints, job.completions, read_jsonl)
    prompts = by_checkpoint(checkpoints, job.prompts, PromptActivations)
    activations = by_checkpoint(checkpoints, job.activations, Activations)
    carriers = by_checkpoint(checkpoints, job.carriers, Path)
    for checkpoint, judged in by_checkpoint(checkpoints, job.judged, read_table).items():
        place, rows = f"{checkpoint.regime} at step {checkpoint.step}", completions[checkpoint]
        if list(judged["id"]) != [row["id"] for row in rows]:
            raise JobError(f"{place}: judged answers and completions differ; judge them again")
        with explained(ValueError, of=f"quadrants of {place}"):
            judged["quadrant"] = quadrants(judged, params["harmful"], params["benign"])
            pair = read_carriers(carriers[checkpoint], checkpoint.step)
            scores = projections(prompts[checkpoint], activations[checkpoint], pair)
        frames.append(judged.assign(**scores, **checkpoint.columns()))
        key = (checkpoint.seed, checkpoint.regime, checkpoint.step)
        texts |= {(*key, row["id"]): {name: row[name] for name in TEXTS} for row in rows}
    table = sample(pd.concat(frames, ignore_index=True), params["per_quadrant"], params["stats_seed"])
    job.write_table(table[QUADRANTS.names], job.table)
    kept = table[["quadrant", *PLACE]].to_dict("records")
    job.write_jsonl((row | texts[tuple(row[name] for name in PLACE)] for row in kept), job.texts)


if __name__ == "__main__":
    main()
