"""causal_sweep, control_normalised, sweep_pooled, layer_scan and aligned_anchors, from the sweeps of all checkpoints.

--cells, --readout, --judged and --carriers come in the order of params.checkpoints ({seed, regime, step, anchor}).
params: aligned (`regime:anchor` of this study's aligned checkpoints), models (names of the other aligned models),
max_kl (of the layer scan's recommendation, or None), stats_seed, draws.
"""

from pathlib import Path

import pandas as pd
from _job import Job, explained

from safety_geometry.artefacts.carriers import read_carriers
from safety_geometry.artefacts.per_checkpoint import by_checkpoint, identified
from safety_geometry.artefacts.tables.causal import ALIGNED_ANCHORS
from safety_geometry.artefacts.tables.files import read_table
from safety_geometry.causal.aligned import aligned_rows
from safety_geometry.causal.effects import control_normalised, holm_primary, sweep_table
from safety_geometry.causal.layer_scan import layer_scan
from safety_geometry.causal.pooled import sweep_pooled
from safety_geometry.settings.identity import Checkpoint


def main() -> None:
    job = Job(
        __doc__, inputs=["cells*", "readout*", "judged*", "carriers*"],
        outputs=["causal_sweep", "control_normalised", "sweep_pooled", "layer_scan", "aligned_anchors"],
    )  # fmt: skip
    params, checkpoints = job.params, [Checkpoint(**identity) for identity in job.params["checkpoints"]]
    read = (by_checkpoint(checkpoints, paths, read_table) for paths in (job.cells, job.readout, job.judged))
    cells, readouts, judged = read
    carriers = by_checkpoint(checkpoints, job.carriers, Path)
    data, sweeps, effects, scans, aligned, bootstrap = {}, [], [], [], [], (params["stats_seed"], params["draws"])
    for checkpoint in checkpoints:
        frame, readout, answers = cells[checkpoint], readouts[checkpoint], judged[checkpoint]
        data[checkpoint] = measured = (frame, readout, answers if len(answers) else None)
        columns, known = checkpoint.columns(), (frame[f"carrier_layer_{kind}"].iloc[0] for kind in "hr")
        layers = tuple(None if pd.isna(layer) else int(layer) for layer in known)
        model = checkpoint.regime in params["models"]
        name = checkpoint.regime if model else f"{checkpoint.regime}:{checkpoint.anchor}"
        with explained(
            ValueError, of=f"sweep of {checkpoint.regime} at step {checkpoint.step}, seed {checkpoint.seed}"
        ):
            sweeps.append(identified(sweep_table(*measured), columns))
            effects.append(identified(control_normalised(*measured, *bootstrap), columns))
            scans.append(identified(layer_scan(frame, readout, layers, params["max_kl"], *bootstrap), columns))
            if model or name in params["aligned"]:
                kept = read_carriers(carriers[checkpoint], checkpoint.step)
                aligned += aligned_rows(name, checkpoint.seed, frame, answers, kept)
    job.write_table(pd.concat(sweeps, ignore_index=True), job.causal_sweep)
    job.write_table(holm_primary(pd.concat(effects, ignore_index=True)), job.control_normalised)
    job.write_table(sweep_pooled(data, *bootstrap), job.sweep_pooled)
    job.write_table(pd.concat(scans, ignore_index=True), job.layer_scan)
    job.write_table(pd.DataFrame(aligned, columns=ALIGNED_ANCHORS.names), job.aligned_anchors)


if __name__ == "__main__":
    main()
