"""Which carrier holds refusal in an aligned model: attack success with H, R, or R without H edited (arXiv 2606.16349,
Table 1)."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from safety_geometry.figures.lettering import headline, legend_below
from safety_geometry.figures.modes import dose, look
from safety_geometry.figures.notes import counts, p_text, success
from safety_geometry.figures.style import GREY, need, striped

ARMS = {"asr_baseline": None, "asr_h_only": "h_only", "asr_r_only": "r_only", "asr_r_perp_h": "r_perp_h"}
BASELINE = {"label": "no intervention", "color": GREY, "marker": "D"}


def aligned_anchors(tables: dict[str, pd.DataFrame]) -> Figure:
    """Attack success of each aligned model without intervention and with H-only, R-only and R⊥H, with Wilson intervals.
    Beside it the paired difference of R-only and H-only. One row of dots per row of the table. Needs
    aligned_anchors."""
    frame = need(tables, "aligned_anchors", ["asr_baseline", "asr_h_only", "asr_r_only", "asr_r_perp_h"]).reset_index(
        drop=True
    )
    figure = Figure(figsize=(8.2, 1.9 + 0.85 * len(frame)))
    ax = figure.subplots()
    striped(ax, len(frame))
    for i, row in frame.iterrows():
        for order, (column, mode) in enumerate(ARMS.items()):
            style = look(mode) if mode else BASELINE
            y = i + 0.19 * (order - (len(ARMS) - 1) / 2)
            ax.hlines(y, row[f"{column}_lo"], row[f"{column}_hi"], color=style["color"], linewidth=1.6)
            ax.plot(row[column], y, marker=style["marker"], color=style["color"], markersize=6)
        ax.text(1.02, i, difference(row), transform=ax.get_yaxis_transform(), va="center", fontsize=8)
    ax.set_title(f"harmful requests asked as they are ({counts(frame, 'n')})")
    ax.set_yticks(range(len(frame)), [label(frame, i) for i in frame.index])
    ax.set_ylim(len(frame) - 0.5, -0.5)
    ax.set_xlim(-0.02, 1.02)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=""))
    ax.set_xlabel(f"{success(frame)} (% of requests)")
    legend_below(figure, legend())
    seeds = f"; {n} seeds, a row each" if (n := len(set(frame["seed"]))) > 1 else ""
    headline(figure, f"Aligned models with a carrier edited: {success(frame)}", f"bars: 95 % Wilson intervals{seeds}")
    return figure


def legend() -> list[Line2D]:
    styles = [look(mode) if mode else BASELINE for mode in ARMS.values()]
    return [Line2D([], [], linestyle="-", **style) for style in styles]


def label(frame: pd.DataFrame, i: int) -> str:
    """The model and what tells its row from others; below, the carriers' layers and their cosine."""
    row, words = frame.loc[i], [str(frame.loc[i, "model"])]
    if len(set(frame["seed"])) > 1:
        words.append(f"seed {row['seed']}")
    words.append(dose(row))
    sites = [f"H layer {int(row['layer_h'])}", f"R layer {int(row['layer_r'])}"]
    if pd.notna(row["c_cos"]):
        sites.append(f"|cos| {row['c_cos']:.2f}")
    return f"{words[0]}\n{', '.join(words[1:])}\n{', '.join(sites)}"


def difference(row: pd.Series) -> str:
    """The paired difference as text, in points."""
    value, lo, hi = (f"{100 * row[f'r_minus_h{end}']:+.0f}".replace("-", "−") for end in ("", "_lo", "_hi"))
    return f"R only − H only:\n{value} points\n[{lo}, {hi}], p {p_text(row['r_minus_h_p'])}"
