"""Does reopened attack success carry usefulness, or is it broken text? The followed rows beside their controls and
baseline."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from safety_geometry.figures.lettering import headline, legend_below
from safety_geometry.figures.modes import MODES, handle, label, look, present
from safety_geometry.figures.notes import counts, first_seed, success
from safety_geometry.figures.style import GREY, NoData, need, striped

PANELS = (
    ("asr", "{success}", "n_asr", "share", 1),
    ("usefulness", "harmful usefulness", "n_usefulness", "mean", 1),
    ("benign_mean", "benign helpfulness", "n_benign", "mean", 2),
    ("degenerate", "broken text", "n_degenerate", "share", 1),
)
APART = 0.2  # of a row: baseline above the target, controls below it, so that equal values hide nothing
HOLLOW = {"marker": "o", "markerfacecolor": "white", "color": "black", "markersize": 5.5}


def follow_up(tables: dict[str, pd.DataFrame]) -> Figure:
    """One line per followed target, by its effect on the choosing half: the target with its interval, its controls and
    its baseline, for attack success, usefulness, benign helpfulness and degeneration. The first seed is drawn. Needs
    follow_up."""
    frame, note = first_seed(need(tables, "follow_up", ["asr"]))
    targets = frame[frame["role"] == "target"]
    if not len(targets):
        raise NoData("the table follow_up has no target")
    targets = targets.sort_values("chosen_delta", ascending=False, kind="stable").reset_index(drop=True)
    shown = [panel for panel in PANELS if targets[panel[0]].notna().any()]
    figure = Figure(figsize=(1.9 + 1.95 * len(shown), 1.7 + 0.52 * len(targets)))
    axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for ax, (metric, title, n, unit, most) in zip(axes, shown, strict=True):
        for i, target in targets.iterrows():
            line(ax, i, metric, target, frame)
        ax.set_title(title.format(success=success(frame)))
        ax.set_xlim(-0.03 * most, 1.03 * most)
        ax.set_xticks([0, most / 2, most], ["0", f"{most / 2:g}", f"{most:g}"])
        ax.set_xlabel(f"{unit}, {counts(targets, n)}")
        striped(ax, len(targets))
    axes[0].set_yticks(range(len(targets)), [label(target) for _, target in targets.iterrows()])
    axes[0].set_ylim(len(targets) - 0.5, -0.5)
    entries = [handle(mode, linestyle="-") for mode in present(targets["mode"], list(MODES))]
    entries += [
        Line2D(
            [],
            [],
            linestyle="none",
            marker="|",
            color=GREY,
            markersize=8,
            markeredgewidth=1.4,
            label="controls (below)",
        ),
        Line2D([], [], linestyle="none", label="the checkpoint without it (above)", **HOLLOW),
    ]
    legend_below(figure, entries)
    headline(figure, "What the strongest interventions leave of the answers", f"bars: 95 % intervals; {note}")
    return figure


def line(ax: Axes, y: float, metric: str, target: pd.Series, frame: pd.DataFrame) -> None:
    """One target with its interval; above it the baseline, joined by a thin line, below it the controls as ticks."""
    style, around = look(target["mode"]), of_target(frame, target)
    controls = around.loc[around["role"] == "control", metric].dropna()
    ax.plot(
        controls, [y + APART] * len(controls), "|", color=GREY, markersize=8, markeredgewidth=1.4, alpha=0.8, zorder=2
    )
    base = around.loc[around["role"] == "baseline", metric].dropna()
    value, lo, hi = target[metric], target[f"{metric}_lo"], target[f"{metric}_hi"]
    if len(base):
        ax.plot([base.iloc[0], value], [y - APART, y], color="#BBBBBB", linewidth=1.0, zorder=1)
        ax.plot(base.iloc[0], y - APART, linestyle="none", zorder=3, **HOLLOW)
    if pd.notna(lo) and pd.notna(hi):
        ax.hlines(y, lo, hi, color=style["color"], linewidth=1.4, zorder=3)
    ax.plot(value, y, marker=style["marker"], color=style["color"], markersize=6.5, linestyle="none", zorder=4)


def of_target(frame: pd.DataFrame, target: pd.Series) -> pd.DataFrame:
    """Controls that name the target, and the baseline of its checkpoint, which names none."""
    here = frame["regime"].eq(target["regime"]) & frame["step"].eq(target["step"])
    return frame[here & (frame["target"].eq(target["target"]) | frame["role"].eq("baseline"))]
