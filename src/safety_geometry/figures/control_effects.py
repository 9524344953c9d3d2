"""Is an effect the carrier's own? The primary cells, before and after the mean of their matched controls is taken off."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from safety_geometry.figures.modes import first_seed, is_true, look, number, place
from safety_geometry.figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, NoData, need

KINDS = {
    "pooled": ("less pooled controls", "black", "o"),
    "random": ("less random", SKY, "v"),
    "covariance": ("less covariance-matched", GREEN, "^"),
    "shuffled": ("less label-shuffled", ORANGE, "s"),
    "wrong_layer": ("less wrong layer", BLUE, "<"),
    "wrong_position": ("less wrong position", PURPLE, ">"),
    "norm_matched": ("less norm-matched", VERMILION, "D"),
}
CELL = ["regime", "step", "anchor", "target"]
METRICS = {
    "log_odds": ("change of refusal log-odds\n(left: refuses less)", 1.0),
    "asr": ("change of attack success, in points\n(right: attacks succeed more)", 100.0),
}


def control_effects(tables: dict[str, pd.DataFrame]) -> Figure:
    """Forest plot of the primary cells: the raw change, and the change less the mean of the controls with its interval, pooled
    and per kind. Left: refusal log-odds with Holm's p; right, where measured: attack success. The first seed is drawn, the
    pooled values of other seeds as hollow circles. Needs control_normalised."""
    frame = need(tables, "control_normalised", ["delta_control"]).dropna(subset=["delta_control"])
    frame = frame[is_true(frame["primary"]) & frame["metric"].isin(METRICS) & frame["control"].isin(KINDS)]
    frame = frame.assign(cell=[tuple(map(str, cell)) for cell in frame[CELL].to_numpy()])
    if not (frame["metric"] == "log_odds").any():
        raise NoData("the table control_normalised has no primary cell with a change of log_odds")
    mine, note = first_seed(frame)
    cells = mine[mine["metric"] == "log_odds"].drop_duplicates("cell")
    rows = {cell: i for i, cell in enumerate(cells["cell"])}
    kinds = [kind for kind in KINDS if (mine["control"] == kind).any()]
    shown = [metric for metric in METRICS if (mine["metric"] == metric).any()]
    figure = Figure(figsize=(10 if len(shown) > 1 else 7.4, 1.8 + (0.22 + 0.075 * len(kinds)) * len(rows)))
    widths = [3, 0.8, 2.4][: len(shown) + 1]
    axes = figure.subplots(1, len(widths), sharey=True, width_ratios=widths, squeeze=False)[0]
    for metric, ax in zip(shown, axes[::2], strict=True):
        seeds = frame[(frame["metric"] == metric) & frame["cell"].isin(rows)]
        forest(ax, seeds, mine["seed"].iloc[0], rows, kinds, METRICS[metric][1])
        ax.set_xlabel(METRICS[metric][0])
    axes[0].set_yticks(range(len(rows)), [label(cell) for _, cell in cells.iterrows()])
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    p_values(axes[1], mine[(mine["metric"] == "log_odds") & (mine["control"] == "pooled")], rows)
    entries = [Line2D([], [], linestyle="none", marker="|", markersize=9, markeredgewidth=1.8, color=GREY, label="raw change")]
    for kind in kinds:
        text, colour, marker = KINDS[kind]
        entries.append(Line2D([], [], color=colour, marker=marker, label=text, **weight(kind)))
    if frame["seed"].nunique() > 1:
        entries.append(Line2D([], [], linestyle="none", marker="o", markersize=4.5, markerfacecolor="none", color="black",
                              label="other seeds, pooled"))  # fmt: skip
    figure.legend(handles=entries, loc="outside lower center", ncols=4)
    figure.suptitle(f"Primary cells: the change less the mean of its controls (bars: 95 % intervals; {note})", x=0.01, ha="left")
    return figure


def weight(kind: str) -> dict[str, float]:
    """Pooled stands out; the single kinds stand behind."""
    return {"linewidth": 2.0, "markersize": 5.5} if kind == "pooled" else {"linewidth": 0.9, "markersize": 3.2}


def forest(ax: Axes, frame: pd.DataFrame, seed: int, rows: dict[tuple, int], kinds: list[str], unit: float) -> None:
    """One metric: pooled on the row's upper line with the raw change, the kinds below it."""
    ax.axvline(0, color="#888888", linewidth=0.8, zorder=1)
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)
    for place_, i in enumerate(rows.values()):
        if place_ % 2:
            ax.axhspan(i - 0.5, i + 0.5, color="#F4F4F4", linewidth=0, zorder=0)
    gap = 0.84 / (len(kinds) + 0.6)
    for order, kind in enumerate(kinds):
        own = frame[frame["control"] == kind]
        y = own["cell"].map(rows) - 0.42 + gap * (order + (0.5 if kind == "pooled" else 0.9))
        first, (_, colour, marker) = own["seed"] == seed, KINDS[kind]
        style = weight(kind)
        known = first & own["lo"].notna() & own["hi"].notna()
        ax.hlines(y[known], own["lo"][known] * unit, own["hi"][known] * unit, color=colour, linewidth=style["linewidth"])
        ax.plot(own["delta_control"][first] * unit, y[first], color=colour, marker=marker, markersize=style["markersize"], linestyle="none",
                zorder=3)  # fmt: skip
        if kind == kinds[0]:
            ax.plot(own["delta"][first] * unit, y[first], "|", color=GREY, markersize=10, markeredgewidth=1.8, zorder=2)
        if kind == "pooled":
            ax.plot(own["delta_control"][~first] * unit, y[~first], "o", markersize=4.5, markerfacecolor="none", color=colour, zorder=4)


def p_values(ax: Axes, frame: pd.DataFrame, rows: dict[tuple, int]) -> None:
    """Holm's p of each cell and the smallest that its permutation test could give."""
    ax.set_axis_off()
    ax.set_title("p (Holm), smallest\npossible below", loc="left", fontsize=8)
    for row in frame.itertuples():
        if pd.notna(row.p_holm):
            ax.text(0.0, rows[row.cell], f"{row.p_holm:.3f}", ha="left", va="bottom", fontsize=8.5, transform=ax.get_yaxis_transform())
        if pd.notna(row.p_smallest):
            ax.text(0.0, rows[row.cell], f"(≥ {row.p_smallest:.3f})", ha="left", va="top", fontsize=7.5, color=GREY,
                    transform=ax.get_yaxis_transform())  # fmt: skip


def label(cell: pd.Series) -> str:
    """Two lines: what is done, and to which checkpoint."""
    extra = "" if cell["scope"] == "layer" else ", all layers"
    extra += f", rank {int(cell['rank'])}" if pd.notna(cell["rank"]) and cell["rank"] > 1 else ""
    return f"{look(cell['mode'])['label']}: {cell['family']}, λ = {number(cell['lambda'])}{extra}\n{place(cell['regime'], cell['anchor'], cell['step'])}"
