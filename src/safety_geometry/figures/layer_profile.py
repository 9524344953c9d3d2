"""Where the carriers are chosen: scores by layer at each anchor."""

from statistics import NormalDist

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from safety_geometry.figures.lettering import headline, title
from safety_geometry.figures.notes import first_seed, stated_prompts
from safety_geometry.figures.style import anchor_steps, draw_candidates, is_true, need, panel_width

SHADES = ("#C9B200", "#8FD744", "#35B779", "#21908C", "#31688E", "#443A83", "#2D0A45")  # light: early, dark: late
RULERS = {"ruler_length_auroc": ("prompt length", ":"), "ruler_words_auroc": ("bag of words", "--")}
GREYS = {"color": "#555555", "linestyle": "none"}


def layer_profile(tables: dict[str, pd.DataFrame]) -> Figure:
    """One column per regime, lines shaded by the anchor's step. Above: validation score of H by layer. Below: the best
    score of R by layer (the gain of the selector in charge), filled where that candidate is admissible; stars mark the
    chosen sites, titles name them. The first seed is drawn. Grey lines: what the prompts' length and words alone give
    away. Needs profile; prompts, where given, tells how many stand behind the scores of H and of R."""
    frame, note = first_seed(need(tables, "profile", ["value"]))
    frame = frame[frame["anchor"].notna()]
    steps = anchor_steps(frame)
    shade = dict(zip(steps, shades(len(steps)), strict=True))
    score = next(iter(frame.loc[(frame["carrier"] == "H") & is_true(frame["selected"]), "quantity"]), "dprime")
    of_r = next(iter(frame.loc[(frame["carrier"] == "R") & is_true(frame["selected"]), "quantity"]), "s_total")
    regimes = list(dict.fromkeys(frame["regime"]))
    room = panel_width(len(regimes), 3.6)
    figure = Figure(figsize=(max(6.5, room * len(regimes) + 0.9), 6.8))
    axes = figure.subplots(2, len(regimes), sharey="row", squeeze=False)
    ruled: dict[str, Line2D] = {}
    for column, regime in enumerate(regimes):
        top, bottom = axes[:, column]
        mine = frame[frame["regime"] == regime]
        scored = anchor_steps(mine)
        for i, step in enumerate(scored):
            rows = mine[mine["step"] == step]
            h = rows[(rows["carrier"] == "H") & (rows["quantity"] == score)].sort_values("layer")
            top.plot(h["layer"], h["value"], color=shade[step])
            star(top, h, shade[step])
            shift = 0.12 * (i - (len(scored) - 1) / 2)
            refusal(bottom, rows[(rows["carrier"] == "R") & (rows["quantity"] == of_r)], shade[step], shift)
        ruled |= rulers(top, mine, score)
        reference = sorted(set(mine.loc[mine["anchor"] == "reference", "step"].astype(int)))
        words = f" (reference: {reference[0]})" if reference and len(scored) > 1 else ""
        title(top, f"{regime}{words}\nH at {chosen(mine, 'H', score, scored)}", room - 0.5)
        title(bottom, f"R at {chosen(mine, 'R', of_r, scored)}", room - 0.5)
        if not len(mine[(mine["carrier"] == "R") & (mine["quantity"] == of_r)].dropna(subset=["value"])):
            bottom.text(0.5, 0.5, "no candidate was scored", transform=bottom.transAxes, ha="center", fontsize=8)
        for ax in (top, bottom):
            ax.set_xlabel("layer (block input)")
        bottom.set_xlim(top.get_xlim())
    n_h, n_r = (f"\n({n} a class)" if (n := stated_prompts(tables, carrier)) else "" for carrier in "HR")
    axes[0, 0].set_ylabel(f"H: validation score, {score}{n_h}")
    name = {"s_total": "S_total", "effect": "gain in log-odds", "cosmic": "gain (cosmic)"}[of_r]
    axes[1, 0].set_ylabel(f"R: {name} of the best position{n_r}")
    lines = [Line2D([], [], color=shade[step], linewidth=2.4, label=str(step)) for step in steps]
    figure.legend(handles=lines, title="anchor (step)", loc="outside right upper")
    marks = [
        Line2D([], [], marker="o", label="admissible", **GREYS),
        Line2D([], [], marker="o", markerfacecolor="white", label="not admissible", **GREYS),
        Line2D([], [], marker="*", markersize=11, label="chosen site", **GREYS),
    ]
    figure.legend(handles=marks + list(ruled.values()), loc="outside right lower")
    words = f"light: early, dark: late; {note}{as_good(frame)}"
    headline(figure, "Scores by layer: harmfulness (above) and refusal (below) carriers", words)
    return figure


