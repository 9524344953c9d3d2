"""Do the carriers tell the quadrants apart? Prompts by their projections on H and R, coloured by input and answer."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from safety_geometry.figures.lettering import headline, legend_below, title
from safety_geometry.figures.modes import checkpoints
from safety_geometry.figures.notes import first_seed
from safety_geometry.figures.style import GREY, INDIGO, ORANGE, SKY, WINE, columns_for, need

LOOKS = {
    "harmful_refused": ("harmful, refused", ORANGE, "s"),
    "harmful_complied": ("harmful, complied", WINE, "^"),
    "benign_refused": ("benign, refused", INDIGO, "D"),
    "benign_complied": ("benign, complied", SKY, "o"),
    "benign_degenerate": ("benign, broken text", GREY, "X"),
}
PANELS, COLUMNS = 6, 3
ENOUGH = 5  # points of a group that has a median drawn
SCALE = "(−1 benign mean, +1 harmful mean)"


def quadrants(tables: dict[str, pd.DataFrame]) -> Figure:
    """Scatter of proj_h and proj_r, one panel per checkpoint, medians of the groups as large symbols. At most six
    panels: the last anchors of every regime in turn. The first seed is drawn. Needs quadrants."""
    frame, note = first_seed(need(tables, "quadrants", ["proj_h", "proj_r"]).dropna(subset=["proj_h", "proj_r"]))
    everything = checkpoints(frame)
    panels = latest(everything, PANELS)
    columns = columns_for(len(panels), COLUMNS)
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(max(6.0, 0.8 + 3.1 * columns), 1.5 + 2.9 * lines))
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for i, (ax, (place, rows)) in enumerate(zip(axes, panels, strict=False)):
        scatter(ax, rows)
        title(ax, f"{place} (n = {len(rows)})", 2.7)
        ax.set_ylabel("" if i % columns else "projection on R\n" + SCALE)
        if i + columns >= len(panels):
            ax.set_xlabel("projection on H\n" + SCALE)
            ax.tick_params(labelbottom=True)
    for ax in axes[len(panels) :]:
        ax.remove()
    (left, right), (bottom, top) = axes[0].get_xlim(), axes[0].get_ylim()
    axes[0].set(xlim=(min(left, -1.25), max(right, 1.25)), ylim=(min(bottom, -1.25), max(top, 1.25)))
    for axis in (axes[0].xaxis, axes[0].yaxis):
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    shown = [key for key in LOOKS if (frame["quadrant"] == key).any()]
    entries = [
        Line2D([], [], linestyle="none", marker=LOOKS[k][2], color=LOOKS[k][1], label=LOOKS[k][0], markersize=6)
        for k in shown
    ]
    entries.append(
        Line2D(
            [],
            [],
            linestyle="none",
            marker="o",
            color="white",
            markeredgecolor="black",
            markersize=9,
            label=f"median ({ENOUGH} or more)",
        )
    )
    legend_below(figure, entries)
    part = f"; the last {len(panels)} of {len(everything)} checkpoints" if len(panels) < len(everything) else ""
    headline(figure, "Prompts on the two carriers, by what was asked and answered", note + part)
    return figure


def latest(panels: list[tuple[str, pd.DataFrame]], most: int) -> list[tuple[str, pd.DataFrame]]:
    """The last checkpoint of every regime, then the last but one, up to `most`; in the order given."""
    places = pd.Series([str(rows["regime"].iloc[0]) for _, rows in panels])
    from_end = places.groupby(places).cumcount(ascending=False)
    kept = sorted(from_end.sort_values(kind="stable").index[:most])
    return [panels[i] for i in kept]


def scatter(ax: Axes, rows: pd.DataFrame) -> None:
    """One checkpoint. Lines at −1 and +1 are the class means of the fit prompts, at 0 the midpoint."""
    for at, style in ((-1, ":"), (0, "-"), (1, ":")):
        ax.axvline(at, color="#BBBBBB", linewidth=0.8, linestyle=style, zorder=1)
        ax.axhline(at, color="#BBBBBB", linewidth=0.8, linestyle=style, zorder=1)
    ax.grid(False)
    groups = [(LOOKS[key], rows[rows["quadrant"] == key]) for key in LOOKS]
    groups = [(style, group) for style, group in groups if len(group)]
    for (_, colour, marker), group in groups:
        size, alpha = (13, 0.6) if len(rows) < 800 else (6, 0.35)
        ax.scatter(
            group["proj_h"], group["proj_r"], s=size, color=colour, marker=marker, alpha=alpha, linewidths=0, zorder=2
        )
    for (_, colour, marker), group in groups:
        if len(group) < ENOUGH:
            continue
        ax.plot(
            group["proj_h"].median(),
            group["proj_r"].median(),
            marker=marker,
            color=colour,
            markersize=10,
            markeredgecolor="black",
            markeredgewidth=1.1,
            linestyle="none",
            zorder=3,
        )
