"""Coupling and behaviour at the anchors, side by side (arXiv 2606.16349, Table 2 and Figure 1)."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from safety_geometry.figures.style import (
    GREY,
    across_seeds,
    counts,
    draw,
    fit_prompts,
    headline,
    label_ends,
    legend_below,
    looks,
    need,
    seeds_note,
    title,
)

PANELS = (
    ("hrci_repr", "Coupling of the H and R carriers", "HRCI_repr (0 to 1)"),
    ("fixed_asr", "Fixed-source attack", "attack success (% of behaviours)"),
    ("any_refusal", "Refusal of safe look-alikes", "refused, partly or fully (%)"),
    ("benign_mean", "Benign helpfulness", "mean utility (0 to 2)"),
)
RING = {"marker": "o", "markersize": 12, "markerfacecolor": "none", "markeredgecolor": GREY, "linestyle": "none"}
NULL = {"linewidth": 7, "alpha": 0.22}  # the range of shuffled labels


def five_anchor(tables: dict[str, pd.DataFrame]) -> Figure:
    """Four panels over the anchors: HRCI_repr, fixed ASR (unoptimised suffixes faint), any-refusal, benign mean.

    Needs five_anchor; coupling_controls, where given, adds the range of shuffled labels of each anchor, coupling the
    number of prompts behind the carriers.
    """
    frame = need(tables, "five_anchor", [name for name, _, _ in PANELS])
    places = {step: i for i, step in enumerate(sorted(frame["step"].unique()))}
    frame = frame.assign(place=frame["step"].map(places))
    styles = looks(frame["regime"])
    shifts = {regime: 0.09 * (i - (len(styles) - 1) / 2) for i, regime in enumerate(styles)}
    figure = Figure(figsize=(10.4, 7.0))
    axes, ends, shuffled = figure.subplots(2, 2).ravel(), {}, False
    for ax, (metric, words, label) in zip(axes, PANELS, strict=True):
        ends[ax] = []
        for regime, look in styles.items():
            rows, shift = frame[frame["regime"] == regime], shifts[regime]
            points = across_seeds(rows, "place", metric, f"{metric}_lo", f"{metric}_hi")
            draw(ax, points, look, shift)
            if len(points):
                ends[ax].append((points["value"].iloc[-1], regime, look["color"]))
            ring = across_seeds(rows[rows["anchor"] == "reference"], "place", metric)
            ax.plot(ring["x"] + shift, ring["value"], **RING)
            if metric == "fixed_asr" and rows["init_asr"].notna().any():
                faint = across_seeds(rows, "place", "init_asr").assign(lo=float("nan"), hi=float("nan"))
                draw(ax, faint, look | {"linestyle": ":"}, shift, alpha=0.45, linewidth=1.1, markersize=3)
            if metric == "hrci_repr":
                shuffled |= null(ax, tables, regime, places, shift, look["color"])
        n = (
            fit_prompts(tables)
            if metric == "hrci_repr"
            else counts(frame, f"{metric}_n")
            if f"{metric}_n" in frame
            else ""
        )
        title(ax, words + (f" ({n})" if n else ""), 4.0)
        ax.set_ylabel(label)
        ax.set_xticks(range(len(places)), list(places))
        ax.set_xlim(-0.35, len(places) - 0.65)
        ax.set_xlabel("anchor (optimiser step)")
        if metric in ("fixed_asr", "any_refusal"):
            ax.set_ylim(-0.04, 1.04)
            ax.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=""))
        elif metric == "benign_mean":
            ax.set_ylim(-0.08, 2.08)
    axes[0].set_ylim(bottom=0)
    legend_below(figure, entries(shuffled, frame["init_asr"].notna().any()))
    headline(figure, "Coupling and behaviour at the anchors", seeds_note(frame, "95 % intervals"))
    label_ends(figure, ends)
    return figure


def null(
    ax: Axes, tables: dict[str, pd.DataFrame], regime: str, places: dict[int, int], shift: float, colour: str
) -> bool:
    """The 95 % range of HRCI_repr with shuffled labels behind each point, from the same anchor; the mean of the seeds'
    ends. Says whether there is any."""
    controls = tables.get("coupling_controls")
    if controls is None:
        return False
    mine = controls[
        (controls["companion"] == "shuffled") & (controls["quantity"] == "hrci_repr") & (controls["regime"] == regime)
    ]
    mine = mine[mine["anchor"].notna() & mine["step"].isin(places)]
    range_ = mine.groupby("step")[["lo", "hi"]].mean().dropna()
    x = range_.index.map(places).astype(float) + shift
    ax.vlines(x, range_["lo"], range_["hi"], color=colour, zorder=0, **NULL)
    return bool(len(range_))


def entries(shuffled: bool, before: bool) -> Sequence[Line2D]:
    handles = [Line2D([], [], label="reference anchor of the regime", **RING)]
    if shuffled:
        handles.append(Line2D([], [], color=GREY, label="wide bar: shuffled labels at that anchor, 95 % range", **NULL))
    if before:
        faint = {"linestyle": ":", "marker": ".", "alpha": 0.6}
        handles.append(Line2D([], [], color=GREY, label="faint: attack before its optimisation", **faint))
    return handles
