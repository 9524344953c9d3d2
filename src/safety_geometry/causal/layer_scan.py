"""Where an intervention acts: its effect layer by layer, beside controls of its own, and the layer and strength to
use."""

import numpy as np
import pandas as pd

from safety_geometry.artefacts.tables.causal import LAYER_SCAN
from safety_geometry.artefacts.tables.families import CHECKPOINT
from safety_geometry.causal.effects import PROMPTS, towards_refusal, two_level, weights
from safety_geometry.causal.names import CLEAN, SCAN, SCAN_CONTROLS
from safety_geometry.causal.outcomes import outcome_matrix
from safety_geometry.stats.estimates import percentiles

COLUMNS = LAYER_SCAN.names[len(CHECKPOINT) :]  # rows here are of one checkpoint


def layer_scan(
    cells: pd.DataFrame,
    readout: pd.DataFrame,
    carrier_layers: tuple[int, int],
    max_kl: float | None = None,
    rng_seed: int = 0,
    draws: int = 2000,
) -> pd.DataFrame:
    """Rows of layer_scan of one checkpoint: the effect of a mode when it acts at each layer, beside the carriers' own.

    carrier_layers: (L_H, L_R). max_kl: nats on benign prompts that a recommended cell may cost (`recommended`). A scan
    cell names its layer in layer_h or layer_r, or the same in both; its controls name it as their target. lo, hi:
    bootstrap over prompts of the paired log-odds difference to clean; delta_control_lo, _hi: over prompts and controls
    (`two_level`), capped controls left out. Raises ValueError for a cell that acts at two layers or none.
    """
    scan = cells[cells["control"] == SCAN].drop_duplicates("cell")
    controls = cells[cells["control"].isin(SCAN_CONTROLS) & ~cells["capped"].fillna(False).astype(bool)]
    beside = {target: list(part["cell"]) for target, part in controls.groupby("target", sort=False)}
    log_odds, kl = (outcome_matrix(metric, readout, None) for metric in ("log_odds", "kl"))
    rows = []
    for cell in scan.to_dict("records"):
        layers = {int(cell[name]) for name in ("layer_h", "layer_r") if pd.notna(cell[name])}
        if len(layers) != 1:
            raise ValueError(f"cell {cell['cell']}: a layer scan acts at one layer, got {sorted(layers)}")
        if log_odds is None or cell["cell"] not in log_odds.index:
            raise ValueError(f"cell {cell['cell']}: no log_odds in the readout")
        mine = [cell["cell"], *beside.get(cell["cell"], [])]
        differences = log_odds.loc[mine].to_numpy() - log_odds.loc[CLEAN].to_numpy()
        resampled = differences @ weights(rng_seed, PROMPTS, differences.shape[1], draws).T
        lo, hi = percentiles(resampled[0])
        row = {
            "family": cell["family"],
            "mode": cell["mode"],
            "lambda": cell["lambda"],
            "layer": layers.pop(),
            "log_odds_delta": differences[0].mean(),
            "lo": lo,
            "hi": hi,
            "n": differences.shape[1],
            "n_controls": len(differences) - 1,
            "kl_benign": kl.loc[cell["cell"]].mean() if kl is not None and cell["cell"] in kl.index else np.nan,
            "max_kl": max_kl,
            "layer_h": carrier_layers[0],
            "layer_r": carrier_layers[1],
        }
        if len(differences) > 1:
            row["control_mean"] = differences[1:].mean()
            row["delta_control"] = row["log_odds_delta"] - row["control_mean"]
            row["delta_control_lo"], row["delta_control_hi"] = two_level(resampled[0], resampled[1:], rng_seed)
        rows.append(row)
    table = pd.DataFrame(rows, columns=COLUMNS)
    numbers = ("control_mean", "delta_control", "delta_control_lo", "delta_control_hi", "kl_benign", "max_kl")
    return recommended(table.astype(dict.fromkeys(numbers, float)))


def recommended(table: pd.DataFrame) -> pd.DataFrame:
    """The scan with `recommended`: of each family and mode the layer and λ with the largest effect beyond its controls,
    in the direction that the intervention is for, among those whose interval excludes 0 and whose KL on benign prompts
    is at most max_kl. None where no cell is such, or there are no controls or no budget."""
    wanted = towards_refusal(table)
    beyond = wanted * table["delta_control"]
    nearest = table["delta_control_lo"].where(wanted > 0, -table["delta_control_hi"])
    fit = beyond[(nearest > 0) & (table["kl_benign"] <= table["max_kl"])]
    best = fit.groupby([table["family"], table["mode"]]).idxmax()
    return table.assign(recommended=table.index.isin(best))
