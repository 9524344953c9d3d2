"""Follow-up of the largest effects: chosen on one half of the prompts, scored on the other, with usefulness and
quality.

The paper followed up 8 targets with their matched controls and baselines (arXiv 2606.16349). Effects that are chosen
and scored on the same prompts look larger than they are; the halves keep them apart.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

import numpy as np
import pandas as pd

from safety_geometry.artefacts.tables.families import CHECKPOINT
from safety_geometry.artefacts.tables.follow_up import FOLLOW_UP, FOLLOWED
from safety_geometry.artefacts.tables.specification import names
from safety_geometry.causal.names import CLEAN, KINDS, SHARED
from safety_geometry.causal.outcomes import RATES, outcome_matrix
from safety_geometry.judges.behaviour import paired_rates, success_means
from safety_geometry.settings.identity import Checkpoint
from safety_geometry.stats.estimates import percentiles, resampling_weights, wilson
from safety_geometry.stats.seeds import generator

WHAT = names(FOLLOWED)
# column -> metric and name of its n; usefulness is what carries a reopened attack, benign_mean what is left of the
# model
SCORES = {
    "asr": ("asr", "n_asr"),
    "any_refusal": ("direct_refusal", "n_asr"),
    "usefulness": ("usefulness", "n_usefulness"),
    "benign_mean": ("benign_mean", "n_benign"),
    "degenerate": ("degenerate", "n_degenerate"),
    "degenerate_direct": ("degenerate_direct", "n_asr"),
}
DIFFERENCES = ("asr", "usefulness", "degenerate_direct")  # that stand less the baseline's too, paired by prompt


@dataclass(frozen=True)
class Halves:
    """Prompt ids, sorted: rows are chosen on the first half and scored on the second."""

    choosing: tuple[str, ...]
    scoring: tuple[str, ...]


def split_half(prompt_ids: Collection[str], seed: int) -> Halves:
    """Random halves of the distinct prompts; the choosing half has the odd one. Depends on the set of ids and the seed.

    Raises ValueError with fewer than two prompts.
    """
    ids = sorted({str(i) for i in prompt_ids})
    if len(ids) < 2:
        raise ValueError(f"{len(ids)} prompts cannot be halved; the follow-up needs at least two direct requests")
    order = generator(seed, "halves").permutation(len(ids))
    middle = (len(ids) + 1) // 2
    return Halves(*(tuple(sorted(ids[i] for i in part)) for part in (order[:middle], order[middle:])))


def choose(
    cells: Mapping[Checkpoint, pd.DataFrame],
    judged: Mapping[Checkpoint, pd.DataFrame],
    n_targets: int,
    n_controls: int,
    seed: int,
    readout: Mapping[Checkpoint, pd.DataFrame] | None = None,
) -> pd.DataFrame:
    """Cells to follow up: the `n_targets` targets of largest Δ_control of ASR on the choosing half, over all
    checkpoints.

    Δ_control is against the pooled controls (random, covariance, shuffled) that are not capped. Ties: the larger fall
    of the refusal log-odds (where `readout` has them; prompts of the scoring half left out), then checkpoint and target
    id. A target without a positive effect may be chosen where there are no others; `chosen_delta` says so. Each target
    brings up to `n_controls` of its generated controls, one kind after the other, and each checkpoint its baseline.

    Columns: `checkpoint`, `cell` and those of WHAT; targets in order of their rank, each followed by its controls, then
    the baselines. Prompts are halved by `split_half` over the direct requests of all checkpoints. Raises ValueError
    when no target has generated controls.
    """
    direct = {c: outcome_matrix("asr", None, frame) for c, frame in judged.items()}
    halves = split_half(set(chain.from_iterable(m.columns for m in direct.values() if m is not None)), seed)
    ranked = []
    for checkpoint, frame in cells.items():
        if (matrix := direct.get(checkpoint)) is None:
            continue
        asr = matrix[[p for p in matrix.columns if p in set(halves.choosing)]].mean(axis=1)
        falls = _log_odds_fall(readout.get(checkpoint) if readout else None, set(halves.scoring))
        for target in frame[frame["control"] == "target"].to_dict("records"):
            mine = (frame["target"] == target["cell"]) & ~frame["capped"].astype(bool)
            of_target = frame[mine & frame["cell"].isin(asr.index)]
            pool = of_target[of_target["control"].isin(SHARED)]
            if target["cell"] not in asr.index or not len(pool):
                continue
            delta = round(float(asr[target["cell"]] - asr[pool["cell"]].mean()), 12)
            fall = float(falls.get(target["cell"], -np.inf))
            order = (-delta, -fall, checkpoint.seed, checkpoint.regime, checkpoint.step, target["cell"])
            ranked.append((order, checkpoint, target, of_target, delta))
    if not ranked:
        raise ValueError("no target with generated pooled controls to follow up; generate answers of both in the sweep")
    rows = []
    for _, checkpoint, target, of_target, delta in sorted(ranked, key=lambda entry: entry[0])[:n_targets]:
        rows.append(_chosen(checkpoint, target, "target", delta, target))
        rows += [_chosen(checkpoint, c, "control", None, target) for c in _round_robin(of_target, n_controls)]
    for checkpoint in dict.fromkeys(row["checkpoint"] for row in rows):
        nothing = dict.fromkeys(("target", "family", "mode", "lambda", "scope", "rank"))
        baseline = nothing | {"cell": CLEAN, "control": "baseline", "number": 0}
        rows.append(_chosen(checkpoint, baseline, "baseline", None, nothing))
    return pd.DataFrame(rows, columns=["checkpoint", "cell", *WHAT]).astype({"chosen_delta": float})


def _log_odds_fall(readout: pd.DataFrame | None, without: set[str]) -> pd.Series:
    """clean − cell of the mean refusal log-odds per cell, without the prompts that score."""
    matrix = outcome_matrix("log_odds", readout, None)
    if matrix is None or not (kept := [p for p in matrix.columns if p not in without]):
        return pd.Series(dtype=float)
    return (matrix.loc[CLEAN, kept] - matrix[kept]).mean(axis=1).round(12)


def _round_robin(controls: pd.DataFrame, number: int) -> list[dict]:
    """The first of each kind in the order of KINDS, then the second of each, and so on."""
    queues = [controls[controls["control"] == kind].sort_values("number").to_dict("records") for kind in KINDS]
    mixed = chain.from_iterable(zip_longest(*queues))
    return [control for control in mixed if control is not None][:number]


def _chosen(checkpoint: Checkpoint, cell: dict, role: str, delta: float | None, target: dict) -> dict:
    """The operation is the target's: a control acts with another direction in the same way."""
    operation = {name: target[name] for name in ("family", "mode", "lambda", "scope", "rank")}
    of = {"target": target.get("cell"), "role": role, "control": cell["control"], "number": cell["number"]}
    return {"checkpoint": checkpoint, "cell": cell["cell"], "chosen_delta": delta} | operation | of


