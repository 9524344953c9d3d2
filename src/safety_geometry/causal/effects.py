"""What an intervention does, beside what its matched controls do (arXiv 2606.16349, control-normalised effects).

Cells come as one row per intervention and target (a control that serves several targets stands once for each), outcomes
as in `outcomes`. Every interval is of 95 %.
"""

from functools import lru_cache

import numpy as np
import pandas as pd

from safety_geometry.artefacts.tables import causal as specified
from safety_geometry.artefacts.tables.causal import CAUSAL_SWEEP, CONTROL_NORMALISED
from safety_geometry.artefacts.tables.families import CHECKPOINT
from safety_geometry.artefacts.tables.specification import names
from safety_geometry.causal.names import CLEAN, KINDS, SCAN, SCAN_CONTROLS, SHARED
from safety_geometry.causal.outcomes import RATES, outcome_matrices
from safety_geometry.judges.behaviour import paired_rates, success_means
from safety_geometry.stats.estimates import holm, percentiles, permutation_p, resampling_weights, wilson
from safety_geometry.stats.seeds import generator

DESCRIPTION, MEASURED = names(specified.DESCRIPTION), names(specified.MEASURED)
NORMALISED = CONTROL_NORMALISED.names[len(CHECKPOINT) :]  # rows here are of one checkpoint
REFUSAL = "direct_refusal"
TESTED = "log_odds"  # the metric with a permutation p: cheap enough for the hundreds of directions that a p needs
PROMPTS, CONTROLS = "prompts", "controls"  # streams of the bootstrap


def sweep_table(cells: pd.DataFrame, readout: pd.DataFrame | None, judged: pd.DataFrame | None) -> pd.DataFrame:
    """Rows of causal_sweep of one checkpoint, in the order of `cells` (layer-scan cells left out).

    Means per cell with n; rates with Wilson's interval; log_odds_delta, asr_delta and direct_refusal_delta are minus
    `clean` on the same prompts (rates with Newcombe's paired interval); wrong_way is the share of prompts whose
    log-odds move against what the target is for (`towards_refusal`). What was not measured is empty. Raises ValueError
    (see `outcome_matrix`).
    """
    listed = ~cells["control"].isin([SCAN, *SCAN_CONTROLS])
    table = cells.loc[listed, ["cell", *DESCRIPTION]].reset_index(drop=True)
    table = table.assign(target=table["target"].replace("", None))
    names = {"kl": ("kl_benign", "n_kl"), "benign_mean": ("benign_mean", "n_benign")}
    for metric, matrix in outcome_matrices(readout, judged).items():
        name, count = names.get(metric, (metric, f"n_{metric}"))
        n, by_cell = matrix.shape[1], pd.DataFrame(index=matrix.index)
        by_cell[name], by_cell[count] = matrix.mean(axis=1), n
        if metric == "log_odds":
            moved = matrix - matrix.loc[CLEAN]
            by_cell["log_odds_delta"] = moved.mean(axis=1)
            rises, falls = (table["cell"].map(share) for share in ((moved > 0).mean(axis=1), (moved < 0).mean(axis=1)))
            wanted = towards_refusal(table)
            table["wrong_way"] = falls.where(wanted > 0, rises.where(wanted < 0))
        if metric in RATES:
            bounds = [wilson(round(k), n) for k in matrix.sum(axis=1)]
            by_cell[f"{name}_lo"], by_cell[f"{name}_hi"] = [b.lo for b in bounds], [b.hi for b in bounds]
        if metric in ("asr", REFUSAL):
            clean = matrix.loc[CLEAN].to_numpy()
            paired = [paired_rates(row, clean) for row in matrix.to_numpy()]
            ends = [f"{metric}_delta_lo", f"{metric}_delta_hi"]
            by_cell[f"{metric}_delta"] = (matrix - clean).mean(axis=1)
            by_cell[ends[0]], by_cell[ends[1]] = [p[0] for p in paired], [p[1] for p in paired]
            by_cell.loc[CLEAN, ends] = 0.0  # the same answers, not a second sample
        table = table.join(by_cell, on="cell")
    table["success_means"] = None if judged is None else success_means(judged)
    table = table.reindex(columns=[*DESCRIPTION, *MEASURED])
    return table.astype({name: "Int64" for name in CAUSAL_SWEEP.whole_numbers if name in table})


