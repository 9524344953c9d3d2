"""Is the coupling more than noise, and less than identity? Each value beside its floor and its ceiling."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from safety_geometry.figures.lettering import headline, legend_below, title
from safety_geometry.figures.notes import first_seed, fit_prompts
from safety_geometry.figures.style import (
    GREY,
    INDIGO,
    OLIVE,
    WINE,
    NoData,
    anchor_steps,
    anchor_ticks,
    need,
    panel_width,
)

SHOWN = (
    ("own_sites", "value at the carriers' own sites", {"color": "black", "marker": "o"}),
    ("cross_fitted", "H and R from disjoint halves", {"color": INDIGO, "marker": "s"}),
    ("shuffled", "shuffled labels", {"color": WINE, "marker": "v"}),
    ("isotropic", "random directions", {"color": GREY, "marker": "x"}),
    ("ceiling", "split-half ceiling", {"color": OLIVE, "marker": "_", "markersize": 9, "markeredgewidth": 2}),
)
APART = 0.15  # of the distance of two anchors


def coupling_controls(tables: dict[str, pd.DataFrame]) -> Figure:
    """C_cos at the anchors of each regime, in order of their steps, on a log axis with its companions. The first seed
    that has one is drawn. Needs coupling_controls; coupling, where given, tells the number of prompts."""
    frame = need(tables, "coupling_controls", ["value"])
    frame = frame[frame["anchor"].notna()]
    if not len(frame):
        raise NoData("the table coupling_controls has no anchor")
    coupled = frame[(frame["companion"] == SHOWN[0][0]) & (frame["quantity"] == "c_cos") & (frame["value"] > 0)]
    if not len(coupled):
        raise NoData("the table coupling_controls has no positive value of c_cos at an anchor")
    frame, note = first_seed(frame, coupled, "to have a coupling")
    regimes = {regime: frame[frame["regime"] == regime] for regime in dict.fromkeys(frame["regime"])}
    steps = {regime: anchor_steps(mine) for regime, mine in regimes.items()}
    most = max(len(places) for places in steps.values())
    widths = [max(len(places), 0.5 * most) for places in steps.values()]
    room = panel_width(len(regimes))
    figure = Figure(figsize=(max(6.5, room * len(regimes)), 4.6))
    axes = figure.subplots(1, len(regimes), sharey=True, squeeze=False, width_ratios=widths)[0]
    for ax, (regime, mine), places, share in zip(axes, regimes.items(), steps.values(), widths, strict=True):
        for i, (companion, _, look) in enumerate(SHOWN):
            wanted = ("split_half", "ceiling") if companion == "ceiling" else (companion, "c_cos")
            rows = mine[(mine["companion"] == wanted[0]) & (mine["quantity"] == wanted[1])]
            rows = rows[rows["value"] > 0]
            x = rows["step"].map(places.index).astype(float) + APART * (i - (len(SHOWN) - 1) / 2)
            ax.plot(x, rows["value"], **{"linestyle": "none", "markersize": 6} | look)
            known = rows["lo"].gt(0) & rows["hi"].notna()
            ax.vlines(x[known], rows["lo"][known], rows["hi"][known], color=look["color"], linewidth=1.1)
        if not any(len(line.get_xdata()) for line in ax.lines):
            ax.text(0.5, 0.5, "no R of its own", transform=ax.transAxes, ha="center", fontsize=8)
        title(ax, regime, room * len(regimes) * share / sum(widths) - 0.5)
        ax.set_xticks(range(len(places)), anchor_ticks(mine, places))
        ax.set_xlim(-0.5, len(places) - 0.5)
        ax.set_xlabel("anchor (optimiser step)")
        ax.grid(False, axis="x")
        for place in range(1, len(places)):
            ax.axvline(place - 0.5, color="#E4E4E4", linewidth=0.6, zorder=0)
    axes[0].set_yscale("log")
    axes[0].set_ylabel("|cos| of H and R carriers (log)")
    legend_below(
        figure,
        [Line2D([], [], label=label, **{"linestyle": "none", "markersize": 6} | look) for _, label, look in SHOWN],
    )
    n = fit_prompts(tables)
    headline(figure, "Coupling beside its floors and its ceiling", f"{n + '; ' if n else ''}bars: 95 % ranges; {note}")
    return figure
