"""Where the carriers are chosen: scores by layer at each anchor."""

import pandas as pd
from matplotlib.figure import Figure

from safety_geometry.figures.style import headline, is_true, need, ordered_anchors

SHADES = ("#FDE725", "#8FD744", "#35B779", "#21908C", "#31688E", "#443A83", "#2D0A45")  # light: early, dark: late


def layer_profile(tables: dict[str, pd.DataFrame]) -> Figure:
    """One column per regime. Above: validation score of H by layer. Below: the best S_total of R by layer, filled where that
    candidate is admissible; stars mark the chosen sites. The first seed is drawn. Needs profile."""
    frame = need(tables, "profile", ["value"])
    seed = frame["seed"].min()
    frame = frame[(frame["seed"] == seed) & frame["anchor"].notna()]
    anchors = ordered_anchors(frame)
    last = max(len(anchors) - 1, 1)
    shade = {a: SHADES[round(1 + i * (len(SHADES) - 2) / last)] for i, a in enumerate(anchors)}
    score = next(iter(frame.loc[(frame["carrier"] == "H") & is_true(frame["selected"]), "quantity"]), "dprime")
    regimes = list(dict.fromkeys(frame["regime"]))
    figure = Figure(figsize=(max(6.5, 3.5 * len(regimes)), 6.2))
    axes = figure.subplots(2, len(regimes), sharey="row", squeeze=False)
    for column, regime in enumerate(regimes):
        top, bottom = axes[:, column]
        top.set_title(regime)
        for i, anchor in enumerate(anchors):
            rows = frame[(frame["regime"] == regime) & (frame["anchor"] == anchor)]
            shift = 0.12 * (i - (len(anchors) - 1) / 2)
            h = rows[(rows["carrier"] == "H") & (rows["quantity"] == score)].sort_values("layer")
            top.plot(h["layer"], h["value"], color=shade[anchor], label=anchor)
            star(top, h, shade[anchor])
            refusal(bottom, rows[(rows["carrier"] == "R") & (rows["quantity"] == "s_total")], shade[anchor], shift)
        top.set_xlabel("layer (block input)")
        bottom.set_xlabel("layer (block input)")
        bottom.set_xlim(top.get_xlim())
    axes[0, 0].set_ylabel(f"H: validation score ({score})")
    axes[1, 0].set_ylabel("R: S_total of the best position")
    axes[1, 0].plot([], [], "o", color="#555555", label="admissible")
    axes[1, 0].plot([], [], "o", markerfacecolor="white", color="#555555", label="not admissible")
    axes[1, 0].plot([], [], "*", color="#555555", markersize=11, label="chosen site")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, title="anchor", loc="outside right upper")
    figure.legend(*axes[1, 0].get_legend_handles_labels(), loc="outside right lower")
    headline(figure, "Scores by layer: harmfulness (above) and refusal (below) carriers", f"seed {seed}")
    return figure


def refusal(ax, rows: pd.DataFrame, colour: str, shift: float) -> None:
    """Best candidate of each layer: an admissible one where there is one."""
    rows = rows.dropna(subset=["value"]).assign(admissible=is_true(rows["admissible"]))
    if not len(rows):
        return
    best = (
        rows.sort_values(["admissible", "value"], ascending=False, kind="stable")
        .groupby("layer")
        .head(1)
        .sort_values("layer")
    )
    x = best["layer"] + shift
    ax.plot(x, best["value"], color=colour, linewidth=1.0)
    for good, fill in ((True, colour), (False, "white")):
        part = best["admissible"] == good
        ax.plot(x[part], best["value"][part], "o", color=colour, markerfacecolor=fill, markersize=4)
    star(ax, rows.assign(layer=rows["layer"] + shift), colour)


def star(ax, rows: pd.DataFrame, colour: str) -> None:
    chosen = rows[is_true(rows["selected"])]
    ax.plot(
        chosen["layer"],
        chosen["value"],
        "*",
        color=colour,
        markeredgecolor="black",
        markeredgewidth=0.6,
        markersize=12,
        zorder=5,
    )