def towards_refusal(cells: pd.DataFrame) -> pd.Series:
    """1 where an intervention is to raise refusal (a carrier added with λ > 0, or amplified by an ablation of λ < 0),
    −1 where it is to lower it, 0 or NaN where it does nothing."""
    return np.sign(cells["lambda"].astype(float)) * cells["family"].map({"steer": 1.0, "ablate": -1.0})


def control_normalised(
    cells: pd.DataFrame, readout: pd.DataFrame | None, judged: pd.DataFrame | None, rng_seed: int = 0, draws: int = 2000
) -> pd.DataFrame:
    """Rows of control_normalised of one checkpoint: per target and metric, pooled controls and each kind of them.

    delta = target − clean and control_mean = mean over the controls of theirs, both over the same prompts, so that
    delta_control = delta − control_mean (arXiv 2606.16349). Capped controls count in n_capped only. lo and hi:
    `two_level`. Of rates stands beside them the control that the target exceeds least (`_worst`), and of direct_refusal
    half of the baseline less the value. Primary targets have a permutation p on the log-odds (`exchanged_p`):
    p_permutation beside the pooled controls decides, p_kind beside one kind describes; p_holm is left empty for
    `holm_primary`. Metrics without a control have no row. Raises ValueError (see `outcome_matrix`).
    """
    rows = []
    matrices = outcome_matrices(readout, judged)
    described = cells[cells["control"] == "target"]
    served = dict(list(cells[cells["control"].isin(KINDS)].groupby("target", sort=False)))
    for target in described.to_dict("records"):
        of_target = served.get(target["cell"])
        if of_target is None:
            continue
        for metric, matrix in matrices.items():
            controls = of_target[of_target["cell"].isin(matrix.index)]
            if target["cell"] in matrix.index and len(controls):
                rows += _normalised(target, controls, metric, matrix, rng_seed, draws)
    table = pd.DataFrame(rows, columns=NORMALISED)
    table["success_means"] = None if judged is None else success_means(judged)
    return table.astype({name: float for name in NORMALISED if name.startswith("p_")})


def _normalised(
    target: dict, controls: pd.DataFrame, metric: str, matrix: pd.DataFrame, rng_seed: int, draws: int
) -> list[dict]:
    clean = matrix.loc[CLEAN].to_numpy()
    outcomes = matrix.loc[[target["cell"], *controls["cell"]]].to_numpy()
    differences = outcomes - clean
    means = differences.mean(axis=1)
    resampled = differences @ weights(rng_seed, PROMPTS, len(clean), draws).T  # [1 + controls, draws]
    ends = paired_rates(outcomes[0], clean) if metric in RATES else percentiles(resampled[0])
    of_target = {"delta": means[0], "delta_lo": ends[0], "delta_hi": ends[1]}
    if metric == REFUSAL:
        halved = paired_rates(clean, outcomes[0], factor=0.5)
        of_target |= {"halved": clean.mean() / 2 - outcomes[0].mean(), "halved_lo": halved[0], "halved_hi": halved[1]}
    kinds, capped = controls["control"].to_numpy(), controls["capped"].to_numpy(bool)
    rows = []
    for kind in ("pooled", *KINDS):
        of_kind = np.isin(kinds, SHARED) if kind == "pooled" else kinds == kind
        chosen = np.flatnonzero(of_kind & ~capped)
        if not len(chosen):
            continue
        part = controls.iloc[chosen]
        lo, hi = two_level(resampled[0], resampled[1:][chosen], rng_seed)
        row = {name: target[name] for name in ("target", "family", "mode", "scope", "rank", "lambda")}
        row |= {
            "metric": metric,
            "control": kind,
            "value": matrix.loc[target["cell"]].mean(),
            "baseline": clean.mean(),
            **of_target,
            "control_mean": means[1:][chosen].mean(),
            "lo": lo,
            "hi": hi,
            "n_prompts": len(clean),
            "n_controls": len(chosen),
            "n_capped": int((of_kind & capped).sum()),
            "removed_energy": target["energy"],
            "control_energy": part["energy"].mean(),
            "control_cos": part["abs_cos"].mean(),
            "primary": bool(target["primary"]),
        }
        row["delta_control"] = row["delta"] - row["control_mean"]
        if metric in RATES:
            row |= _worst(outcomes[0], outcomes[1:][chosen], means[0])
        if row["primary"] and metric == TESTED:
            columns = ("p_permutation", "p_smallest") if kind == "pooled" else ("p_kind", "p_kind_smallest")
            row |= dict(zip(columns, exchanged_p(means[0], means[1:][chosen]), strict=True))
        rows.append(row)
    return rows