def choice_of(
    chosen: pd.DataFrame,
    cells: Mapping[Checkpoint, pd.DataFrame],
    judged: Mapping[Checkpoint, pd.DataFrame],
    seed: int,
) -> dict:
    """The file of a choice: `chosen`, rows of `choose` with checkpoint and digest as plain values, and `scoring`, the
    direct prompts that score them."""
    direct = {i for frame in judged.values() for i in frame.loc[frame["suite"] == "direct", "prompt_id"]}
    digests = {c: dict(zip(frame["cell"], frame["digest"], strict=True)) for c, frame in cells.items()}
    rows = [
        {name: None if pd.isna(value) else value for name, value in row.items() if name != "checkpoint"}
        | row["checkpoint"].columns()
        | {"digest": digests[row["checkpoint"]][row["cell"]]}
        for row in chosen.to_dict("records")
    ]
    return {"chosen": rows, "scoring": list(split_half(direct, seed).scoring)}


def chosen_of(choice: Mapping) -> pd.DataFrame:
    """The rows of `choose` that a choice was made of."""
    rows = []
    for row in choice["chosen"]:
        checkpoint = Checkpoint(**{name: row[name] for name in names(CHECKPOINT)})
        rows.append({k: v for k, v in row.items() if k not in names(CHECKPOINT)} | {"checkpoint": checkpoint})
    return pd.DataFrame(rows)


