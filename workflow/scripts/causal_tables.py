"""causal_sweep, control_normalised, layer_scan and aligned_anchors, from the sweeps of all checkpoints.

--cells, --readout, --judged and --carriers come in the order of params.checkpoints ({seed, regime, step, anchor}). params:
aligned (`regime:anchor` of this study's aligned checkpoints), models (names of the other aligned models), stats_seed, draws.
"""

import numpy as np
import pandas as pd
from _activations import Tensors
from _job import Job, JobError
from _per_checkpoint import by_checkpoint, read_cells, read_judged, read_readout

from safety_geometry.causal.aligned import ARMS, aligned_row
from safety_geometry.causal.aligned import COLUMNS as ALIGNED
from safety_geometry.causal.effects import control_normalised, holm_primary, layer_scan, sweep_table
from safety_geometry.coupling import cosine_coupling, principal_angles


def main() -> None:
    job = Job(
        __doc__, inputs=["cells*", "readout*", "judged*", "carriers*"],
        outputs=["causal_sweep", "control_normalised", "layer_scan", "aligned_anchors"],
    )  # fmt: skip
    p, checkpoints = job.params, job.params["checkpoints"]
    cells, readout, judged, carriers = (
        by_checkpoint(checkpoints, paths, read)
        for paths, read in (
            (job.cells, read_cells), (job.readout, read_readout), (job.judged, read_judged), (job.carriers, Tensors),
        )
    )  # fmt: skip
    sweeps, effects, scans, aligned = [], [], [], []
    for c, frame in cells.items():
        data = frame, readout[c], judged[c] if len(judged[c]) else None
        layers = frame[["carrier_layer_h", "carrier_layer_r"]].iloc[0]
        try:
            sweeps.append(sweep_table(*data).pipe(identified, c))
            effects.append(control_normalised(*data, p["stats_seed"], p["draws"]).pipe(identified, c))
            scans.append(
                layer_scan(*data[:2], tuple(map(int, layers)), p["stats_seed"], p["draws"]).pipe(identified, c)
            )
            name = f"{c.regime}:{c.anchor}"
            if name in p["aligned"] or c.regime in p["models"]:
                aligned += aligned_rows(c, c.regime if c.regime in p["models"] else name, frame, judged[c], carriers[c])
        except ValueError as error:
            raise JobError(f"sweep of {c.regime} at step {c.step}, seed {c.seed}: {error}") from error
    job.write_table(pd.concat(sweeps, ignore_index=True), job.causal_sweep)
    job.write_table(holm_primary(pd.concat(effects, ignore_index=True)), job.control_normalised)
    job.write_table(pd.concat(scans, ignore_index=True), job.layer_scan)
    job.write_table(pd.DataFrame(aligned, columns=list(ALIGNED)), job.aligned_anchors)


def identified(frame: pd.DataFrame, c) -> pd.DataFrame:
    for place, (name, value) in enumerate(c.columns().items()):
        frame.insert(place, name, value)
    return frame


def aligned_rows(c, name: str, cells: pd.DataFrame, judged: pd.DataFrame, carriers: Tensors) -> list[dict]:
    """A row for each family, λ, scope and rank that gave answers for H-only, R-only and R⊥H."""
    facts, step = carriers.describe("carriers")[str(c.step)], f"step{c.step}"
    h, r, h_space, r_space = (carriers.read(f"{step}.{part}") for part in ("h", "r", "h_subspace", "r_subspace"))
    angles = principal_angles(h_space, r_space) if min(h_space.shape[1], r_space.shape[1]) else []
    sites = {f"{what}_{k}": facts[k][full] for k in "hr" for what, full in (("layer", "layer"), ("pos", "position"))}
    rows = []
    spoken = cells[(cells["control"] == "target") & cells["generated"].astype(bool)]
    for (family, strength, scope, rank), group in spoken.groupby(["family", "lambda", "scope", "rank"], sort=False):
        arms = {"baseline": "clean"} | dict(zip(group["mode"], group["cell"], strict=True))
        if all(arm in arms for arm in ARMS):
            rows.append(aligned_row(
                judged, arms, model=name, seed=c.seed, sites=sites, c_cos=cosine_coupling(h, r),
                angles=np.asarray(angles).tolist(), family=family, strength=strength, scope=scope, rank=int(rank),
            ))  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
