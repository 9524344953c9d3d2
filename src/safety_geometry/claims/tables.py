"""The study's tables from the tables of its checkpoints: behaviour, contrasts, trajectory, five anchors.

A checkpoint is known by seed, regime and step; `anchor` names the step where it has a name. Frames come in, frames go
out, in an order that depends on their content only.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import pandas as pd

from safety_geometry.artefacts.tables import behaviour as specified
from safety_geometry.artefacts.tables.behaviour import CONTRASTS, WIDE_METRICS
from safety_geometry.artefacts.tables.specification import names
from safety_geometry.judges.behaviour import ATTACKED, DIRECT, arm_contrast, contrast, metrics, outcomes, success_means
from safety_geometry.judges.pairs import matched_pairs, pair_contrast
from safety_geometry.settings.identity import Checkpoint

COUPLING = names(specified.COUPLING)
KEY = list(specified.TRAJECTORY.key)


def stack(frames: Sequence[pd.DataFrame], regimes: Sequence[str]) -> pd.DataFrame:
    """Tables of one kind below each other: seeds in order, regimes in the order of the study, rows as they came.

    Raises ValueError when there is none, when columns differ, or when a regime is not the study's.
    """
    if not frames:
        raise ValueError("no table to put together")
    if any(list(frame.columns) != list(frames[0].columns) for frame in frames):
        raise ValueError("tables of one kind have different columns; make them again")
    rows = pd.concat([frame for frame in frames if len(frame)] or [frames[0]], ignore_index=True)
    if "regime" not in rows:
        return rows.sort_values("seed", kind="stable", ignore_index=True) if "seed" in rows else rows
    unknown = set(rows["regime"]) - set(regimes)
    if unknown:
        raise ValueError(f"regimes {sorted(unknown)} are not in the study ({', '.join(regimes)})")
    order = rows["regime"].map({name: i for i, name in enumerate(regimes)})
    rows = rows.assign(_order=order).sort_values(["seed", "_order"], kind="stable", ignore_index=True)
    return rows.drop(columns="_order")


def behaviour_table(judged: Mapping[Checkpoint, pd.DataFrame], seed: int = 0, draws: int = 2000) -> pd.DataFrame:
    """Metrics of every judged checkpoint, tidy; `seed` and `draws` are the bootstrap's."""
    frames = []
    for checkpoint, frame in judged.items():
        measured = metrics(frame, seed, draws)
        for position, (name, value) in enumerate(checkpoint.columns().items()):
            measured.insert(position, name, [value] * len(measured))
        frames.append(measured.assign(success_means=success_means(frame)))
    return pd.concat(frames, ignore_index=True)


