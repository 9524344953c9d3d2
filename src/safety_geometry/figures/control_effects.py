"""Is an effect the carrier's own? The primary cells with and without the mean of their matched controls taken off."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from safety_geometry.figures.modes import FAMILIES, first_seed, is_true, look, number, place
from safety_geometry.figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, NoData, need

KINDS = {
    "pooled": ("less pooled controls", "black", "o"),
    "random": ("random", SKY, "v"),
    "covariance": ("covariance-matched", GREEN, "^"),
    "shuffled": ("shuffled labels", ORANGE, "s"),
    "wrong_layer": ("wrong layer", BLUE, "<"),
    "wrong_position": ("wrong position", PURPLE, ">"),
    "norm_matched": ("norm-matched", VERMILION, "D"),
}
CELL = ["regime", "step", "anchor", "target"]
LEFT, RIGHT = "change of refusal log-odds", "change of attack success (points)"


def control_effects(tables: dict[str, pd.DataFrame]) -> Figure:
    """Forest plot of the primary cells: the raw change, and the change less the mean of the controls with its interval, per
    kind of control and pooled. Left: refusal log-odds, with Holm's p; right, where measured: attack success. The first seed is
    drawn, the pooled values of the others as ticks. Needs control_normalised."""
    frame = need(tables, "control_normalised", ["delta_control"]).dropna(subset=["delta_control"])
    frame = frame[is_true(frame["primary"]) & frame["metric"].isin(("log_odds", "asr"))]
    if not (frame["metric"] == "log_odds").any():
        raise NoData("the table control_normalised has no primary cell with a change of log_odds")
    mine, note = first_seed(frame)
    others = frame[frame["seed"] != mine["seed"].iloc[0]]
    cells = ordered(mine[mine["metric"] == "log_odds"])
    rows = {tuple(cell): i for i, cell in enumerate(cells[CELL].fillna("").astype(str).to_numpy())}
    measured = (mine["metric"] == "asr").any()
    tall = 0.62 if len(rows) <= 12 else 0.42
    figure = Figure(figsize=(9.6 if measured else 7.4, 1.7 + tall * len(rows)))
    axes = figure.subplots(1, 3 if measured else 2, sharey=True, width_ratios=[3, 0.75, 2.4][: 3 if measured else 2])
    forest(axes[0], mine[mine["metric"] == "log_odds"], others[others["metric"] == "log_odds"], rows, 1.0)
    axes[0].set_xlabel(LEFT + "\n(left: refuses less)")
    axes[0].set_yticks(range(len(rows)), [name(cell) for cell in cells.itertuples()])
    axes[0].set_ylim(len(rows) - 0.45, -0.55)
    values(axes[1], mine[(mine["metric"] == "log_odds") & (mine["control"] == "pooled")], rows)
    if measured:
        forest(axes[2], mine[mine["metric"] == "asr"], others[others["metric"] == "asr"], rows, 100.0)
        axes[2].set_xlabel(RIGHT + "\n(right: attacks succeed more)")
    used = present_kinds(mine)
    entries = [Line2D([], [], linestyle="none", marker="|", markersize=9, markeredgewidth=1.6, color=GREY, label="raw change")]
    entries += [Line2D([], [], linestyle="-" if k == "pooled" else "none", marker=KINDS[k][2], color=KINDS[k][1], label=KINDS[k][0],
                       markersize=5.5 if k == "pooled" else 4) for k in used]  # fmt: skip
    figure.legend(handles=entries, loc="outside lower center", ncols=4 if len(entries) > 5 else len(entries))
    title = f"Primary cells: change less the mean of the controls (95 % intervals; {note})"
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def present_kinds(frame: pd.DataFrame) -> list[str]:
    return [kind for kind in KINDS if (frame["control"] == kind).any()]


def ordered(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per cell, in the order of the table."""
    return frame.drop_duplicates(CELL)


def name(cell) -> str:
    """Two lines: what is done, and where."""
    cell = cell._asdict() if hasattr(cell, "_asdict") else cell
    return cell
