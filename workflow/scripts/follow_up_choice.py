"""Which cells of a seed's sweeps are followed up: the targets of largest Δ_control of ASR on half of the direct prompts.

--cells, --readout and --judged come in the order of params.checkpoints ({seed, regime, step, anchor}). params: targets and
controls (numbers), stats_seed. The choice lists the cells, each with the digest of what it does, and the direct
prompts of the other half, which score them.
"""

import pandas as pd
from _job import Job, JobError
from _per_checkpoint import by_checkpoint, read_cells, read_judged, read_readout

from safety_geometry.causal.follow_up import choose, split_half


def main() -> None:
    job = Job(__doc__, inputs=["cells*", "readout*", "judged*"], outputs=["choice"])
    p = job.params
    cells = by_checkpoint(p["checkpoints"], job.cells, read_cells)
    judged = by_checkpoint(p["checkpoints"], job.judged, read_judged)
    readout = by_checkpoint(p["checkpoints"], job.readout, read_readout)
    try:
        chosen = choose(cells, judged, p["targets"], p["controls"], p["stats_seed"], readout)
        direct = {i for frame in judged.values() for i in frame.loc[frame["suite"] == "direct", "prompt_id"]}
        scoring = list(split_half(direct, p["stats_seed"]).scoring)
    except ValueError as error:
        raise JobError(f"follow-up: {error}") from error
    digests = {c: dict(zip(frame["cell"], frame["digest"], strict=True)) for c, frame in cells.items()}
    rows = [
        {k: None if pd.isna(v) else v for k, v in row.items() if k != "checkpoint"}
        | vars(row["checkpoint"])
        | {"digest": digests[row["checkpoint"]][row["cell"]]}
        for row in chosen.to_dict("records")
    ]
    job.write_json({"chosen": rows, "scoring": scoring}, job.choice)


if __name__ == "__main__":
    main()
