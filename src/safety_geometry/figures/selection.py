"""Where R is chosen, and whether it is one: what each candidate gains beyond doing nothing, beside the null's best."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from safety_geometry.figures.lettering import headline, legend_below, title
from safety_geometry.figures.notes import counts, first_seed
from safety_geometry.figures.style import NoData, draw_candidates, is_true, need, panel_width

SHADES = ("#2D0A45", "#443A83", "#31688E", "#21908C", "#35B779", "#8FD744")  # dark: the last token
AXIS = {
    "effect": "gain beyond doing nothing,\nrefusal log-odds",
    "cosmic": "gain beyond doing nothing,\nshare of the way to the other class",
}
NULL, RUNNER_UP = "#D55E00", {"marker": "o", "markersize": 10, "markerfacecolor": "none", "markeredgewidth": 1.4}
CHOSEN = {"marker": "*", "markersize": 13, "markeredgecolor": "black", "markeredgewidth": 0.6}
GREYS = {"color": "#555555", "linestyle": "none"}


def selection(tables: dict[str, pd.DataFrame]) -> Figure:
    """A column for each regime, above its first anchor with an R of its own (without any, its first), below its last:
    gain of every candidate by layer, a line for each position, by the selector in charge; empty points are not
    admissible (KL). A star marks the chosen site, a ring the next best; lines are the level of doing nothing and the
    95 % point of the null sets. Titles say whether the site is R. The first seed that has one is drawn. Needs selection
    and profile."""
    chosen = need(tables, "selection", ["gain_all"])
    chosen = chosen[is_true(chosen["in_charge"])]
    if not len(chosen):
        raise NoData("the table selection has no row of a selector in charge")
    chosen, note = first_seed(chosen, chosen[chosen["status"] == "own"], "with an R of its own")
    profile = need(tables, "profile", ["value"])
    selector = chosen["selector"].iloc[0]
    scored = profile[(profile["carrier"] == "R") & (profile["quantity"] == selector)]
    regimes = list(dict.fromkeys(chosen["regime"]))
    shown = {regime: two_anchors(chosen[chosen["regime"] == regime]) for regime in regimes}
    lines, room = max(map(len, shown.values())), panel_width(len(regimes), 4.0)
    figure = Figure(figsize=(max(6.5, room * len(regimes) + 0.6), 1.2 + 3.1 * lines))
    axes = figure.subplots(lines, len(regimes), squeeze=False)
    positions = sorted({int(position) for position in scored["position"]}, reverse=True)
    colours = {position: SHADES[min(i, len(SHADES) - 1)] for i, position in enumerate(positions)}
    for column, regime in enumerate(regimes):
        for place in range(lines):
            ax = axes[place, column]
            if place >= len(shown[regime]):
                ax.set_visible(False)
                continue
            step = shown[regime][place]
            row = chosen[(chosen["regime"] == regime) & (chosen["step"] == step)].iloc[0]
            mine = scored[
                (scored["seed"] == row["seed"]) & (scored["regime"] == regime) & (scored["step"] == step)
            ].assign(position=lambda frame: frame["position"].astype(int))
            panel(ax, mine, row, colours)
            title(ax, f"{regime}, step {step}\n{verdict(row)}", room - 0.6, fontsize=8)
            ax.set_xlabel("layer (block input)")
    for place in range(lines):
        axes[place, 0].set_ylabel(AXIS[selector])
    marks = [Line2D([], [], color=colours[position], label=f"position {position}") for position in positions]
    marks += [
        Line2D([], [], color="black", linestyle="--", label="doing nothing"),
        Line2D([], [], color=NULL, linestyle=":", label="95 % point of the null sets (held out)"),
        Line2D([], [], **GREYS | CHOSEN, label="chosen"),
        Line2D([], [], **GREYS | RUNNER_UP, label="next best"),
        Line2D([], [], **GREYS, marker="o", markersize=3.5, markerfacecolor="white", label="not admissible (KL)"),
    ]
    legend_below(figure, marks)
    n = f"{counts(chosen, 'n_harmful')} + {counts(chosen, 'n_benign').removeprefix('n = ')} prompts"
    screened = counts(chosen, "n_screen").removeprefix("n = ")
    headline(
        figure, f"Selection of R ({selector})", f"{n}; sites that did not reach them: {screened} + {screened}; {note}"
    )
    return figure


def two_anchors(rows: pd.DataFrame) -> list[int]:
    """Steps of a regime's first anchor with an R of its own, or its first, and of its last; one where they are one."""
    steps = sorted(rows["step"].astype(int))
    own = sorted(rows.loc[rows["status"] == "own", "step"].astype(int))
    return list(dict.fromkeys([(own or steps)[0], steps[-1]]))


def panel(ax: Axes, candidates: pd.DataFrame, row: pd.Series, colours: dict[int, str]) -> None:
    for position, rows in candidates.groupby("position"):
        draw_candidates(ax, rows.dropna(subset=["value"]), colours[position])
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.axhline(0, color="black", linestyle="--", linewidth=0.9, zorder=1)
    if pd.notna(row["null_95"]):
        ax.axhline(row["null_95"], color=NULL, linestyle=":", linewidth=1.5, zorder=1)
    ax.plot([row["layer"]], [row["gain_all"]], color=colours[int(row["position"])], zorder=5, **CHOSEN)
    if pd.notna(row["runner_up_layer"]):
        y, colour = row["gain_all"] - row["margin"], colours[int(row["runner_up_position"])]
        ax.plot([row["runner_up_layer"]], [y], color=colour, zorder=4, **RUNNER_UP)


def verdict(row: pd.Series) -> str:
    site = f"{int(row['layer'])}/{int(row['position'])}"
    gain = "" if pd.isna(row["gain"]) else f"held out {row['gain']:.2g} [{row['gain_lo']:.2g}, {row['gain_hi']:.2g}]"
    if pd.isna(row["reason"]):
        return f"R at {site}: {gain}"
    return f"{site} is {'kept as R' if row['status'] == 'own' else 'not R'}: {gain}"
