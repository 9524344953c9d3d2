"""Effects of the sweep over seeds: the mean of the seeds' Δ, permuted likewise.

A seed is a run of its own, with its own prompts, carriers and controls. Were a target one more direction of its
controls' kinds in every seed, the mean over seeds of target and of the i-th controls would be exchangeable: so the
directions of the seeds are taken together by index.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from safety_geometry.artefacts.tables.causal import SWEEP_POOLED
from safety_geometry.causal.effects import CONTROLS, PROMPTS, TESTED, exchanged_p, weights
from safety_geometry.causal.names import CLEAN, SHARED
from safety_geometry.causal.outcomes import outcome_matrices
from safety_geometry.settings.identity import Checkpoint
from safety_geometry.stats.estimates import holm, percentiles

Sweep = tuple[pd.DataFrame, pd.DataFrame | None, pd.DataFrame | None]
"""cells, readout and judged answers of one checkpoint."""


def sweep_pooled(sweeps: Mapping[Checkpoint, Sweep], rng_seed: int = 0, draws: int = 2000) -> pd.DataFrame:
    """The table sweep_pooled: per regime, anchor, target and metric, beside the pooled controls.

    delta, control_mean and delta_control are means over the seeds that have the target and a control that is not
    capped. lo, hi: 95 % over prompts and controls, resampled within each seed (these seeds); lo_seeds, hi_seeds:
    Student's t over the seeds' values (seeds like these), empty with one. Primary targets have a permutation p on the
    log-odds (`mean_p`), which Holm adjusts over the primary cells of a regime. Raises ValueError (see
    `outcome_matrix`).
    """
    by_anchor: dict[tuple[str, str], dict[int, Sweep]] = {}
    for checkpoint, sweep in sweeps.items():
        by_anchor.setdefault((checkpoint.regime, checkpoint.anchor), {})[checkpoint.seed] = sweep
    rows = [
        {"regime": regime, "anchor": anchor} | row
        for (regime, anchor), of_seeds in by_anchor.items()
        for row in _of_anchor(of_seeds, rng_seed, draws)
    ]
    table = pd.DataFrame(rows, columns=SWEEP_POOLED.names)
    table = table.astype({name: float for name in table if name.startswith(("p_", "lo", "hi"))})
    for _, part in table[table["p_permutation"].notna()].groupby("regime", sort=False):
        table.loc[part.index, "p_holm"] = holm(part["p_permutation"])
    return table


def _of_anchor(sweeps: Mapping[int, Sweep], rng_seed: int, draws: int) -> Iterator[dict]:
    """Rows of one regime's anchor, from its sweep in each seed."""
    matrices = {seed: outcome_matrices(readout, judged) for seed, (_, readout, judged) in sweeps.items()}
    cells = [frame[frame["control"] == "target"] for frame, _, _ in sweeps.values()]
    for target in pd.concat(cells).drop_duplicates("cell").to_dict("records"):
        for metric in dict.fromkeys(name for of_seed in matrices.values() for name in of_seed):
            measured = {
                seed: differences
                for seed, of_seed in matrices.items()
                if metric in of_seed and (differences := _differences(sweeps[seed][0], target["cell"], of_seed[metric]))
            }
            if measured:
                yield _pooled(target, metric, measured, rng_seed, draws)


def mean_p(effects: Sequence[float], controls: Sequence[Mapping[str, np.ndarray]]) -> tuple[float, float, int]:
    """Two-sided permutation p of the mean of the seeds' effects, the least that it can be, and the directions behind
    it.

    effects: the target's Δ in each seed; controls: each seed's Δ of its controls by kind, in the order of their
    numbers. The i-th control of a kind of every seed makes one direction, as far as the seed with the fewest goes.
    """
    means = [np.mean(by_index, axis=0) for by_index in _by_index(controls).values()]
    null = np.concatenate(means)
    return *exchanged_p(float(np.mean(effects)), null), len(null)


def _by_index(controls: Sequence[Mapping[str, np.ndarray]]) -> dict[str, list[np.ndarray]]:
    """Of each kind the first controls of every seed, as many as the seed with the fewest has."""
    common = {kind: min(len(seed.get(kind, ())) for seed in controls) for kind in controls[0]}
    return {kind: [seed[kind][:n] for seed in controls] for kind, n in common.items() if n}


def _differences(cells: pd.DataFrame, target: str, matrix: pd.DataFrame) -> dict[str, np.ndarray]:
    """Differences to clean [controls, prompts] by kind, and of the target [1, prompts]; empty without target or
    control."""
    beside = cells[(cells["target"] == target) & cells["control"].isin(SHARED) & cells["cell"].isin(matrix.index)]
    beside = beside[~beside["capped"].astype(bool)].sort_values("number", kind="stable")
    if target not in matrix.index or not len(beside):
        return {}
    clean = matrix.loc[CLEAN].to_numpy()
    by_kind = {kind: beside.loc[beside["control"] == kind, "cell"] for kind in SHARED}
    rows = {"target": [target]} | {kind: list(names) for kind, names in by_kind.items() if len(names)}
    return {kind: matrix.loc[names].to_numpy() - clean for kind, names in rows.items()}


def _pooled(target: dict, metric: str, measured: Mapping[int, dict], rng_seed: int, draws: int) -> dict:
    deltas, means, resampled, controls = [], [], [], []
    for seed, differences in measured.items():
        own = differences["target"][0]
        others = np.concatenate([rows for kind, rows in differences.items() if kind != "target"])
        deltas.append(own.mean())
        means.append(others.mean())
        prompts = weights(rng_seed, PROMPTS, len(own), draws, seed)
        chosen = weights(rng_seed, CONTROLS, len(others), draws, seed)
        resampled.append(prompts @ own - np.einsum("bm,bm->b", chosen, prompts @ others.T))
        controls.append({kind: rows.mean(axis=1) for kind, rows in differences.items() if kind != "target"})
    row = {name: target[name] for name in ("target", "family", "mode", "scope", "rank", "lambda")}
    beyond = np.subtract(deltas, means)
    lo, hi = percentiles(np.mean(resampled, axis=0))
    row |= {
        "metric": metric,
        "n_seeds": len(measured),
        "delta": np.mean(deltas),
        "control_mean": np.mean(means),
        "delta_control": beyond.mean(),
        "lo": lo,
        "hi": hi,
        "n_prompts": sum(differences["target"].shape[1] for differences in measured.values()),
        "n_controls": sum(len(by_index[0]) for by_index in _by_index(controls).values()),
        "primary": bool(target["primary"]),
    }
    if len(measured) > 1:
        half = stdtrit(len(measured) - 1, 0.975) * beyond.std(ddof=1) / np.sqrt(len(measured))
        row |= {"lo_seeds": beyond.mean() - half, "hi_seeds": beyond.mean() + half}
    if row["primary"] and metric == TESTED and row["n_controls"]:
        row["p_permutation"], row["p_smallest"], _ = mean_p(deltas, controls)
    return row
