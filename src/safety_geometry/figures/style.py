"""One look for all figures, and files with the same bytes for the same data.

Colours are Okabe and Ito's and, for what is no regime, Paul Tol's: told apart with every common colour blindness. The
colours of the named regimes mean these regimes in every figure and nothing else; regimes differ in marker and line as
well.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#6F6F6F",
)  # fmt: skip
WINE, INDIGO, OLIVE, ROSE = "#882255", "#332288", "#8A8A2B", "#DD7788"  # of behaviours, controls and other things
NAMED = {"sft": (BLUE, "o", "-"), "r2d2": (VERMILION, "s", "-"), "sft_refusal": (GREEN, "^", "--")}
OTHERS = ((PURPLE, "D", "-."), (ORANGE, "v", ":"), (SKY, "P", "--"), (GREY, "X", "-."))
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "figure.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "errorbar.capsize": 2.0,
    "savefig.dpi": 160,
    "svg.hashsalt": "safety-geometry",
    "svg.fonttype": "path",
    "figure.constrained_layout.use": True,
}
NOTHING = "nothing-to-draw"
MANY = 15  # points of a line, from which bars and large markers hide more than they show


class NoData(ValueError):
    """A figure has nothing to show: says which table or column is missing or empty."""


@contextmanager
def styled() -> Iterator[None]:
    """The figures' settings, whatever the user's own matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def save(figure: Figure, path: Path) -> None:
    """Write an SVG or PNG without time stamp or version: equal figures have equal bytes."""
    kind = path.suffix.lstrip(".")
    metadata = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}
    if kind not in metadata:
        raise ValueError(f"{path.name}: figures are written as svg or png")
    with styled():
        figure.savefig(path, format=kind, metadata=metadata[kind])


def empty_figure(name: str, reason: str) -> Figure:
    """A page in a figure's place that says why there is nothing to draw; its SVG has an element of the id NOTHING."""
    with styled():
        figure = Figure(figsize=(6.5, 1.6))
        figure.text(0.02, 0.5, f"{name}: nothing to draw\n{reason}", va="center", wrap=True, gid=NOTHING)
    return figure


def need(tables: dict[str, pd.DataFrame], name: str, columns: Collection[str] = ()) -> pd.DataFrame:
    """A table that has rows and these columns, each with a value somewhere. Raises NoData."""
    if name not in tables or not len(tables[name]):
        raise NoData(f"the table {name} is missing or empty")
    frame = tables[name]
    if missing := [column for column in columns if column not in frame or frame[column].isna().all()]:
        raise NoData(f"the table {name} has no values in {', '.join(missing)}")
    return frame


def looks(regimes: Collection[str]) -> dict[str, dict]:
    """Colour, marker and line of each regime, in order of appearance."""
    spare = iter(OTHERS * len(regimes))
    out = {}
    for regime in dict.fromkeys(regimes):
        colour, marker, line = NAMED.get(regime) or next(spare)
        out[regime] = {"color": colour, "marker": marker, "linestyle": line}
    return out


def across_seeds(frame: pd.DataFrame, x: str, value: str, lo: str | None = None, hi: str | None = None) -> pd.DataFrame:
    """`x, value, lo, hi, seeds` to draw: one seed's values with their interval, or the mean of several with their
    range; seeds: those that have a value there."""
    frame = frame.dropna(subset=[value])
    if len(set(frame["seed"])) > 1:
        over_seeds = frame.groupby(x).agg(
            value=(value, "mean"),
            lo=(value, "min"),
            hi=(value, "max"),
            seeds=("seed", lambda of: tuple(sorted(set(of)))),
        )
        return over_seeds.rename_axis("x").reset_index()
    bounds = {"lo": frame[lo] if lo else np.nan, "hi": frame[hi] if hi else np.nan}
    points = pd.DataFrame({"x": frame[x], "value": frame[value], **bounds}).sort_values("x", ignore_index=True)
    return points.assign(seeds=[tuple(set(frame["seed"]))] * len(points))


