"""The four quadrants of input and output, sampled from the answers at all anchors, with the carriers' projections.

Files come in the order of params.checkpoints ({seed, regime, step, anchor}): judged and completions of a checkpoint, the
activations of the asked prompts (--prompts, in the order of the completions), its probe activations and its regime's
carriers. --table carries ids, hashes, labels and scores; the texts go to --texts (private). params: per_quadrant, harmful
and benign (suites), stats_seed.
"""

import numpy as np
import pandas as pd
from _activations import Activations, Tensors
from _job import Job, JobError, read_jsonl
from _per_checkpoint import by_checkpoint, read_judged

from safety_geometry.causal.quadrants import COLUMNS, projection, quadrants, sample

PLACE = ("seed", "regime", "step", "id")  # of an answer


def main() -> None:
    job = Job(
        __doc__, inputs=["judged*", "completions*", "prompts*", "activations*", "carriers*"], outputs=["table", "texts"]
    )
    p, frames, texts = job.params, [], {}
    parts = [
        by_checkpoint(p["checkpoints"], paths, read)
        for paths, read in (
            (job.judged, read_judged), (job.completions, read_jsonl), (job.prompts, Tensors),
            (job.activations, Activations), (job.carriers, Tensors),
        )
    ]  # fmt: skip
    for c in parts[0]:
        judged, rows, prompts, activations, carriers = (part[c] for part in parts)
        if list(judged["id"]) != [row["id"] for row in rows]:
            raise JobError(f"{c.regime} at step {c.step}: judged answers and completions differ; judge them again")
        try:
            judged["quadrant"] = quadrants(judged, p["harmful"], p["benign"])
            for kind in "hr":
                judged[f"proj_{kind}"] = project(prompts, activations, carriers, c.step, kind)
        except ValueError as error:
            raise JobError(f"quadrants of {c.regime} at step {c.step}: {error}") from error
        frames.append(judged.assign(**c.columns()))
        texts |= {(c.seed, c.regime, c.step, r["id"]): {k: r[k] for k in ("prompt", "completion")} for r in rows}
    table = sample(pd.concat(frames, ignore_index=True), p["per_quadrant"], p["stats_seed"])
    job.write_table(table[list(COLUMNS)], job.table)
    kept = table[["quadrant", *PLACE]].to_dict("records")
    job.write_jsonl((row | texts[tuple(row[name] for name in PLACE)] for row in kept), job.texts)


def project(prompts: Tensors, activations: Activations, carriers: Tensors, step: int, kind: str) -> np.ndarray:
    """[n] projections of the asked prompts on a carrier at its site, −1 and +1 at the fit set's class means.

    NaN where the checkpoint has no such carrier.
    """
    facts = carriers.describe("carriers")[str(step)][kind]
    if "missing" in facts:
        return np.full(len(prompts["prompts"]), np.nan)
    position, layer = facts["position"], facts["layer"]
    values = prompts.read("prompts", np.s_[:, prompts.describe("positions").index(position), layer])
    site = activations.index(position), layer
    classes = ("harmful", "benign") if kind == "h" else activations.r_classes()
    means = [activations.mean(label)[site] for label in classes]
    return projection(values, *means, carriers.read(f"step{step}.{kind}"))


if __name__ == "__main__":
    main()
