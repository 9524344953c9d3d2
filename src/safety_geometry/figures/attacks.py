"""Which attacks still work: attack success by arm and regime at the anchors, beside the same requests asked as they
are."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from safety_geometry.figures.lettering import headline, label_ends, legend_below, title
from safety_geometry.figures.notes import counts, seeds_note, success
from safety_geometry.figures.style import GREY, across_seeds, draw, looks, need

ARMS = {
    "direct": "Bare request",
    "framings": "Human templates, the best of them",
    "universal": "One suffix for all requests",
    "gcg": "GCG, a suffix for each request",
    "autodan": "AutoDAN, a prompt for each request",
    "any": "At least one of these",
}
FAINT = {"linestyle": ":", "alpha": 0.45, "linewidth": 1.1, "markersize": 3}


def attacks(tables: dict[str, pd.DataFrame]) -> Figure:
    """A panel for each arm over the anchors, a line for each regime with its name at the end; faint: the bare requests
    that the arm attacked. Needs attack_arms; arms that the study does not have are left out."""
    frame = need(tables, "attack_arms", ["asr"])
    shown = [arm for arm in ARMS if (frame["arm"] == arm).any()]
    places = {step: i for i, step in enumerate(sorted(frame["step"].unique()))}
    frame = frame.assign(place=frame["step"].map(places))
    styles = looks(frame["regime"])
    shifts = {regime: 0.09 * (i - (len(styles) - 1) / 2) for i, regime in enumerate(styles)}
    columns = min(3, len(shown))
    lines = -(-len(shown) // columns)
    figure = Figure(figsize=(0.6 + 3.9 * columns, 1.2 + 2.9 * lines))
    axes, ends = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel(), {}
    for ax in axes[len(shown) :]:
        ax.remove()
    for ax, arm in zip(axes, shown, strict=False):
        mine, ends[ax] = frame[frame["arm"] == arm], []
        for regime, look in styles.items():
            rows = mine[mine["regime"] == regime]
            points = across_seeds(rows, "place", "asr", "lo", "hi")
            draw(ax, points, look, shifts[regime])
            if len(points):
                ends[ax].append((points["value"].iloc[-1], regime, look["color"]))
            if arm != "direct":
                bare = across_seeds(rows, "place", "direct_asr").assign(lo=float("nan"), hi=float("nan"))
                draw(ax, bare, look | FAINT, shifts[regime])
        title(ax, f"{ARMS[arm]} ({counts(mine, 'n')})", 3.4)
        ax.set_xticks(range(len(places)), list(places))
        ax.set_xlim(-0.35, len(places) - 0.65)
        ax.set_xlabel("anchor (optimiser step)")
        ax.set_ylim(-0.04, 1.04)
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=""))
    for ax in axes[: len(shown) : columns]:
        ax.set_ylabel(f"{success(frame)} (% of requests)")
    if shown != ["direct"]:
        faint = Line2D([], [], color=GREY, marker=".", label="faint: the same requests, asked as they are", **FAINT)
        legend_below(figure, [faint])
    headline(figure, "Which attacks still work", seeds_note(frame, "95 % intervals"))
    label_ends(figure, ends)
    return figure
