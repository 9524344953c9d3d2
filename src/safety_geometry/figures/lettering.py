"""Text in figures: how wide it is, broken into lines that fit, and placed without covering other text."""

import re
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.textpath import text_to_path

HINTED = 1.05


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