def runs(points: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The points of `across_seeds` from each change of their seeds to the next: a line through such a change would show
    as a course what is a difference of seeds."""
    same = points["seeds"] if "seeds" in points else pd.Series("", points.index)
    for _, run in points.groupby((same != same.shift()).cumsum()):
        yield run


def without_own(rows: pd.DataFrame, x: str, value: str) -> pd.DataFrame:
    """`x, value, …` of a coupling at frozen sites, over all seeds, where one or more have no R of their own."""
    if f"{value}_frozen" not in rows:
        return across_seeds(rows.iloc[:0], x, value)
    return across_seeds(rows[rows[x].isin(rows.loc[rows[value].isna(), x])], x, f"{value}_frozen")


def draw(ax: Axes, points: pd.DataFrame, look: dict, shift: float = 0.0, **extra) -> None:
    """A line with markers, cut where its seeds change (`runs`), and, where there are intervals, bars; a bar that leaves
    out its own value is drawn as it is. More than MANY points have small markers, and a band in place of bars."""
    many = len(points) > MANY
    for run in runs(points):
        x = run["x"].astype(float) + shift
        ax.plot(x, run["value"], **({"markersize": 2.2, "linewidth": 1.3} if many else {}) | look | extra)
        known = run["lo"].notna() & run["hi"].notna()
        lo, hi = run["lo"].where(known).astype(float), run["hi"].where(known).astype(float)
        if many and known.any():
            ax.fill_between(x, lo, hi, color=look["color"], alpha=0.15, linewidth=0, zorder=1)
        elif known.any():
            ax.vlines(x[known], lo[known], hi[known], color=look["color"], linewidth=1.0, alpha=0.8)


HOLLOW = {"markerfacecolor": "white", "linestyle": ":"}  # R read where it is no R of the checkpoint's own


def anchor_steps(frame: pd.DataFrame) -> list[int]:
    """Steps of the anchors in their order. Raises NoData when there is none."""
    steps = sorted(set(frame.loc[frame["anchor"].notna(), "step"].astype(int)))
    if not steps:
        raise NoData("the table has no anchor")
    return steps


def anchor_ticks(frame: pd.DataFrame, steps: Sequence[int]) -> list[str]:
    """Steps as words, `(ref.)` below the one that is a regime's reference anchor."""
    references = set(frame.loc[frame["anchor"] == "reference", "step"].astype(int))
    return [f"{step}\n(ref.)" if step in references else str(step) for step in steps]


def is_true(values: pd.Series) -> pd.Series:
    """Booleans out of a column that may have empty cells."""
    return values.map(lambda v: str(v) == "True").astype(bool)


def draw_candidates(ax: Axes, rows: pd.DataFrame, colour: str, shift: float = 0.0) -> None:
    """A line over layers of candidates for R: a full point where one is admissible, an empty one where it is not."""
    rows = rows.sort_values("layer")
    admissible = is_true(rows["admissible"])
    ax.plot(rows["layer"] + shift, rows["value"], color=colour, linewidth=1.0)
    for mine, fill in ((admissible, colour), (~admissible, "white")):
        ax.plot(
            rows["layer"][mine] + shift, rows["value"][mine], "o", color=colour, markerfacecolor=fill, markersize=3.5
        )


def striped(ax: Axes, rows: int, zero: bool = False) -> None:
    """An axis whose y is a list of `rows` lines from the top: every second one shaded, no grid; `zero`: a line at x =
    0."""
    if zero:
        ax.axvline(0, color="#888888", linewidth=0.8, zorder=1)
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)
    for i in range(1, rows, 2):
        ax.axhspan(i - 0.5, i + 0.5, color="#F4F4F4", linewidth=0, zorder=0)


def columns_for(panels: int, most: int) -> int:
    """Columns of a grid of at most `most`, with as few empty places as its number of lines allows."""
    return -(-panels // -(-panels // most))


def step_axis(ax: Axes, steps: Collection[float]) -> None:
    """The axis of the optimiser steps; of a model that has one step only, that one instead of fractions around it."""
    ax.set_xlabel("optimiser step")
    if len(set(steps)) == 1:
        ax.set_xticks([*set(steps)])


def panel_width(panels: int, widest: float = 3.5) -> float:
    """Inches of each of so many panels side by side: as wide as a page of 12 inches lets them be."""
    return max(2.4, min(widest, 12.0 / panels))