def rulers(ax: Axes, rows: pd.DataFrame, score: str) -> dict[str, Line2D]:
    """Lines of what the prompts alone give away, on the axis of H's score, by ruler; none on an axis in activation
    units. An AUROC A is drawn as d' = √2·z(A), that of two normal classes, and 1 as a little less."""
    lines = {}
    for ruler, (words, style) in RULERS.items():
        values = rows[ruler].dropna() if ruler in rows else []
        if len(values) and score in ("auroc", "dprime"):
            auroc = float(values.iloc[0])
            height = auroc if score == "auroc" else 2**0.5 * NormalDist().inv_cdf(min(max(auroc, 0.001), 0.999))
            lines[ruler] = ax.axhline(height, color="#555555", linewidth=1.1, linestyle=style, label=words, zorder=1)
    return lines


def as_good(frame: pd.DataFrame) -> str:
    """A sentence for every ruler that separates the prompts as well as H does at one of its chosen layers."""
    sites = frame[(frame["carrier"] == "H") & is_true(frame["selected"])][["regime", "step", "layer"]]
    of_h = frame[(frame["carrier"] == "H") & (frame["quantity"] == "auroc")].merge(sites)
    said = ""
    for ruler, (words, _) in RULERS.items():
        alike = of_h[of_h[ruler] >= of_h["value"]] if ruler in of_h else of_h[:0]
        if len(alike):
            row = alike.loc[alike["value"].idxmin()]
            numbers = f"AUROC {row[ruler]:.2f} and {row['value']:.2f}"
            said += f"; {words} does as well as H in {len(alike)} of {len(of_h)}: {numbers}"
    return said


def shades(count: int) -> list[str]:
    """So many colours from light to dark; more than there are repeat the neighbour's."""
    return [SHADES[i] for i in np.linspace(0 if count > 2 else 1, len(SHADES) - 1, count).round().astype(int)]


def chosen(rows: pd.DataFrame, carrier: str, quantity: str, steps: list[int]) -> str:
    """`layer 20`, or the layers in order of the steps."""
    sites = rows[(rows["carrier"] == carrier) & (rows["quantity"] == quantity) & is_true(rows["selected"])]
    layers = [sites.loc[sites["step"] == step, "layer"] for step in steps]
    words = [str(int(layer.iloc[0])) if len(layer) else "none" for layer in layers]
    if set(words) == {"none"}:
        return "no layer: none was chosen"
    return f"layer {words[0]}" if len(set(words)) == 1 else f"layers {', '.join(words)}"


def refusal(ax: Axes, rows: pd.DataFrame, colour: str, shift: float) -> None:
    """Best candidate of each layer: an admissible one where there is one."""
    rows = rows.dropna(subset=["value"]).assign(admissible=is_true(rows["admissible"]))
    if not len(rows):
        return
    best = rows.sort_values(["admissible", "value"], ascending=False, kind="stable").groupby("layer").head(1)
    draw_candidates(ax, best, colour, shift)
    star(ax, rows.assign(layer=rows["layer"] + shift), colour)


def star(ax: Axes, rows: pd.DataFrame, colour: str) -> None:
    mine = rows[is_true(rows["selected"])]
    outline = {"markeredgecolor": "black", "markeredgewidth": 0.6, "markersize": 12}
    ax.plot(mine["layer"], mine["value"], "*", color=colour, zorder=5, **outline)
