"""What a reader could not read in a figure: words that are cut off at its edge, and words that lie on other words."""

from itertools import combinations

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

SLACK = 1.5  # pixels that boxes of neighbouring words may share


def ticks(axis) -> list[Text]:
    low, high = sorted(axis.get_view_interval())
    room = 1e-6 * (high - low)
    return [
        label
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        for label in (tick.label1, tick.label2)
        if low - room <= tick.get_loc() <= high + room and label.get_visible()
    ]


def words(ax: Axes) -> list[Text]:
    """All text of a panel; what an axis that is switched off would write is none."""
    texts = [*ax.texts, ax.title, ax._left_title, ax._right_title]
    if ax.axison:
        texts += [ax.xaxis.label, ax.yaxis.label, *ticks(ax.xaxis), *ticks(ax.yaxis)]
    return [text for text in texts if text.get_visible()]


def boxes(figure: Figure) -> list[tuple[str, Bbox]]:
    """Every text with its box in pixels, each legend as one."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    texts = [*figure.texts, *(text for ax in figure.axes for text in words(ax))]  # the headline is one of the first
    found = [(text.get_text(), text.get_window_extent(renderer)) for text in texts if text.get_text().strip()]
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    found += [
        ("legend: " + ", ".join(t.get_text() for t in legend.get_texts()), legend.get_window_extent(renderer))
        for legend in legends
    ]
    return found


def unreadable(figure: Figure) -> list[str]:
    """What is cut off or covered, in words; nothing for a figure that can be read."""
    page, found = figure.bbox, boxes(figure)
    problems = [
        f"cut off: {text!r}"
        for text, box in found
        if box.x0 < page.x0 - SLACK or box.y0 < page.y0 - SLACK or box.x1 > page.x1 + SLACK or box.y1 > page.y1 + SLACK
    ]
    for (one, a), (other, b) in combinations(found, 2):
        if (both := Bbox.intersection(a, b)) is not None and both.width > SLACK and both.height > SLACK:
            problems.append(f"{one!r} lies on {other!r}")
    return problems
