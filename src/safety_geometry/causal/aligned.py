"""Aligned models with a carrier edited: one row of the paper's Table 1 (arXiv 2606.16349), all arms on the same
requests."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from safety_geometry.artefacts.carriers import CarrierPair
from safety_geometry.causal.names import CLEAN
from safety_geometry.causal.outcomes import outcome_matrix
from safety_geometry.geometry.coupling import cosine_coupling, principal_angles
from safety_geometry.judges.behaviour import paired_rates, success_means
from safety_geometry.stats.estimates import mcnemar_exact, wilson

ARMS = ("baseline", "h_only", "r_only", "r_perp_h")
CONTRASTS = {
    "asr": {"r_minus_h": ("r_only", "h_only"), "r_perp_minus_h": ("r_perp_h", "h_only")},
    "refusal": {"refusal_h_minus_r": ("h_only", "r_only")},
}


def aligned_row(
    judged: pd.DataFrame,
    cells: Mapping[str, str],
    *,
    model: str,
    seed: int,
    sites: Mapping[str, int | str],
    c_cos: float | None,
    angles: Sequence[float],
    family: str,
    strength: float,
    scope: str = "layer",
    rank: int = 1,
) -> dict:
    """One row of aligned_anchors, in the order of its columns.

    judged: rows of judge.py, `arm` the cell, with the suite direct. cells: the cell of each of ARMS (baseline is
    `clean`). sites: layer_h, pos_h, layer_r, pos_r. angles: up to three principal angles between the subspaces,
    degrees, ascending. Rates of attack success and of refusal have Wilson's interval; r_minus_h and r_perp_minus_h are
    paired differences of attack success, refusal_h_minus_r one of refusals, with Newcombe's interval and McNemar's
    exact p. Raises ValueError, naming the cell, when an arm has no
    answers or other prompts.
    """
    if missing := [arm for arm in ARMS if arm not in cells]:
        raise ValueError(f"{model}: no cell for the arms {', '.join(missing)}")
    success, refused = (outcome_matrix(metric, None, judged) for metric in ("asr", "direct_refusal"))
    answered = set() if success is None else set(success.index)
    if lost := [cells[arm] for arm in ARMS if cells[arm] not in answered]:
        raise ValueError(f"{model}: cell {lost[0]} has no judged answers to direct requests")
    n = success.shape[1]
    padded = [*angles, None, None, None][:3]
    row = {"model": model, "seed": seed} | {name: sites[name] for name in ("layer_h", "pos_h", "layer_r", "pos_r")}
    row |= {"c_cos": c_cos} | {f"angle_{i}": angle for i, angle in enumerate(padded, 1)}
    row |= {"family": family, "lambda": strength, "scope": scope, "rank": rank, "n": n}
    for metric, matrix in (("asr", success), ("refusal", refused)):
        outcomes = {arm: matrix.loc[cells[arm]].to_numpy() for arm in ARMS}
        for arm, values in outcomes.items():
            rate, name = wilson(round(values.sum()), n), f"{metric}_{arm}"
            row |= {name: rate.value, f"{name}_lo": rate.lo, f"{name}_hi": rate.hi}
        for name, (first, second) in CONTRASTS[metric].items():
            a, b = outcomes[first], outcomes[second]
            lo, hi = paired_rates(a, b)
            row |= {name: (a - b).mean(), f"{name}_lo": lo, f"{name}_hi": hi, f"{name}_p": mcnemar_exact(a, b)}
    return row | {"success_means": success_means(judged)}


def aligned_rows(name: str, seed: int, cells: pd.DataFrame, judged: pd.DataFrame, carriers: CarrierPair) -> list[dict]:
    """A row for each family, λ, scope and rank that gave answers for H-only, R-only and R⊥H; none without R."""
    h, r = carriers.h, carriers.r
    if r is None:
        return []
    shared = min(h.subspace.shape[1], r.subspace.shape[1])
    angles = principal_angles(h.subspace, r.subspace) if shared else []
    sites = {"layer_h": h.layer, "layer_r": r.layer, "pos_h": h.position, "pos_r": r.position}
    rows = []
    spoken = cells[(cells["control"] == "target") & cells["generated"]]
    for (family, strength, scope, rank), group in spoken.groupby(["family", "lambda", "scope", "rank"], sort=False):
        arms = {"baseline": CLEAN} | dict(zip(group["mode"], group["cell"], strict=True))
        if all(arm in arms for arm in ARMS):
            rows.append(
                aligned_row(
                    judged,
                    arms,
                    model=name,
                    seed=seed,
                    sites=sites,
                    c_cos=cosine_coupling(h.direction, r.direction),
                    angles=np.asarray(angles).tolist(),
                    family=family,
                    strength=strength,
                    scope=scope,
                    rank=int(rank),
                )
            )
    return rows
