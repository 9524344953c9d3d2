"""One look for all figures, and files with the same bytes for the same data.

Colours are Okabe and Ito's and, for what is no regime, Paul Tol's: told apart with every common colour blindness. The
colours of the named regimes mean these regimes in every figure and nothing else; regimes differ in marker and line as
well.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.textpath import text_to_path

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
HINTED = 1.05
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
    """`x, value, lo, hi` to draw: one seed's values with their interval, or the mean of several with their range."""
    frame = frame.dropna(subset=[value])
    if len(set(frame["seed"])) > 1:
        over_seeds = frame.groupby(x)[value].agg(["mean", "min", "max"]).reset_index()
        return over_seeds.set_axis(["x", "value", "lo", "hi"], axis=1)
    bounds = {"lo": frame[lo] if lo else np.nan, "hi": frame[hi] if hi else np.nan}
    return pd.DataFrame({"x": frame[x], "value": frame[value], **bounds}).sort_values("x", ignore_index=True)


def draw(ax: Axes, points: pd.DataFrame, look: dict, shift: float = 0.0, **extra) -> None:
    """A line with markers and, where there are intervals, bars; a bar that leaves out its own value is drawn as it is.
    More than MANY points have small markers, and a band in place of bars."""
    x, many = points["x"].astype(float) + shift, len(points) > MANY
    ax.plot(x, points["value"], **({"markersize": 2.2, "linewidth": 1.3} if many else {}) | look | extra)
    known = points["lo"].notna() & points["hi"].notna()
    if not known.any():
        return
    lo, hi = points["lo"].where(known).astype(float), points["hi"].where(known).astype(float)
    if many:
        ax.fill_between(x, lo, hi, color=look["color"], alpha=0.15, linewidth=0, zorder=1)
    else:
        ax.vlines(x[known], lo[known], hi[known], color=look["color"], linewidth=1.0, alpha=0.8)


HOLLOW = {"markerfacecolor": "white", "linestyle": ":"}  # R read where it is no R of the checkpoint's own


