"""Outcomes of every intervention as one matrix per metric: a row per cell, a column per prompt, nothing missing.

A cell is one intervention on a whole run; `clean` is the run without one. Readouts (a number per cell and prompt from a
forward pass) and judged answers (a row per cell and prompt; `arm` is the cell) become the same thing here.
"""

import numpy as np
import pandas as pd

from safety_geometry.causal.names import CLEAN

READOUTS = ("log_odds", "kl", "kl_answer")
# suite (None: all that the cell answered) and column of the judged answers
ANSWERS = {
    "asr": ("direct", "attack_success"),
    "any_refusal": ("lookalike", "any_refusal"),
    "benign_mean": ("utility", "utility"),
    "degenerate": (None, "degenerate"),
    "usefulness": ("usefulness", "usefulness"),
    "direct_refusal": ("direct", "any_refusal"),
    "degenerate_direct": ("direct", "degenerate"),
}
METRICS = ("log_odds", "kl", "kl_answer", "asr", "direct_refusal", "any_refusal", "benign_mean", "degenerate")
RATES = ("asr", "any_refusal", "degenerate", "direct_refusal", "degenerate_direct")  # outcomes are 0 or 1


def outcome_matrix(metric: str, readout: pd.DataFrame | None, judged: pd.DataFrame | None) -> pd.DataFrame | None:
    """Outcomes [cells, prompts] of a metric, sorted by cell and prompt; None where no cell was measured.

    readout: columns cell, quantity, prompt_id, value. judged: rows of judge.py. Log-odds are those of a refusal (no
    unit), KL is in nats (0 without an intervention, if `clean` has no rows of its own), rates are 0 or 1, utility 0 to
    2. The units of `degenerate` are pairs of suite and prompt. Raises ValueError, naming the cell, when a cell has
    other prompts than `clean`, a prompt twice, or a missing value.
    """
    if metric in READOUTS:
        if readout is None:
            return None
        rows = readout[readout["quantity"] == metric]
        rows = pd.DataFrame({"cell": rows["cell"], "unit": rows["prompt_id"].astype(str), "value": rows["value"]})
    else:
        if judged is None:
            return None
        suite, column = ANSWERS[metric]
        rows = judged if suite is None else judged[judged["suite"] == suite]
        unit = rows["prompt_id"].astype(str)
        if suite is None:
            unit = rows["suite"] + ":" + unit
        rows = pd.DataFrame({"cell": rows["arm"], "unit": unit, "value": rows[column]})
    return _matrix(rows, metric) if len(rows) else None


def outcome_matrices(readout: pd.DataFrame | None, judged: pd.DataFrame | None) -> dict[str, pd.DataFrame]:
    """`outcome_matrix` of every metric of the sweep that was measured."""
    matrices = {metric: outcome_matrix(metric, readout, judged) for metric in METRICS}
    return {metric: matrix for metric, matrix in matrices.items() if matrix is not None}


def _matrix(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    values = rows["value"].astype(float)
    bad = ~np.isfinite(values)
    if bad.any():
        raise ValueError(f"cell {rows.loc[bad, 'cell'].iloc[0]}: {int(bad.sum())} prompts have no {metric}")
    twice = rows.duplicated(["cell", "unit"])
    if twice.any():
        raise ValueError(f"cell {rows.loc[twice, 'cell'].iloc[0]}: a prompt occurs twice in {metric}")
    rows = rows.assign(value=values)
    matrix = rows.pivot_table(index="cell", columns="unit", values="value", aggfunc="first")  # sorted both ways
    matrix.index.name = matrix.columns.name = None
    if CLEAN not in matrix.index:
        if metric not in ("kl", "kl_answer"):
            raise ValueError(f"cell {CLEAN} has no {metric}, which {matrix.index[0]} has; run both on the same prompts")
        matrix = pd.concat([matrix, pd.DataFrame(0.0, index=[CLEAN], columns=matrix.columns)]).sort_index()
    lacking = matrix.isna()
    if lacking.to_numpy().any():
        here = lacking.loc[CLEAN]
        cells = lacking.index[lacking.any(axis=1)]
        # Where clean lacks prompts, every cell that has them is too many: name that one.
        cell = matrix.index[matrix.loc[:, here].notna().any(axis=1)][0] if here.any() else cells[0]
        number = int(here.sum()) if here.any() else int(lacking.loc[cell].sum())
        what = f"{number} prompts that {CLEAN} lacks" if here.any() else f"{number} prompts of {CLEAN} missing"
        raise ValueError(f"cell {cell}: {metric} has {what}; all cells have to answer the same prompts")
    return matrix
