"""Two studies claim by claim: the estimates of both with their intervals, a panel for each unit."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

from safety_geometry.figures.lettering import headline, legend_below, wrapped
from safety_geometry.figures.style import INDIGO, OLIVE, NoData, striped

LOOKS = {"a": (INDIGO, "o", -0.17), "b": (OLIVE, "s", 0.17)}  # colour, marker, place within a row
OWN = ""  # axis of claims that state no unit: each row has a scale of its own
SENTENCE = 3.4  # inches of the claims
ROW, AROUND = 0.4, 0.62  # inches of a row, and of what stands around a panel
SHADE = "#FBE9EE"


def comparison(frame: pd.DataFrame, a: str, b: str) -> Figure:
    """Forest plot of the claims that are comparable and have an estimate in either study. Verdicts that differ are
    shaded, estimates that lie apart have bold numbers.

    frame: the table `comparison` with columns `axis`, what an estimate is drawn against (empty: its own scale), and
    `words_a` and `words_b`, what is said of each study. a, b: their names. Raises NoData where no claim can be drawn.
    """
    shown = frame[frame["comparable"].astype(bool) & frame["verdicts"].isin(["same", "differ"])]
    shown = shown[shown["estimate_a"].notna() | shown["estimate_b"].notna()]
    if not len(shown):
        raise NoData("no claim applies to both studies, was decided by the same rule, and has an estimate")
    panels = sorted(shown.groupby("axis", sort=False), key=lambda panel: -len(panel[1]))
    heights = [ROW * len(rows) + AROUND for _, rows in panels]
    figure = Figure(figsize=(10.5, sum(heights) + 1.6))
    axes = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for ax, (axis, rows) in zip(axes, panels, strict=True):
        forest(ax, rows.to_dict("records"), axis)
    entries = [
        *(Line2D([], [], color=LOOKS[side][0], marker=LOOKS[side][1], label=f"{side.upper()}: {wrapped(name, 6.0, 8)}")
          for side, name in (("a", a), ("b", b))),
        Line2D([], [], linestyle="none", marker="|", color="black", markersize=9, label="what has to be exceeded"),
        Patch(color=SHADE, label="≠, shaded: verdicts differ"),
        Line2D([], [], linestyle="none", label="bold: estimates lie apart"),
    ]  # fmt: skip
    legend_below(figure, entries)
    n = int((shown["verdicts"] == "differ").sum())
    bars = "bars: 95 % intervals over prompts, seeds fixed"
    headline(figure, "Two studies, claim by claim", f"{n} of {len(shown)} verdicts differ; {bars}")
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # names are not formulae
    return figure


def forest(ax: Axes, rows: list[dict], axis: str) -> None:
    """One panel: a row for each claim, the sentence at the left and both verdicts with their numbers at the right."""
    striped(ax, len(rows))
    values = []
    for y, row in enumerate(rows):
        scale = own_scale(row) if axis == OWN else (0.0, 1.0)
        values += draw_row(ax, y, row, scale)
        if row["verdicts"] == "differ":
            ax.axhspan(y - 0.5, y + 0.5, color=SHADE, linewidth=0, zorder=0.5)
        for side, (colour, _, shift) in LOOKS.items():
            ax.text(1.015, y + 1.25 * shift, row[f"words_{side}"], transform=ax.get_yaxis_transform(), va="center",
                    fontsize=7.5, color=colour, weight="bold" if row["apart"] is True else "normal")  # fmt: skip
    ax.set_yticks(range(len(rows)), [sentence(row) for row in rows], fontsize=7.5)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    left, right = min(values), max(values)
    room = 0.04 * (right - left) or 0.5
    ax.set_xlim(left - room, right + room)
    if axis == OWN:
        ax.set_xticks([])
    elif left <= 0 <= right:
        ax.axvline(0, color="#888888", linewidth=0.8, zorder=1)
    ax.set_title(axis or "units are not stated: each row has a scale of its own", fontsize=8.5)


def sentence(row: dict) -> str:
    return wrapped(f"{'≠ ' if row['verdicts'] == 'differ' else ''}{row['claim']}", SENTENCE, 7.5)


def draw_row(ax: Axes, y: int, row: dict, scale: tuple[float, float]) -> list[float]:
    """Both estimates and the threshold of a claim; returns the numbers drawn, on the panel's scale."""
    start, length = scale
    drawn = []
    for side, (colour, marker, shift) in LOOKS.items():
        value, lo, hi, asked = (
            (float(row[f"{name}_{side}"]) - start) / length for name in ("estimate", "lo", "hi", "threshold")
        )
        ax.hlines(y + shift, lo, hi, color=colour, linewidth=1.6, zorder=3)
        ax.plot(value, y + shift, marker, color=colour, markersize=5, zorder=4)
        ax.plot(asked, y + shift, "|", color="black", markersize=7, markeredgewidth=1.0, zorder=2)
        drawn += [value, lo, hi, asked]
    return [x for x in drawn if np.isfinite(x)]


def own_scale(row: dict) -> tuple[float, float]:
    """Start and length of a row's numbers."""
    ends = [float(row[f"{name}_{side}"]) for name in ("estimate", "lo", "hi", "threshold") for side in LOOKS]
    ends = [x for x in ends if np.isfinite(x)]
    return min(ends), (max(ends) - min(ends)) or 1.0
