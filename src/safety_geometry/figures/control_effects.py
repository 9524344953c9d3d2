"""Is an effect the carrier's own? The primary cells, before and after the mean of their matched controls is taken
off."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from safety_geometry.figures.lettering import headline, legend_below, title
from safety_geometry.figures.modes import look, number, place
from safety_geometry.figures.notes import counts, first_seed, p_text, success
from safety_geometry.figures.style import GREY, NoData, is_true, need, striped

MOST = 18  # rows; with more, the largest effects
CELL = ["regime", "anchor", "target"]
ORDER = ("r_only", "r_perp_h", "h_only", "h_perp_r", "h_plus_r")
ALPHA = 0.05
TEXT = 7.5
METRICS = {  # title, axis, factor, half the least width of the axis
    "log_odds": ("refusal log-odds", "change of refusal log-odds\n← refuses less | refuses more →", 1.0, 0.1),
    "asr": ("{success}", "change in points\n← fewer | more →", 100.0, 5.0),
}
ENTRIES = (
    Line2D([], [], linestyle="none", marker="|", markersize=9, markeredgewidth=1.8, color=GREY, label="raw change"),
    Line2D([], [], color="black", marker="o", markersize=5.5, label="less controls', p (Holm) < .05"),
    Line2D([], [], color="black", marker="o", markersize=5.5, markerfacecolor="white", label="less controls', else"),
)


def control_effects(tables: dict[str, pd.DataFrame]) -> Figure:
    """Forest plot of the primary cells, ablations and additions of R and H: the raw change, and the change less the
    mean of the pooled controls, with its interval and, in words beside it, its value and Holm's p. Left: refusal
    log-odds; right, where measured: attack success. Means over seeds, each seed a small circle; without the table
    sweep_pooled the first seed. Where no cell is primary, the largest effects. Needs control_normalised."""
    frame = need(tables, "control_normalised", ["delta_control"]).dropna(subset=["delta_control"])
    frame = named(frame[frame["metric"].isin(METRICS) & (frame["control"] == "pooled")])
    if not (frame["metric"] == "log_odds").any():
        raise NoData("the table control_normalised has no target with a change of log_odds")
    over_seeds, seeds = tables.get("sweep_pooled"), len(set(frame["seed"]))
    if over_seeds is not None and len(over_seeds) and seeds > 1:
        shown, note = named(over_seeds[over_seeds["metric"].isin(METRICS)]), f"means of {seeds} seeds, circles: each"
    else:
        shown, note = first_seed(frame)
    primary = is_true(shown["primary"])
    shown = shown[primary] if primary.any() else shown
    cells = shown[shown["metric"] == "log_odds"].drop_duplicates("cell")
    what = "Primary cells" if primary.any() else "Targets"
    if len(cells) > MOST:
        what = f"The {MOST} of {len(cells)} {what.lower()} with the largest effect"
        cells = cells.loc[cells["delta_control"].abs().sort_values(ascending=False, kind="stable").index[:MOST]]
    cells = listed(cells)
    rows = {cell: i for i, cell in enumerate(cells["cell"])}
    shown, frame = shown[shown["cell"].isin(rows)], frame[frame["cell"].isin(rows)]
    metrics = [metric for metric in METRICS if (shown["metric"] == metric).any()]
    figure = Figure(figsize=(10.5 if len(metrics) > 1 else 7.6, 1.9 + 0.36 * len(rows)))
    axes = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for metric, ax in zip(metrics, axes, strict=True):
        mine = shown[shown["metric"] == metric]
        forest(ax, mine, frame[(frame["metric"] == metric) & (seeds > 1)], rows, *METRICS[metric][2:])
        ax.set_xlabel(METRICS[metric][1])
        behind = f"{counts(mine, 'n_prompts')} prompts, {counts(mine, 'n_controls').removeprefix('n = ')} controls"
        title(ax, f"{METRICS[metric][0].format(success=success(frame))}: {behind}", 3.3)
    axes[0].set_yticks(range(len(rows)), [done(cell) for _, cell in cells.iterrows()])
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    legend_below(figure, ENTRIES)
    where = "; ".join(dict.fromkeys(place(c["regime"], c["anchor"], 0) for _, c in cells.iterrows()))
    headline(figure, f"{what}: does it move more than its controls?", f"{where}; bars: 95 % intervals; {note}")
    return figure


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """With a column `cell`: regime, anchor and target, as text."""
    return frame.assign(cell=[tuple(map(str, cell)) for cell in frame[CELL].to_numpy()]).reset_index(drop=True)


def listed(cells: pd.DataFrame) -> pd.DataFrame:
    """By checkpoint, R before H, what is removed before what is added."""
    keys = cells.assign(
        place=cells[["regime", "anchor"]].astype(str).agg(":".join, axis=1),
        side=cells["mode"].map({mode: i for i, mode in enumerate(ORDER)}).fillna(len(ORDER)),
    )
    return cells.loc[keys.sort_values(["place", "side", "family", "lambda"], kind="stable").index]


def done(cell: pd.Series) -> str:
    """What is done to which checkpoint: `R added, λ = 1`."""
    verb = "removed" if cell["family"] == "ablate" else "added" if cell["lambda"] > 0 else "subtracted"
    extra = "" if cell["scope"] == "layer" else ", all layers"
    extra += f", rank {int(cell['rank'])}" if cell["rank"] > 1 else ""
    name = look(cell["mode"])["label"].removesuffix(" only")
    return f"{name} {verb}, λ = {number(cell['lambda'])}{extra}\n{cell['regime']}"


def forest(
    ax: Axes, shown: pd.DataFrame, seeds: pd.DataFrame, rows: dict[tuple, int], unit: float, least: float
) -> None:
    """One metric: the raw change, the change less the controls' with its interval and its words, and each seed's."""
    striped(ax, len(rows), zero=True)
    y = shown["cell"].map(rows).to_numpy(float)
    tested = shown["p_holm"].to_numpy(float) if "p_holm" in shown else np.full(len(shown), np.nan)
    away = (shown["lo"] > 0) | (shown["hi"] < 0)
    sure = away & ((tested < ALPHA) if np.isfinite(tested).any() else True)
    value, lo, hi = (shown[name].to_numpy(float) * unit for name in ("delta_control", "lo", "hi"))
    ax.hlines(y, lo, hi, color="black", linewidth=2.0)
    ax.plot(shown["delta"] * unit, y, "|", color=GREY, markersize=11, markeredgewidth=1.8, zorder=2)
    for fill, some in (("black", sure), ("white", ~sure)):
        ax.plot(value[some], y[some], "o", color="black", markerfacecolor=fill, markersize=5.5, zorder=3)
    ax.plot(seeds["delta_control"] * unit, seeds["cell"].map(rows) + 0.24, "o", color=GREY, markersize=3, zorder=2)
    ends = np.concatenate([lo, hi, shown["delta"] * unit, seeds["delta_control"] * unit, [-least, least]])
    left, right = np.nanmin(ends), np.nanmax(ends)
    room = right - left
    ax.set_xlim(left - 0.05 * room, right + 0.75 * room)  # words stand at the right
    for at, row, p in zip(y, shown.to_dict("records"), tested, strict=True):
        ax.text(0.985, at, words(row, p, unit), ha="right", va="center", fontsize=TEXT, linespacing=1.15,
                transform=ax.get_yaxis_transform())  # fmt: skip


def words(row: dict, p: float, unit: float) -> str:
    """`−0.85 [−1.20, −0.40]`, and below it Holm's p with the least that the unadjusted one can be."""
    digits = 0 if unit > 1 else 2
    value, lo, hi = (f"{row[name] * unit:.{digits}f}" for name in ("delta_control", "lo", "hi"))
    text = f"{value} [{lo}, {hi}]".replace("-", "−")
    if lo == hi:
        text += " (all alike)"
    return text if np.isnan(p) else f"{text}\np {p_text(p)} (least {row['p_smallest']:.4f})"
