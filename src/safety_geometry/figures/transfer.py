"""Transfer attack success, source by target."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import PercentFormatter

from safety_geometry.attacks.transfer import ARMS, UNOPTIMISED
from safety_geometry.figures.lettering import headline, title, width, wrapped
from safety_geometry.figures.notes import counts, success
from safety_geometry.figures.style import NAMED, NoData, is_true, need

NAMES = {"gcg": "GCG", "autodan": "AutoDAN", "gcg_init": "GCG's start", "seeds": "AutoDAN's seeds"}
SCALE, MISSING = "viridis", "#D9D9D9"
WIDEST = 11.0  # inches of maps side by side
LINE = 0.155  # inches of a line of names
LEGIBLE = 14  # checkpoints on a side, with which a cell still has room for its number

Place = tuple[str, int]  # regime, step


def transfer(tables: dict[str, pd.DataFrame]) -> Figure:
    """One heat map per optimised attack, all sources against all targets, in per cent; below it a strip with its
    unoptimised arm on the same targets. Mean over seeds with their range, or one seed with its Wilson interval. Needs
    transfer."""
    frame = need(tables, "transfer", ["tasr"])
    attacks = [attack for attack in (*ARMS, *UNOPTIMISED) if (frame["attack"] == attack).any()]
    maps = [attack for attack in attacks if attack in ARMS] or attacks[:1]
    if not maps:
        raise NoData(f"the table transfer has none of the attacks {', '.join(NAMES)}")
    sides = {
        side: places(frame.loc[frame["attack"].isin(maps) | (side == "target"), [f"{side}_regime", side]])
        for side in ("source", "target")
    }
    across, down = len(sides["target"]), len(sides["source"])
    legible = max(across, down) <= LEGIBLE
    size = 0.58 if legible else 0.34
    wide, height, strip_height = max(3.2, size * across), max(0.9, 0.42 * down if legible else size * down), 0.45
    beside = len(maps) if (wide + 1.5) * len(maps) <= WIDEST else 1  # else one below the other
    lines = -(-len(maps) // beside)
    names = max(len(regime) for regime, _ in (*sides["source"], *sides["target"]))
    figure = Figure(figsize=(2.4 + (wide + 1.1) * beside, 1.0 + (height + strip_height + 1.3 + 0.02 * names) * lines))
    axes = figure.subplots(2 * lines, beside, height_ratios=[height, strip_height] * lines, squeeze=False)
    for i, attack in enumerate(maps):
        line, column = divmod(i, beside)
        top, strip = axes[2 * line : 2 * line + 2, column]
        strip.sharex(top)
        mine = frame[frame["attack"] == attack]
        image = heat(top, *grid(mine, sides["source"], sides["target"]))
        frames(top, mine, sides)
        title(top, f"{NAMES[attack]} ({counts(mine, 'n')} a cell)", wide)
        label(top, sides["source"], "y", height)
        name = wrapped("source: attacked checkpoint", height, mpl.rcParams["axes.labelsize"])
        top.set_ylabel("" if column else name)
        arm = ARMS.get(attack)
        before = frame[frame["attack"] == arm]
        heat(strip, *grid(before, None, sides["target"]))
        n = f"\n({counts(before, 'n')})" if len(before) else ""
        strip.set_yticks([0], [(NAMES[arm] if arm and len(before) else "not run") + n])
        label(strip, sides["target"], "x", wide)
        strip.set_xlabel("target: checkpoint that is asked")
        top.tick_params(labelbottom=False)
    bar = figure.colorbar(image, ax=list(axes.ravel()), label=f"{success(frame)} (%)", fraction=0.03, pad=0.02)
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=""))
    seeds = len(set(frame["seed"]))
    what = (
        "% of attacks, below it its 95 % interval; one seed"
        if seeds == 1
        else f"% of attacks, mean of {seeds} seeds; below it their range"
    )
    numbers = (
        f"number: {what}"
        if legible
        else f"{'one seed' if seeds == 1 else f'mean of {seeds} seeds'}; intervals in the table transfer"
    )
    headline(figure, "Do attacks made on one checkpoint work on another?", f"framed: on their own source; {numbers}")
    return figure


def places(columns: pd.DataFrame) -> list[Place]:
    """Regime and step of the checkpoints on a side: named regimes first, then by step."""
    checkpoints = set(columns.itertuples(index=False, name=None))
    order = [*NAMED, *sorted({regime for regime, _ in checkpoints} - set(NAMED))]
    return sorted(((str(r), int(s)) for r, s in checkpoints), key=lambda place: (order.index(place[0]), place[1]))


def grid(
    rows: pd.DataFrame, sources: list[Place] | None, targets: list[Place]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean TASR [sources, targets] with its lower and upper end, NaN where it was not measured; one row over all
    sources where they are None. The ends are the interval of one row; of several seeds, and of several sources of one,
    the range of their values."""
    columns = {place: j for j, place in enumerate(targets)}
    lines = {place: i for i, place in enumerate(sources or [])}
    cells = np.full((3, max(len(lines), 1), len(columns)), np.nan)
    by = ["target_regime", "target"] + (["source_regime", "source"] if sources else [])
    for key, part in rows.dropna(subset=["tasr"]).groupby(by):
        each = part.groupby("seed")["tasr"].mean() if len(set(part["seed"])) > 1 else part["tasr"]
        ends = (part["lo"].iloc[0], part["hi"].iloc[0]) if len(part) == 1 else (each.min(), each.max())
        cells[:, lines[key[2:]] if sources else 0, columns[key[:2]]] = part["tasr"].mean(), *ends
    return cells[0], cells[1], cells[2]