def _worst(target: np.ndarray, controls: np.ndarray, delta: float) -> dict:
    """Target less the control [m, n] that it exceeds least in the direction of `delta` (0 counts as a fall), paired by
    prompt: of the m intervals the one whose end on the other side reaches furthest. Were the target beyond this one, it
    would be beyond each."""
    intervals = [paired_rates(target, control) for control in controls]
    reach = [lo if delta > 0 else -hi for lo, hi in intervals]
    worst = int(np.argmin(reach))
    lo, hi = intervals[worst]
    return {"worst_delta": float((target - controls[worst]).mean()), "worst_lo": lo, "worst_hi": hi}


def two_level(target: np.ndarray, controls: np.ndarray, rng_seed: int) -> tuple[float, float]:
    """95 % percentile interval of Δ_control with prompts and controls both resampled.

    target [draws] and controls [m, draws] are means of the differences to clean over resampled prompts, the same
    prompts in a draw for all of them (paired). In each draw m of the m controls are taken with replacement. One control
    cannot be resampled: its interval covers prompts only, not the choice of the control; with two or three it is too
    narrow. It says how far the target is from the mean of its controls, not whether one control would be as far from
    the others: that takes a p.
    """
    m, draws = controls.shape
    return percentiles(target - np.einsum("bm,mb->b", weights(rng_seed, CONTROLS, m, draws), controls))


def exchanged_p(effect: float, null: np.ndarray) -> tuple[float, float]:
    """Two-sided permutation p of an effect among those of R control directions, and the least that R can give.

    Compared is the distance to the mean of the effect and the null together: were the target one more direction of the
    same kind, target and controls would be exchangeable in it, which they are not about a centre made from the controls
    alone.
    """
    everything = np.append(null, effect)
    distance = np.round(everything - everything.mean(), 12)  # sums that differ in their last bits are ties
    test = permutation_p(distance[-1], distance[:-1], "two-sided")
    return test.p, test.smallest


def holm_primary(frame: pd.DataFrame) -> pd.DataFrame:
    """control_normalised of whole seeds with p_holm filled: Holm over the primary cells of a seed's regime, pooled
    controls, log-odds. Other rows keep an empty p_holm."""
    tested = frame["primary"].astype(bool) & (frame["metric"] == TESTED) & (frame["control"] == "pooled")
    adjusted = pd.Series(np.nan, index=frame.index)
    for _, part in frame[tested].groupby(["seed", "regime"], sort=False):
        adjusted.loc[part.index] = holm(part["p_permutation"])
    return frame.assign(p_holm=adjusted)


@lru_cache(maxsize=8)
def weights(rng_seed: int, stream: str, n: int, draws: int, *of_seed: int) -> np.ndarray:
    """`resampling_weights` of a stream and size, the same ones for every target and metric; of_seed: a run's own."""
    shares = resampling_weights(n, draws, generator(rng_seed, stream, n, *of_seed))
    shares.setflags(write=False)
    return shares