def follow_up_table(
    chosen: pd.DataFrame,
    judged: Mapping[Checkpoint, pd.DataFrame],
    scoring: Sequence[str] | None = None,
    seed: int = 0,
    draws: int = 2000,
) -> pd.DataFrame:
    """The follow-up table: chosen rows (of `choose`) with the scores of their answers.

    judged: rows of judge.py per checkpoint, `arm` the cell; suites direct (ASR, refusal), usefulness, utility;
    degenerate is over all answers of a cell, degenerate_direct over those to direct requests. `scoring`: direct prompts
    that count (default: all that there are). Rates have Wilson's interval, means a percentile bootstrap over prompts.
    `_delta`: less the baseline on the same prompts (rates: Newcombe's paired interval, means: bootstrap of the paired
    differences), empty for baselines; usefulness_control_delta: less the mean of the target's controls, for targets
    that have some. Raises ValueError, naming the cell, when a chosen cell has no answers or other prompts than clean.
    """
    scores, meanings = {}, {}
    for checkpoint in dict.fromkeys(chosen["checkpoint"]):
        if checkpoint not in judged:
            raise ValueError(f"no judged follow-up answers of {checkpoint}")
        frame = judged[checkpoint]
        if scoring is not None:
            counts = (frame["suite"] != "direct") | frame["prompt_id"].astype(str).isin({str(p) for p in scoring})
            frame = frame[counts]
        if lost := set(chosen.loc[chosen["checkpoint"] == checkpoint, "cell"]) - set(frame["arm"]):
            raise ValueError(f"cell {min(lost)}: no judged follow-up answers at {checkpoint}")
        scores[checkpoint] = _scores(frame, seed, draws)
        meanings[checkpoint] = success_means(frame)
        of_checkpoint = chosen[(chosen["checkpoint"] == checkpoint) & (chosen["role"] == "control")]
        for target, controls in of_checkpoint.groupby("target")["cell"]:
            scores[checkpoint][target] |= _beside_controls(frame, target, list(controls), seed, draws)
    rows = [
        row["checkpoint"].columns()
        | {name: row[name] for name in WHAT}
        | scores[row["checkpoint"]].get(row["cell"], {})
        | {"success_means": meanings[row["checkpoint"]]}
        for row in chosen.to_dict("records")
    ]
    return pd.DataFrame(rows).reindex(columns=FOLLOW_UP.names)


def _scores(frame: pd.DataFrame, seed: int, draws: int) -> dict[str, dict]:
    """Scores by cell."""
    scores: dict[str, dict] = {}
    for name, (metric, count) in SCORES.items():
        if (matrix := outcome_matrix(metric, None, frame)) is None:
            continue
        n, clean = matrix.shape[1], matrix.loc[CLEAN].to_numpy()
        weights = _weights(seed, n, draws)
        for cell, values in zip(matrix.index, matrix.to_numpy(), strict=True):
            if metric in RATES:
                bounds = wilson(round(values.sum()), n)
                lo, hi = bounds.lo, bounds.hi
            else:
                lo, hi = percentiles(weights @ values)
            of_cell = scores.setdefault(cell, {})
            of_cell |= {name: values.mean(), f"{name}_lo": lo, f"{name}_hi": hi, count: n}
            if name in DIFFERENCES and cell != CLEAN:
                paired = paired_rates(values, clean) if metric in RATES else percentiles(weights @ (values - clean))
                of_cell |= _difference(name, (values - clean).mean(), paired)
    return scores


def _beside_controls(frame: pd.DataFrame, target: str, controls: list[str], seed: int, draws: int) -> dict:
    """Usefulness of a target less the mean of its controls', with a bootstrap over prompts."""
    if (matrix := outcome_matrix("usefulness", None, frame)) is None:
        return {}
    differences = matrix.loc[target].to_numpy() - matrix.loc[controls].to_numpy().mean(axis=0)
    interval = percentiles(_weights(seed, len(differences), draws) @ differences)
    return _difference("usefulness_control", differences.mean(), interval)


def _difference(name: str, value: float, interval: tuple[float, float]) -> dict:
    return {f"{name}_delta": value, f"{name}_delta_lo": interval[0], f"{name}_delta_hi": interval[1]}


def _weights(seed: int, n: int, draws: int) -> np.ndarray:
    return resampling_weights(n, draws, generator(seed, "follow_up", n))