def heat(ax: Axes, cells: np.ndarray, lo: np.ndarray, hi: np.ndarray) -> AxesImage:
    """Cells from 0 to 1 with their numbers and ends in per cent where there is room."""
    ax.grid(False)
    ax.set_facecolor(MISSING)
    image = ax.imshow(np.ma.masked_invalid(cells), cmap=SCALE, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    if max(cells.shape) <= LEGIBLE:
        for (i, j), value in np.ndenumerate(cells):
            if np.isfinite(value):
                ends = f"\n{100 * lo[i, j]:.0f}–{100 * hi[i, j]:.0f}" if np.isfinite(lo[i, j] + hi[i, j]) else ""
                colour = "black" if value > 0.6 else "white"
                ax.text(
                    j,
                    i,
                    f"{100 * value:.0f}{ends}",
                    ha="center",
                    va="center",
                    fontsize=7,
                    linespacing=1.1,
                    color=colour,
                )
    return image


def frames(ax: Axes, rows: pd.DataFrame, sides: dict[str, list[Place]]) -> None:
    """A frame round each cell whose attacks were made on the target itself."""
    diagonal = rows.loc[is_true(rows["diagonal"]), ["source_regime", "source"]].drop_duplicates()
    for place in diagonal.itertuples(index=False, name=None):
        if place not in sides["target"]:
            continue
        corner = sides["target"].index(place) - 0.44, sides["source"].index(place) - 0.44
        patch = Rectangle(corner, 0.88, 0.88, fill=False, edgecolor="black", linewidth=1.6, zorder=3, gid="own")
        patch.set_path_effects([withStroke(linewidth=3.4, foreground="white")])
        ax.add_patch(patch)


def label(ax: Axes, along: list[Place], axis: str, room: float) -> None:
    """Steps as ticks; at each regime's middle its name, beside the steps, within its part of the `room` inches and
    upright where that is narrow; a white line between regimes."""
    (ax.set_yticks if axis == "y" else ax.set_xticks)(range(len(along)), [str(step) for _, step in along])
    depth = 0.0  # inches of the names
    for regime in dict.fromkeys(regime for regime, _ in along):
        at = [i for i, (other, _) in enumerate(along) if other == regime]
        middle, part = (at[0] + at[-1]) / 2, room * len(at) / len(along) - 0.08
        style = {"textcoords": "offset points", "fontsize": 8, "gid": "regime"}
        if axis == "y":
            words = wrapped(regime, 0.9, 8)
            depth = max(depth, width(words, 8))
            ax.annotate(
                words, (0, middle), (-24, 0), xycoords=ax.get_yaxis_transform(), ha="right", va="center", **style
            )
        else:
            across = wrapped(regime, part, 8)
            upright = across.count("\n") > 1
            words = wrapped(regime, 1.2, 8) if upright else across
            depth = max(depth, width(words, 8) if upright else LINE * (1 + words.count("\n")))
            ax.annotate(words, (middle, 0), (0, -17), xycoords=ax.get_xaxis_transform(), ha="center", va="top",
                        rotation=90 if upright else 0, **style)  # fmt: skip
        for other in ax.figure.axes if axis == "x" else [ax]:
            if at[0] and (other is ax or (axis == "x" and ax.get_shared_x_axes().joined(ax, other))):
                (other.axhline if axis == "y" else other.axvline)(at[0] - 0.5, color="white", linewidth=2.5, zorder=2)
    if axis == "x":
        ax.xaxis.labelpad = 3 + 72 * depth
    else:
        ax.yaxis.labelpad = 72 * depth + 20 - max(72 * width(str(step), 8) for _, step in along)