def contrasts_table(
    judged: Mapping[Checkpoint, pd.DataFrame], regimes: Sequence[str], seed: int = 0, draws: int = 2000
) -> pd.DataFrame:
    """Paired contrasts between checkpoints of a seed on the same prompts, first − second.

    `time`: a regime's last anchor minus each earlier one. `regime`: two regimes at the same step, an anchor of at least
    one of them, whatever it is called; the other may be a save that answers some of the prompts. `arm`: optimised minus
    unoptimised suffix at one checkpoint. `direct`: an attack minus the bare requests that it attacked.
    """
    at_anchors = {(checkpoint.seed, checkpoint.step) for checkpoint in judged if checkpoint.anchor is not None}
    long = {c: outcomes(frame) for c, frame in judged.items() if (c.seed, c.step) in at_anchors}
    pairs, rows = {c: matched_pairs(judged[c]) for c in long}, []

    def compared(first: Checkpoint, second: Checkpoint) -> pd.DataFrame:
        by_prompt = contrast(long[first], long[second], seed, draws)
        by_pair = pair_contrast(pairs[first], pairs[second], seed, draws)
        return pd.concat([part for part in (by_prompt, by_pair) if len(part)] or [by_prompt], ignore_index=True)

    for run in sorted({checkpoint.seed for checkpoint in long}):
        saves = {
            r: sorted(
                (checkpoint for checkpoint in long if (checkpoint.seed, checkpoint.regime) == (run, r)),
                key=lambda checkpoint: checkpoint.step,
            )
            for r in regimes
        }
        anchors = {r: [checkpoint for checkpoint in saves[r] if checkpoint.anchor is not None] for r in regimes}
        for regime in regimes:
            for earlier in anchors[regime][:-1]:
                last = anchors[regime][-1]
                rows.append(_labelled("time", last, earlier, compared(last, earlier)))
            for checkpoint in anchors[regime]:
                rows.append(
                    _labelled("arm", checkpoint, checkpoint, arm_contrast(long[checkpoint], seed=seed, draws=draws))
                )
                for attacked in ATTACKED:
                    difference = arm_contrast(long[checkpoint], attacked, DIRECT, seed, draws)
                    rows.append(_labelled("direct", checkpoint, checkpoint, difference))
        for first, second in combinations(regimes, 2):
            others = {checkpoint.step: checkpoint for checkpoint in saves[second]}
            for checkpoint in saves[first]:
                other = others.get(checkpoint.step)
                if other is not None and (checkpoint.anchor, other.anchor) != (None, None):
                    rows.append(_labelled("regime", checkpoint, other, compared(checkpoint, other)))
    filled = [frame for frame in rows if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=CONTRASTS.names)


def _labelled(kind: str, first: Checkpoint, second: Checkpoint, frame: pd.DataFrame) -> pd.DataFrame:
    other = {f"other_{name}": value for name, value in second.columns().items() if name != "seed"}
    return frame.assign(contrast=kind, **first.columns(), **other).reindex(columns=CONTRASTS.names)


def first_rows(judged: pd.DataFrame, every_save: Mapping[str, int | None]) -> pd.DataFrame:
    """What every save answers of an anchor's judged completions: of the suites that `every_save` names its first rows
    (None: all).

    The other suites run at anchors only and are kept whole. Rows stand in the order in which the suite's prompts were
    asked.
    """
    place = judged.groupby("suite").cumcount()
    limit = judged["suite"].map({suite: n for suite, n in every_save.items() if n is not None})
    return judged[~(place >= limit)]  # without a limit nothing is cut


def trajectory_table(coupling: pd.DataFrame, behaviour: pd.DataFrame) -> pd.DataFrame:
    """Wide table of every saved checkpoint: coupling, sites, and each metric with _lo, _hi, _n (empty: suite not run).

    coupling: stacked coupling tables; behaviour: `behaviour_table`. Seeds without any coupling, the light ones, are
    left out. Raises ValueError for behaviour of another checkpoint that the coupling table does not have.
    """
    wide = coupling[["seed", "regime", "anchor", "step", *COUPLING]]
    mine = behaviour[behaviour["metric"].isin(WIDE_METRICS) & behaviour["seed"].isin(wide["seed"])]
    strangers = set(mine[KEY].itertuples(index=False, name=None)) - set(wide[KEY].itertuples(index=False, name=None))
    if strangers:
        raise ValueError(f"behaviour of checkpoints without coupling: {sorted(strangers)[:3]}")
    for metric in WIDE_METRICS:
        part = mine[mine["metric"] == metric].set_index(KEY)[["value", "lo", "hi", "n"]]
        part.columns = [metric, f"{metric}_lo", f"{metric}_hi", f"{metric}_n"]
        wide = wide.merge(part.astype({f"{metric}_n": "Int64"}), how="left", left_on=KEY, right_index=True)
    means = behaviour.drop_duplicates(KEY)[[*KEY, "success_means"]]
    wide = wide.merge(means, how="left", on=KEY, validate="one_to_one")
    return wide.reset_index(drop=True)


def five_anchor_table(trajectory: pd.DataFrame) -> pd.DataFrame:
    """The named steps of the trajectory (arXiv 2606.16349, Table 2)."""
    return trajectory[trajectory["anchor"].notna()].reset_index(drop=True)
