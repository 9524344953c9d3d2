"""Transfer of attacks between checkpoints, and what predicts it (arXiv 2606.16349, Eq. 26 and Table 5).

TASR(s → t) is the share of the attacks made on checkpoint s that succeed on checkpoint t. Few checkpoints make many
rows, so rows are not independent: the test relabels checkpoints, the interval resamples sources and targets, and beside
each ρ stands the greatest that ties permit (`transfer_stats`).
"""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from safety_geometry.artefacts.tables.attacks import TRANSFER, TRANSFER_PREDICTORS
from safety_geometry.attacks.transfer_statistics import Rows, pigeonhole, relabelled_p, tie_ceiling
from safety_geometry.judges.behaviour import Metric, compare, success_means
from safety_geometry.settings.attack_arm import AttackArm, Place
from safety_geometry.stats.estimates import wilson
from safety_geometry.stats.seeds import generator

ARMS = {"gcg": "gcg_init", "autodan": "seeds"}  # optimised attack: the same before optimisation
UNOPTIMISED = tuple(ARMS.values())
FAMILIES = {"all": tuple(ARMS), "gcg": ("gcg",), "autodan": ("autodan",), "seeds": ("seeds",)}
CROSS = "cross"  # regime of rows whose source and target regimes differ
JUDGED = (
    "seed", "attack", "source_regime", "source_step", "target_regime", "target_step", "behaviour", "success",
    "success_means",
)  # fmt: skip
CELL = ["seed", "attack", "source_regime", "source_step", "target_regime", "target_step"]
KEY = ["seed", "regime", "step"]


@dataclass(frozen=True)
class Predictor:
    """A number of the target checkpoint, or of the target less the source (`gap`), held against TASR."""

    name: str
    family: str  # coupling | behaviour | refusal_score | harmfulness | gap
    quantity: str  # column of `checkpoint_values`
    gap: bool = False


PREDICTORS = (
    Predictor("target_hrci", "coupling", "hrci"),
    Predictor("target_hrci_repr", "coupling", "hrci_repr"),
    Predictor("target_fixed_asr", "behaviour", "fixed_asr"),
    Predictor("target_refusal_score_drift", "refusal_score", "s_total_drift"),
    Predictor("target_h_drift", "harmfulness", "drift_h_ref"),
    Predictor("target_h_norm", "harmfulness", "norm_h"),
    Predictor("gap_hrci_repr", "gap", "hrci_repr", gap=True),
    Predictor("gap_refusal_score", "gap", "s_total", gap=True),
)
BY_NAME = {predictor.name: predictor for predictor in PREDICTORS}


def attack_id(attack: str, source: str, behaviour: str, steps: int, width: int) -> str:
    """Name of an attack, 12 hex digits: of its method, source (regime:step), behaviour id and budget, so without any
    text.

    Equal over seeds: an attack is one by seed and id.
    """
    return hashlib.sha256(f"{attack}/{source}/{behaviour}/{steps}/{width}".encode()).hexdigest()[:12]


def attacks_table(parts: pd.DataFrame, judged: pd.DataFrame, fixed: str) -> pd.DataFrame:
    """The table `attacks`: parts of all sources with ids and kinds (`with_ids`) and their success (`with_success`)."""
    return with_success(with_ids(parts, fixed), judged)


def with_ids(attacks: pd.DataFrame, fixed: str) -> pd.DataFrame:
    """The attacks with `id`, and `kind`: fixed where they were made on the source `fixed` (regime:step), adaptive
    elsewhere."""
    names = ("attack", "source", "behaviour", "budget_steps", "width")
    ids = [attack_id(*row) for row in zip(*(attacks[name] for name in names), strict=True)]
    kind = np.where(attacks["source"] == fixed, "fixed", "adaptive")
    first = ["seed", "id", "attack", "kind"]
    attacks = attacks.assign(id=ids, kind=kind)
    return attacks[[*first, *(name for name in attacks if name not in first)]]


def judged_attacks(judged: pd.DataFrame, seed: int, regime: str, step: int) -> pd.DataFrame:
    """Rows of `transfer_table` from the judged answers to one source's attacks; `arm` is an `AttackArm`. Raises
    ValueError."""
    arms = [AttackArm.parse(text) for text in judged["arm"]]
    return pd.DataFrame(
        {
            "attack": [arm.method for arm in arms],
            "target_regime": [arm.target.regime for arm in arms],
            "target_step": [arm.target.step for arm in arms],
            "seed": seed,
            "source_regime": regime,
            "source_step": step,
            "behaviour": judged["prompt_id"].to_numpy(),
            "success": judged["attack_success"].to_numpy(bool),
            "success_means": success_means(judged) if len(judged) else "",
        }
    )


