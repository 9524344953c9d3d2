"""Is the coupling more than noise, and less than identity? Each value beside its floor and its ceiling."""

import pandas as pd
from matplotlib.figure import Figure

from safety_geometry.figures.style import BLUE, GREEN, GREY, VERMILION, NoData, headline, need, ordered_anchors

SHOWN = (
    ("own_sites", "value at the carriers' own sites", "black", "o"),
    ("cross_fitted", "H and R from disjoint halves", BLUE, "s"),
    ("shuffled", "shuffled labels", VERMILION, "v"),
    ("isotropic", "random directions", GREY, "x"),
    ("ceiling", "split-half ceiling", GREEN, "_"),
)


def coupling_controls(tables: dict[str, pd.DataFrame]) -> Figure:
    """C_cos at the anchors of each regime on a log axis with its companions. The first seed is drawn. Needs coupling_controls."""
    frame = need(tables, "coupling_controls", ["value"])
    seed = frame["seed"].min()
    frame = frame[(frame["seed"] == seed) & frame["anchor"].notna()]
    anchors, regimes = ordered_anchors(frame), list(dict.fromkeys(frame["regime"]))
    figure = Figure(figsize=(max(6.5, 3.5 * len(regimes)), 4.4))
    axes = figure.subplots(1, len(regimes), sharey=True, squeeze=False)[0]
    for ax, regime in zip(axes, regimes, strict=True):
        mine = frame[frame["regime"] == regime]
        for i, (companion, label, colour, marker) in enumerate(SHOWN):
            wanted = ("split_half", "ceiling") if companion == "ceiling" else (companion, "c_cos")
            rows = mine[(mine["companion"] == wanted[0]) & (mine["quantity"] == wanted[1])]
            rows = rows[rows["value"] > 0]
            x = rows["anchor"].map(anchors.index).astype(float) + 0.13 * (i - 2)
            ax.plot(x, rows["value"], linestyle="none", marker=marker, color=colour, markersize=6, label=label)
            known = rows["lo"].gt(0) & rows["hi"].notna()
            ax.vlines(x[known], rows["lo"][known], rows["hi"][known], color=colour, linewidth=1.1)
        ax.set_title(regime)
        ax.set_xticks(range(len(anchors)), anchors)
        ax.set_xlabel("anchor (optimiser step)")
    if not any(line.get_xdata().size for ax in axes for line in ax.lines):
        raise NoData("the table coupling_controls has no positive value of c_cos at an anchor")
    axes[0].set_yscale("log")
    axes[0].set_ylabel("|cos| of H and R carriers (log)")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3)
    headline(figure, "Coupling beside its floors and its ceiling", f"bars: 95 % ranges; seed {seed}")
    return figure
