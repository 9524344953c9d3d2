"""Is an effect the carrier's own? The primary cells, before and after the mean of their matched controls is taken
off."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from safety_geometry.figures.modes import label
from safety_geometry.figures.style import (
    GREY,
    INDIGO,
    OLIVE,
    ORANGE,
    PURPLE,
    SKY,
    WINE,
    NoData,
    counts,
    first_seed,
    headline,
    is_true,
    legend_below,
    need,
    p_text,
    striped,
    title,
)

KINDS = {
    "pooled": ("less pooled controls", "black", "o"),
    "random": ("less random", SKY, "v"),
    "covariance": ("less covariance-matched", OLIVE, "^"),
    "shuffled": ("less label-shuffled", ORANGE, "s"),
    "wrong_layer": ("less wrong layer", INDIGO, "<"),
    "wrong_position": ("less wrong position", PURPLE, ">"),
    "norm_matched": ("less norm-matched", WINE, "D"),
}
NO_WIDTH = {"marker": "$\\pm 0$", "color": "black", "markersize": 11, "markeredgewidth": 0.3, "linestyle": "none"}
MOST = 12  # rows; with more, the largest effects
CELL = ["regime", "step", "anchor", "target"]
NAMES = {"log_odds": "refusal log-odds", "asr": "attack success"}
METRICS = {  # label, factor, half the least width of the axis
    "log_odds": ("change of refusal log-odds\n(left: refuses less)", 1.0, 0.1),
    "asr": ("change of attack success, in points\n(right: attacks succeed more)", 100.0, 5.0),
}


def control_effects(tables: dict[str, pd.DataFrame]) -> Figure:
    """Forest plot of the primary cells: the raw change, and the change less the mean of the controls with its interval,
    pooled
    and per kind. Left: refusal log-odds with Holm's p; right, where measured: attack success. The first seed is drawn,
    the pooled values of other seeds as hollow circles. Where no cell is primary, the largest effects. Needs
    control_normalised."""
    frame = need(tables, "control_normalised", ["delta_control"]).dropna(subset=["delta_control"])
    frame = frame[frame["metric"].isin(METRICS) & frame["control"].isin(KINDS)].reset_index(drop=True)
    if not (frame["metric"] == "log_odds").any():
        raise NoData("the table control_normalised has no target with a change of log_odds")
    frame = frame.assign(cell=[tuple(map(str, cell)) for cell in frame[CELL].to_numpy()])
    primary = is_true(frame["primary"])
    mine, note = first_seed(frame[primary] if primary.any() else frame)
    cells = mine[mine["metric"] == "log_odds"].drop_duplicates("cell")
    what = "Primary cells" if primary.any() else "Targets"
    if len(cells) > MOST:
        what = f"The {MOST} of {len(cells)} {what.lower()} with the largest effect"
        cells = cells.loc[
            cells["delta_control"].abs().sort_values(ascending=False, kind="stable").index[:MOST].sort_values()
        ]
    rows = {cell: i for i, cell in enumerate(cells["cell"])}
    mine = mine[mine["cell"].isin(rows)]
    kinds = [kind for kind in KINDS if (mine["control"] == kind).any()]
    shown = [metric for metric in METRICS if (mine["metric"] == metric).any()]
    figure = Figure(figsize=(10 if len(shown) > 1 else 7.4, 1.8 + (0.22 + 0.075 * len(kinds)) * len(rows)))
    widths = [3, 0.8, 2.4][: len(shown) + 1]
    axes = figure.subplots(1, len(widths), sharey=True, width_ratios=widths, squeeze=False)[0]
    for metric, ax in zip(shown, axes[::2], strict=True):
        seeds = frame[(frame["metric"] == metric) & frame["cell"].isin(rows)]
        forest(ax, seeds, mine["seed"].iloc[0], rows, kinds, METRICS[metric][1])
        ax.set_xlabel(METRICS[metric][0])
        pooled = mine[(mine["metric"] == metric) & (mine["control"] == "pooled")]
        if len(pooled):
            controls = counts(pooled, "n_controls").removeprefix("n = ")
            n = f"{counts(pooled, 'n_prompts')} prompts,\n{controls} pooled controls"
            title(ax, f"{NAMES[metric]}: {n}", 3.3)
        least = METRICS[metric][2]  # no zoom into a change of nothing
        ax.set_xlim(min(ax.get_xlim()[0], -least), max(ax.get_xlim()[1], least))
    axes[0].set_yticks(range(len(rows)), [label(cell) for _, cell in cells.iterrows()])
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    p_values(axes[1], mine[(mine["metric"] == "log_odds") & (mine["control"] == "pooled")], rows)
    entries = [
        Line2D([], [], linestyle="none", marker="|", markersize=9, markeredgewidth=1.8, color=GREY, label="raw change")
    ]
    for kind in kinds:
        text, colour, marker = KINDS[kind]
        entries.append(Line2D([], [], color=colour, marker=marker, label=text, **weight(kind)))
    if len(set(frame["seed"])) > 1:
        entries.append(
            Line2D(
                [],
                [],
                linestyle="none",
                marker="o",
                markersize=4.5,
                markerfacecolor="none",
                color="black",
                label="other seeds, pooled",
            )
        )
    drawn = mine["metric"].isin(shown)
    if (drawn & (mine["lo"] == mine["hi"])).any():
        entries.append(Line2D([], [], label="interval without width: every prompt gave the same", **NO_WIDTH))
    legend_below(figure, entries)
    headline(figure, f"{what}: the change less the mean of its controls", f"bars: 95 % intervals; {note}")
    return figure


def weight(kind: str) -> dict[str, float]:
    """Pooled stands out; the single kinds stand behind."""
    return {"linewidth": 2.0, "markersize": 5.5} if kind == "pooled" else {"linewidth": 0.9, "markersize": 3.2}


def forest(ax: Axes, frame: pd.DataFrame, seed: int, rows: dict[tuple, int], kinds: list[str], unit: float) -> None:
    """One metric: pooled on the row's upper line with the raw change, the kinds below it."""
    striped(ax, len(rows), zero=True)
    gap = 0.84 / (len(kinds) + 0.6)
    for order, kind in enumerate(kinds):
        of_kind = frame[frame["control"] == kind]
        y = of_kind["cell"].map(rows) - 0.42 + gap * (order + (0.5 if kind == "pooled" else 0.9))
        first, (_, colour, marker) = of_kind["seed"] == seed, KINDS[kind]
        style = weight(kind)
        known = first & of_kind["lo"].notna() & of_kind["hi"].notna()
        ax.hlines(
            y[known],
            of_kind["lo"][known] * unit,
            of_kind["hi"][known] * unit,
            color=colour,
            linewidth=style["linewidth"],
        )
        ax.plot(
            of_kind["delta_control"][first] * unit,
            y[first],
            color=colour,
            marker=marker,
            markersize=style["markersize"],
            linestyle="none",
            zorder=3,
        )
        flat = known & of_kind["lo"].eq(of_kind["hi"])  # a bar without width would look like a missing one
        for x, at in zip(of_kind["delta_control"][flat] * unit, y[flat], strict=True):
            ax.annotate(
                "±0", (x, at), (5, 0), textcoords="offset points", va="center", fontsize=6.5, color=colour, zorder=4
            )
        if kind == kinds[0]:
            ax.plot(
                of_kind["delta"][first] * unit, y[first], "|", color=GREY, markersize=10, markeredgewidth=1.8, zorder=2
            )
        if kind == "pooled":
            ax.plot(
                of_kind["delta_control"][~first] * unit,
                y[~first],
                "o",
                markersize=4.5,
                markerfacecolor="none",
                color=colour,
                zorder=4,
            )


def p_values(ax: Axes, frame: pd.DataFrame, rows: dict[tuple, int]) -> None:
    """Holm's p of each cell and the smallest that its permutation test could give, before Holm."""
    ax.set_axis_off()
    frame = frame[frame["p_holm"].notna()]
    if len(frame):
        ax.set_title("p (Holm), least\npossible below", loc="left", fontsize=8)
    for row in frame.itertuples():
        ax.text(
            0.0,
            rows[row.cell],
            p_text(row.p_holm),
            ha="left",
            va="bottom",
            fontsize=8.5,
            transform=ax.get_yaxis_transform(),
        )
        if pd.notna(row.p_smallest):
            ax.text(0.0, rows[row.cell], f"(least {row.p_smallest:.3f})", ha="left", va="top", fontsize=7.5, color=GREY,
                    transform=ax.get_yaxis_transform())  # fmt: skip