def with_success(attacks: pd.DataFrame, judged: pd.DataFrame) -> pd.DataFrame:
    """The attacks with `success` and `success_start`: of the attack and of its unoptimised arm on the source itself."""
    same = (judged["source_regime"] == judged["target_regime"]) & (judged["source_step"] == judged["target_step"])
    at_source = judged[same]
    places = zip(at_source["source_regime"], at_source["source_step"], strict=True)
    sources = [Place(*place).text for place in places]
    known = at_source.assign(source=sources).set_index(["seed", "attack", "source", "behaviour"])["success"]
    for name, arms in (("success", {attack: attack for attack in ARMS}), ("success_start", ARMS)):
        keys = zip(attacks["seed"], attacks["attack"].map(arms), attacks["source"], attacks["behaviour"], strict=True)
        attacks[name] = pd.array([known.get(key) for key in keys], dtype="boolean")
    return attacks


def transfer_table(judged: pd.DataFrame, fixed: str | None = None) -> pd.DataFrame:
    """TASR of every attack, source and target with Wilson's 95 % interval (table `TRANSFER`), from judged attacks.

    judged: one row per attack, source, target and behaviour (columns `JUDGED`, success 0 or 1). fixed: the fixed source
    as regime:step, whose attacks are marked `fixed_source`. `gain`: TASR less that of the unoptimised arm on the same
    target and behaviours (of the same source where there is one, else the target's own), with Newcombe's paired
    interval and McNemar's p; empty for an unoptimised arm and where it was not run.

    Raises ValueError for missing columns or cells, a success that is not 0 or 1, or a behaviour that occurs twice in a
    cell.
    """
    if missing := [name for name in JUDGED if name not in judged]:
        raise ValueError(f"judged attacks lack the columns {', '.join(missing)}")
    frame = judged[list(JUDGED)]
    if empty := [name for name in JUDGED if frame[name].isna().any()]:
        raise ValueError(f"judged attacks have empty cells in {', '.join(empty)}")
    frame = frame.assign(success=frame["success"].astype(float))
    if not frame["success"].isin((0.0, 1.0)).all():
        raise ValueError("success has to be true or false for every judged attack")
    if frame.duplicated([*CELL, "behaviour"]).any():
        raise ValueError("a behaviour occurs twice for one attack, source and target; judge each pair once")
    cells = {key: cell.set_index("behaviour")["success"].sort_index() for key, cell in frame.groupby(CELL, sort=True)}
    meanings, rows = frame.groupby(CELL)["success_means"].first(), []
    for key, outcome in cells.items():
        run, attack, source_regime, source, target_regime, target = key
        rate = wilson(int(outcome.sum()), len(outcome))
        rows.append(
            {
                "seed": run,
                "regime": source_regime if source_regime == target_regime else CROSS,
                "source_regime": source_regime,
                "target_regime": target_regime,
                "attack": attack,
                "source": int(source),
                "target": int(target),
                "n": rate.n,
                "tasr": rate.value,
                "lo": rate.lo,
                "hi": rate.hi,
                "diagonal": (source_regime, source) == (target_regime, target),
                "fixed_source": Place(source_regime, int(source)).text == fixed,
            }
            | _gain(cells, key)
            | {"success_means": meanings[key]}
        )
    table = pd.DataFrame(rows, columns=TRANSFER.names).astype({"gain_n": "Int64"})
    return table.sort_values(
        ["seed", "attack", "source_regime", "source", "target_regime", "target"], kind="stable", ignore_index=True
    )


def _gain(cells: dict[tuple, pd.Series], key: tuple) -> dict:
    run, attack, source_regime, source, target_regime, target = key
    if (arm := ARMS.get(attack)) is None:
        return {}
    at_source, at_target = (source_regime, source), (target_regime, target)
    before = next(
        (cells[k] for place in (at_source, at_target) if (k := (run, arm, *place, *at_target)) in cells), None
    )
    if before is None or not len(shared := cells[key].index.intersection(before.index)):
        return {}
    a, b = (series.loc[shared].to_numpy() for series in (cells[key], before))
    comparison = compare(a, b, Metric("tasr", "transfer", "success", "rate"), seed=0, draws=0, flips=0)
    names = {
        "value": "gain",
        "lo": "gain_lo",
        "hi": "gain_hi",
        "n": "gain_n",
        "p": "gain_p",
        "p_smallest": "gain_p_smallest",
    }
    return {new: comparison[old] for old, new in names.items()}


def checkpoint_values(trajectory: pd.DataFrame, coupling: pd.DataFrame, geometry: pd.DataFrame) -> pd.DataFrame:
    """What predictors are made of, one row per checkpoint: hrci, hrci_repr, fixed_asr, s_total, s_total_drift,
    drift_h_ref, norm_h."""
    parts = (
        (trajectory, ["hrci", "hrci_repr", "fixed_asr"]),
        (coupling, ["s_total"]),
        (geometry, ["s_total_drift", "drift_h_ref", "norm_h"]),
    )
    indexed = [frame.set_index(KEY, verify_integrity=True)[columns] for frame, columns in parts]
    return indexed[0].join(indexed[1:], how="left").astype(float)


