"""One look for all figures, and files with the same bytes for the same data.

Colours are Okabe and Ito's, told apart with every common colour blindness; regimes differ in marker and line as well.
"""

from collections.abc import Collection, Iterator
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
NAMED = {"sft": (BLUE, "o", "-"), "r2d2": (VERMILION, "s", "-"), "sft_refusal": (GREEN, "^", "--")}
OTHERS = ((PURPLE, "D", "-."), (ORANGE, "v", ":"), (SKY, "P", "--"), (GREY, "X", "-."))
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 9.5, "axes.titlelocation": "left", "axes.labelsize": 9,
    "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8, "legend.frameon": False, "figure.titlesize": 11,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#E4E4E4", "grid.linewidth": 0.6,
    "axes.axisbelow": True, "lines.linewidth": 1.6, "lines.markersize": 4.5, "errorbar.capsize": 2.0, "savefig.dpi": 160,
    "svg.hashsalt": "safety-geometry", "svg.fonttype": "path", "figure.constrained_layout.use": True,
}  # fmt: skip


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


def need(tables: dict[str, pd.DataFrame], name: str, columns: Collection[str] = ()) -> pd.DataFrame:
    """A table that has rows and these columns, each with a value somewhere. Raises NoData."""
    if name not in tables or not len(tables[name]):
        raise NoData(f"the table {name} is missing or empty")
    frame = tables[name]
    if missing := [c for c in columns if c not in frame or frame[c].isna().all()]:
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
    """`x, value, lo, hi` to draw: one seed's values with their interval, or the mean of several with their range."""
    frame = frame.dropna(subset=[value])
    if len(set(frame["seed"])) > 1:
        found = frame.groupby(x)[value].agg(["mean", "min", "max"]).reset_index()
        return found.set_axis(["x", "value", "lo", "hi"], axis=1)
    bounds = {"lo": frame[lo] if lo else np.nan, "hi": frame[hi] if hi else np.nan}
    return pd.DataFrame({"x": frame[x], "value": frame[value], **bounds}).sort_values("x", ignore_index=True)


def draw(ax: Axes, points: pd.DataFrame, look: dict, shift: float = 0.0, **extra) -> None:
    """A line with markers and, where there are intervals, bars; a bar that leaves out its own value is drawn as it is."""
    x, style = points["x"].astype(float) + shift, look | extra
    ax.plot(x, points["value"], **style)
    known = points["lo"].notna() & points["hi"].notna()
    if known.any():
        ax.vlines(x[known], points["lo"][known], points["hi"][known], color=look["color"], linewidth=1.0, alpha=0.8)


def seeds_note(frame: pd.DataFrame, bars: str = "") -> str:
    """What stands behind a point: one seed, with `bars` where it has any, or several with their range."""
    n = len(set(frame["seed"]))
    if n > 1:
        return f"line: mean of {n} seeds; bars: their range"
    return f"bars: {bars}; one seed" if bars else "one seed"


def counts(frame: pd.DataFrame, column: str) -> str:
    """`n = 24`, or the range of n where it differs."""
    n = frame[column].dropna().astype(int)
    return "n = 0" if not len(n) else f"n = {n.min()}" if n.min() == n.max() else f"n = {n.min()}-{n.max()}"


def ordered_anchors(frame: pd.DataFrame) -> list[str]:
    """Names of the anchors in order of their steps, the reference first. Raises NoData when there is none."""
    steps = frame.groupby("anchor")["step"].min()
    names = sorted(steps.index, key=lambda name: (name != "reference", steps[name]))
    if not names:
        raise NoData("the table has no anchor")
    return names


def is_true(values: pd.Series) -> pd.Series:
    """Booleans out of a column that may have empty cells."""
    return values.map(lambda v: str(v) == "True").astype(bool)


def striped(ax: Axes, rows: int, zero: bool = False) -> None:
    """An axis whose y is a list of `rows` lines from the top: every second one shaded, no grid; `zero`: a line at x = 0."""
    if zero:
        ax.axvline(0, color="#888888", linewidth=0.8, zorder=1)
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)
    for i in range(1, rows, 2):
        ax.axhspan(i - 0.5, i + 0.5, color="#F4F4F4", linewidth=0, zorder=0)


def p_text(p: float) -> str:
    """A p with three digits."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def columns_for(panels: int, most: int) -> int:
    """Columns of a grid of at most `most`, with as few empty places as its number of lines allows."""
    return -(-panels // -(-panels // most))


def headline(figure: Figure, what: str, note: str) -> None:
    """Title of a figure, with its note behind it or, where that is too long, on a second line."""
    room = 12.5 * figure.get_figwidth()  # characters of the title's size
    joint = " " if len(what) + len(note) + 3 <= room else "\n"
    figure.suptitle(f"{what}{joint}({note})", x=0.01, ha="left")


def first_seed(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows of the first seed, and a note that says which it is and of how many."""
    seeds = sorted(frame["seed"].unique())
    note = f"seed {seeds[0]}" + (f", first of {len(seeds)}" if len(seeds) > 1 else "")
    return frame[frame["seed"] == seeds[0]], note