def r_statuses(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """`regime, r_status` of the table coupling; no rows where it is not given."""
    coupling, columns = tables.get("coupling"), ["regime", "r_status"]
    return pd.DataFrame(columns=columns) if coupling is None or "r_status" not in coupling else coupling[columns]


def hollow_note(tables: Mapping[str, pd.DataFrame]) -> str:
    """What a HOLLOW mark is, by the table coupling; where that is not given, both that it may be."""
    known = set(r_statuses(tables)["r_status"])
    sites = {"reference": "at a reference anchor's R", "candidate": "at the best candidate, which is no R"}
    read = [words for status, words in sites.items() if status in known or not known & set(sites)]
    return f"hollow: no R of its own, read {', or '.join(read)}"


def candidates_note(tables: Mapping[str, pd.DataFrame]) -> str:
    """Of which regimes R is read at a candidate that is no R, by the table coupling; empty where of none."""
    rows = r_statuses(tables)
    regimes = dict.fromkeys(rows.loc[rows["r_status"] == "candidate", "regime"])
    return f"; no R, read at the best candidate: {', '.join(regimes)}" if regimes else ""


def seeds_note(frame: pd.DataFrame, bars: str = "") -> str:
    """What stands behind a point: one seed, with `bars` where it has any, or several with their range."""
    n = len(set(frame["seed"]))
    if n > 1:
        return f"line: mean of {n} seeds; bars or bands: their range"
    return f"bars or bands: {bars}; one seed" if bars else "one seed"


def counts(frame: pd.DataFrame, column: str) -> str:
    """`n = 24`, or the range of n where it differs."""
    n = frame[column].dropna().astype(int)
    return "n = 0" if not len(n) else f"n = {n.min()}" if n.min() == n.max() else f"n = {n.min()}-{n.max()}"


def fit_prompts(tables: Mapping[str, pd.DataFrame]) -> str:
    """`n = 48 + 48 prompts`, harmful and benign, that the carriers are fitted on; empty without the table coupling."""
    coupling = tables.get("coupling")
    if coupling is None or not len(coupling):
        return ""
    return f"{counts(coupling, 'n_harmful')} + {counts(coupling, 'n_benign').removeprefix('n = ')} prompts"


def stated_prompts(tables: Mapping[str, pd.DataFrame], what: str) -> str:
    """`n = 12`, from the frame `prompts` (columns what, n) of numbers that stand in no table; empty where it does not
    say."""
    stated = tables.get("prompts", pd.DataFrame(columns=["what", "n"])).dropna()
    return counts(stated[stated["what"] == what], "n") if (stated["what"] == what).any() else ""


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


def p_text(p: float) -> str:
    """A p with three digits."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def columns_for(panels: int, most: int) -> int:
    """Columns of a grid of at most `most`, with as few empty places as its number of lines allows."""
    return -(-panels // -(-panels // most))


def width(text: str, size: float) -> float:
    """Inches that a text takes at a font size in points, its longest line; with room for what a PNG's hinting adds."""
    font = FontProperties(family="DejaVu Sans", size=size)
    return (
        max(text_to_path.get_text_width_height_descent(line, font, False)[0] for line in text.split("\n")) / 72 * HINTED
    )


def wrapped(text: str, room: float, size: float) -> str:
    """The text on as many lines as keep it within `room` inches: cut at blanks, and in a longer word behind any of
    `_-/` or, where that is not enough, anywhere."""
    lines = [""]
    for part in re.findall(r"\n|[^\s_\-/]*[_\-/]|[^\s_\-/]+ *| +", text):
        if part == "\n":
            lines.append("")
            continue
        if lines[-1] and width(lines[-1] + part.rstrip(), size) > room:
            lines.append("")
        while len(part) > 1 and width(lines[-1] + part.rstrip(), size) > room:
            most = max(i for i in range(1, len(part)) if i == 1 or width(part[:i], size) <= room)
            lines[-1] += part[:most]
            lines.append("")
            part = part[most:]
        lines[-1] += part
    return "\n".join(line.strip() for line in lines)


def step_axis(ax: Axes, steps: Collection[float]) -> None:
    """The axis of the optimiser steps; of a model that has one step only, that one instead of fractions around it."""
    ax.set_xlabel("optimiser step")
    if len(set(steps)) == 1:
        ax.set_xticks([*set(steps)])


def panel_width(panels: int, widest: float = 3.5) -> float:
    """Inches of each of so many panels side by side: as wide as a page of 12 inches lets them be."""
    return max(2.4, min(widest, 12.0 / panels))


def headline(figure: Figure, what: str, note: str) -> None:
    """Title of a figure, with its note behind it or, where that is too long, on lines of its own."""
    size, room = mpl.rcParams["figure.titlesize"], figure.get_figwidth() - 0.25
    one = f"{what} ({note})"
    two = f"{wrapped(what, room, size)}\n{wrapped(f'({note})', room, size)}"
    figure.suptitle(one if width(one, size) <= room else two, x=0.01, ha="left")


def title(ax: Axes, text: str, room: float, **extra) -> None:
    """Title of a panel that is `room` inches wide, on as many lines as it needs."""
    ax.set_title(wrapped(text, room, extra.get("fontsize", mpl.rcParams["axes.titlesize"])), **extra)


def legend_below(figure: Figure, entries: Sequence[Artist], names: Sequence[str] | None = None) -> Legend:
    """A legend under the panels with as many columns as the figure is wide enough for."""
    names = [str(entry.get_label()) for entry in entries] if names is None else list(names)
    size = mpl.rcParams["legend.fontsize"]
    em = size / 72
    for columns in range(len(names), 0, -1):
        blocks = np.array_split(names, columns)  # as matplotlib fills them
        needed = sum(max(width(name, size) for name in block) + 2.8 * em for block in blocks) + 2 * em * (
            len(blocks) - 1
        )
        if needed + 4 * em <= figure.get_figwidth() or columns == 1:
            break
    return figure.legend(list(entries), names, loc="outside lower center", ncols=columns)


def label_ends(
    figure: Figure, ends: Mapping[Axes, Sequence[tuple[float, str, str]]], room: float = 0.95, size: float = 7.5
) -> None:
    """Names of lines at the right of their panel, each as near to its line's last value as the others let it: lists of
    (value, name, colour) by panel. A name wider than `room` inches is wrapped. To be called when the panels are
    complete."""
    placed = []
    for ax, labels in ends.items():
        for value, name, colour in sorted(
            (label for label in labels if np.isfinite(label[0])), key=lambda label: label[0]
        ):
            text = ax.text(1.02, 0.5, wrapped(name, room, size), color=colour, fontsize=size, va="center", ha="left",
                           transform=ax.transAxes, linespacing=1.05, gid="line end")  # fmt: skip
            placed.append((ax, value, text))
    figure.draw_without_rendering()  # lays the panels out: their heights are known from here on
    for ax in ends:
        mine = [(value, text) for other, value, text in placed if other is ax]
        if not mine:
            continue
        unit = ax.bbox.height / figure.dpi * 72  # points
        tall = [1.22 * size * (1 + text.get_text().count("\n")) / unit for _, text in mine]
        wanted = [
            ax.transAxes.inverted().transform(ax.transData.transform((0 if ax.get_xscale() == "linear" else 1, value)))[
                1
            ]
            for value, _ in mine
        ]
        for y, (_, text) in zip(spread(wanted, tall), mine, strict=True):
            text.set_y(y)


def spread(wanted: Sequence[float], tall: Sequence[float]) -> list[float]:
    """Centres of blocks as near to the `wanted` ones (ascending, 0 to 1) as they can be without overlap, in the same
    order."""
    half = np.asarray(tall) / 2
    gaps = half[:-1] + half[1:]
    offsets = np.concatenate([[0.0], np.cumsum(gaps)])
    # Least squares of centres less offsets that must not fall: pool adjacent violators.
    pools: list[list[float]] = []
    for value in np.clip(wanted, 0, 1) - offsets:
        pools.append([value, 1])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, m), (b, n) = pools[-2:]
            pools[-2:] = [[(a * m + b * n) / (m + n), m + n]]
    centres = np.concatenate([[mean] * int(n) for mean, n in pools]) + offsets
    centres += max(0.0, half[0] - centres[0] - 0.03)
    centres -= max(0.0, centres[-1] + half[-1] - 1.03)
    return centres.tolist()


def success(frame: pd.DataFrame) -> str:
    """What attack success is called: "not refused" where a row's success_means says that it is no more."""
    plain = "success_means" in frame and (frame["success_means"] == "not_refused").any()
    return "not refused" if plain else "attack success"


def first_seed(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows of the first seed, and a note that says which it is and of how many."""
    seeds = sorted(frame["seed"].unique())
    note = f"seed {seeds[0]}" + (f", first of {len(seeds)}" if len(seeds) > 1 else "")
    return frame[frame["seed"] == seeds[0]], note
