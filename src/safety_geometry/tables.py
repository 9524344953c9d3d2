"""The study's tables from the tables of its checkpoints: behaviour, contrasts, trajectory, five anchors.

A checkpoint is known by seed, regime and step; `anchor` names the step where it has a name. Frames come in, frames go
out, in an order that depends on their content only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import pandas as pd

from safety_geometry.behaviour import arm_contrast, contrast, metrics, outcomes

WIDE_METRICS = ("fixed_asr", "init_asr", "direct_asr", "any_refusal", "usefulness", "benign_mean", "benign_strict",
                "benign_lenient", "benign_refusal", "benign_degenerate")  # fmt: skip
COUPLING = ("hrci", "hrci_lo", "hrci_hi", "hrci_repr", "hrci_repr_lo", "hrci_repr_hi", "c_cos", "c_sub", "c_layer",
            "hrci_frozen", "hrci_repr_frozen", "c_cos_frozen", "c_sub_frozen", "layer_h", "pos_h", "layer_r", "pos_r", "admissible")  # fmt: skip
KEY = ["seed", "regime", "step"]
CONTRAST = ["seed", "contrast", "metric", "regime", "step", "anchor", "other_regime", "other_step", "other_anchor",
            "value", "lo", "hi", "n", "changed", "test", "p", "p_smallest"]  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A saved checkpoint of the study; `anchor` is None for a save without a name."""

    seed: int
    regime: str
    step: int
    anchor: str | None = None

    def columns(self) -> dict:
        return {"seed": self.seed, "regime": self.regime, "step": self.step, "anchor": self.anchor}


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
        found = metrics(frame, seed, draws)
        for position, (name, value) in enumerate(checkpoint.columns().items()):
            found.insert(position, name, [value] * len(found))
        frames.append(found)
    return pd.concat(frames, ignore_index=True)


def contrasts_table(
    judged: Mapping[Checkpoint, pd.DataFrame], regimes: Sequence[str], seed: int = 0, draws: int = 2000
) -> pd.DataFrame:
    """Paired contrasts between anchors on the same prompts, first − second.

    `time`: a regime's last anchor minus each earlier one. `regime`: two regimes at the anchor of the same name. `arm`:
    optimised minus unoptimised suffix at one checkpoint.
    """
    long = {c: outcomes(frame) for c, frame in judged.items() if c.anchor is not None}
    rows = []
    for run in sorted({c.seed for c in long}):
        anchors = {
            r: sorted((c for c in long if (c.seed, c.regime) == (run, r)), key=lambda c: c.step) for r in regimes
        }
        for regime in regimes:
            for earlier in anchors[regime][:-1]:
                last = anchors[regime][-1]
                rows.append(_labelled("time", last, earlier, contrast(long[last], long[earlier], seed, draws)))
            for c in anchors[regime]:
                rows.append(_labelled("arm", c, c, arm_contrast(long[c], seed=seed, draws=draws)))
        for first, second in combinations(regimes, 2):
            others = {c.anchor: c for c in anchors[second]}
            for c in anchors[first]:
                if (other := others.get(c.anchor)) is not None:
                    rows.append(_labelled("regime", c, other, contrast(long[c], long[other], seed, draws)))
    found = [frame for frame in rows if len(frame)]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=CONTRAST)


def _labelled(kind: str, first: Checkpoint, second: Checkpoint, frame: pd.DataFrame) -> pd.DataFrame:
    other = {f"other_{name}": value for name, value in second.columns().items() if name != "seed"}
    return frame.assign(contrast=kind, **first.columns(), **other).reindex(columns=CONTRAST)


def first_rows(judged: pd.DataFrame, every_save: Mapping[str, int | None]) -> pd.DataFrame:
    """What every save answers of an anchor's judged completions: of the suites that `every_save` names its first rows (None: all).

    The other suites run at anchors only and are kept whole. Rows stand in the order in which the suite's prompts were asked.
    """
    place = judged.groupby("suite").cumcount()
    limit = judged["suite"].map({suite: n for suite, n in every_save.items() if n is not None})
    return judged[~(place >= limit)]  # without a limit nothing is cut


def trajectory_table(coupling: pd.DataFrame, behaviour: pd.DataFrame) -> pd.DataFrame:
    """Wide table of every saved checkpoint: coupling, sites, and each metric with _lo, _hi, _n (empty: suite not run).

    coupling: stacked coupling tables; behaviour: `behaviour_table`. Raises ValueError for behaviour of a checkpoint that
    the coupling table does not have.
    """
    wide = coupling[["seed", "regime", "anchor", "step", *COUPLING]]
    mine = behaviour[behaviour["metric"].isin(WIDE_METRICS)]
    strangers = set(mine[KEY].itertuples(index=False, name=None)) - set(wide[KEY].itertuples(index=False, name=None))
    if strangers:
        raise ValueError(f"behaviour of checkpoints without coupling: {sorted(strangers)[:3]}")
    for metric in WIDE_METRICS:
        part = mine[mine["metric"] == metric].set_index(KEY)[["value", "lo", "hi", "n"]]
        part.columns = [metric, f"{metric}_lo", f"{metric}_hi", f"{metric}_n"]
        wide = wide.merge(part.astype({f"{metric}_n": "Int64"}), how="left", left_on=KEY, right_index=True)
    return wide.reset_index(drop=True)


def five_anchor_table(trajectory: pd.DataFrame) -> pd.DataFrame:
    """The named steps of the trajectory (arXiv 2606.16349, Table 2)."""
    return trajectory[trajectory["anchor"].notna()].reset_index(drop=True)