def transfer_predictors(
    transfer: pd.DataFrame,
    trajectory: pd.DataFrame,
    coupling: pd.DataFrame,
    geometry: pd.DataFrame,
    seed: int = 0,
    draws: int = 2000,
    orders: int = 5000,
    untrained: Collection[str] = (),
) -> pd.DataFrame:
    """Spearman's ρ of every predictor with TASR off the diagonal, within each regime and across (table
    `TRANSFER_PREDICTORS`).

    One row per seed, and with several of them one without a seed for all together, where ρ is the mean over the seeds
    in which it is defined: a seed's checkpoints are compared with each other only. p is two-sided (`relabelled_p`, at
    most `orders` random orders); lo and hi are `pigeonhole`'s. Rows whose checkpoint lacks the number are left out.
    `untrained`: regimes that are the same models under every seed, which are not put together. Raises ValueError for a
    checkpoint that the trajectory does not have.
    """
    values, rows = checkpoint_values(trajectory, coupling, geometry), []
    for (run, regime), part in _seeds_and_all(transfer, untrained):
        for attack, predictor, analysis in analyses(part, values):
            rng = generator(seed, regime, attack, predictor.name)
            p, smallest = relabelled_p(analysis, rng, orders)
            interval = pigeonhole([analysis], rng, draws)
            rows.append(
                {
                    "seed": run,
                    "regime": regime,
                    "attack": attack,
                    "predictor": predictor.name,
                    "family": predictor.family,
                    "rho": interval.value,
                    "p": p,
                    "p_smallest": smallest,
                    "lo": interval.lo,
                    "hi": interval.hi,
                    "rho_tie_ceiling": tie_ceiling(analysis),
                    "n": len(analysis.tasr),
                    "n_sources": analysis.count(analysis.source),
                    "n_targets": analysis.count(analysis.target),
                    "n_seeds": len(set(analysis.seed)),
                    "success_means": part["success_means"].iloc[0],
                }
            )
    return pd.DataFrame(rows, columns=TRANSFER_PREDICTORS.names).astype({"seed": "Int64"})


def _seeds_and_all(transfer: pd.DataFrame, untrained: Collection[str]):
    """(seed, regime) and its rows; then (None, regime) and those of all seeds, where there are several."""
    yield from transfer.groupby(["seed", "regime"], sort=True)
    for regime, part in transfer.groupby("regime", sort=True):
        if len(set(part["seed"])) > 1 and not {*part["source_regime"], *part["target_regime"]} & set(untrained):
            yield (None, regime), part


def analyses(transfer: pd.DataFrame, values: pd.DataFrame) -> Iterator[tuple[str, Predictor, Rows]]:
    """Attack family, predictor and rows of one regime."""
    for family, attacks in FAMILIES.items():
        off_diagonal = family_rows(transfer, attacks)
        for predictor in PREDICTORS if len(off_diagonal) else ():
            yield family, predictor, analysis_rows(off_diagonal, values, predictor)


def family_rows(transfer: pd.DataFrame, attacks: Sequence[str]) -> pd.DataFrame:
    """Off-diagonal rows of these attacks. `seeds` is bound to its source like any other: the best there of AutoDAN's
    first prompts."""
    return transfer[transfer["attack"].isin(attacks) & ~transfer["diagonal"].astype(bool)]


def analysis_rows(transfer: pd.DataFrame, values: pd.DataFrame, *predictors: Predictor) -> Rows | tuple[Rows, ...]:
    """Rows in which every one of the predictors is known, once per predictor. Raises ValueError for an unknown
    checkpoint."""
    sides = [list(zip(transfer[f"{side}_regime"], transfer[side], strict=True)) for side in ("source", "target")]
    labels, seeds = sorted(set(sides[0]) | set(sides[1])), sorted(set(transfer["seed"]))
    known = [(run, *label) for side in sides for run, label in zip(transfer["seed"], side, strict=True)]
    if strangers := [checkpoint for checkpoint in known if checkpoint not in values.index]:
        raise ValueError(f"transfer from or to a checkpoint that the trajectory does not have: {min(strangers)}")
    number = {label: i for i, label in enumerate(labels)}
    source, target = (np.array([number[label] for label in side], int) for side in sides)
    run = np.searchsorted(seeds, transfer["seed"].to_numpy())
    index = pd.MultiIndex.from_tuples([(s, *label) for s in seeds for label in labels])
    shape = len(seeds), len(labels)
    scores = [values[predictor.quantity].reindex(index).to_numpy(np.float64).reshape(shape) for predictor in predictors]
    keep = np.ones(len(transfer), bool)
    for predictor, score in zip(predictors, scores, strict=True):
        keep &= np.isfinite(score[run, target]) & (np.isfinite(score[run, source]) if predictor.gap else True)
    tasr = transfer["tasr"].to_numpy(np.float64)
    analysed = tuple(
        Rows(tasr[keep], run[keep], source[keep], target[keep], score, predictor.gap)
        for predictor, score in zip(predictors, scores, strict=True)
    )
    return analysed if len(analysed) > 1 else analysed[0]
