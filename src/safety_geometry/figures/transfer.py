"""Transfer attack success, source by target."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from safety_geometry.figures.style import NAMED, NoData, counts, headline, is_true, need
from safety_geometry.transfer import ARMS, UNOPTIMISED

NAMES = {"gcg": "GCG", "autodan": "AutoDAN", "gcg_init": "GCG's start", "seeds": "AutoDAN's seeds"}
SCALE, MISSING = "viridis", "#D9D9D9"
LEGIBLE = 14  # checkpoints on a side, with which a cell still has room for its number

Place = tuple[str, int]  # regime, step


def transfer(tables: dict[str, pd.DataFrame]) -> Figure:
    """One heat map per optimised attack, all sources against all targets; below it a strip with its unoptimised arm on the same
    targets. Mean over seeds. Needs transfer."""
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
    size = 0.34 if max(across, down) > LEGIBLE else 0.42
    width, height = max(2.6, size * across), max(1.6, size * down)
    figure = Figure(figsize=(1.9 + (width + 0.9) * len(maps), height + size + 1.9))
    axes = figure.subplots(2, len(maps), sharex="col", height_ratios=[height, size], squeeze=False)
    for column, attack in enumerate(maps):
        top, strip = axes[:, column]
        mine = frame[frame["attack"] == attack]
        image = heat(top, grid(mine, sides["source"], sides["target"]))
        frames(top, mine, sides)
        top.set_title(f"{NAMES[attack]} ({counts(mine, 'n')} a cell)")
        label(top, sides["source"], "y")
        top.set_ylabel("" if column else "source: attacked checkpoint")
        arm = ARMS.get(attack)
        before = frame[frame["attack"] == arm]
        heat(strip, grid(before, None, sides["target"]))
        strip.set_yticks([0], [NAMES[arm] if arm and len(before) else "not run"])
        label(strip, sides["target"], "x")
        strip.set_xlabel("target: checkpoint that is asked")
        top.tick_params(labelbottom=False)
    figure.colorbar(image, ax=list(axes.ravel()), label="attack success", fraction=0.03, pad=0.02)
    seeds = len(set(frame["seed"]))
    headline(figure, "Do attacks made on one checkpoint work on another?", f"framed: on their own source; {'one seed' if seeds == 1 else f'mean of {seeds} seeds'}")  # fmt: skip
    return figure


def places(columns: pd.DataFrame) -> list[Place]:
    """Regime and step of the checkpoints on a side: named regimes first, then by step."""
    found = set(columns.itertuples(index=False, name=None))
    order = [*NAMED, *sorted({regime for regime, _ in found} - set(NAMED))]
    return sorted(((str(r), int(s)) for r, s in found), key=lambda place: (order.index(place[0]), place[1]))


def grid(rows: pd.DataFrame, sources: list[Place] | None, targets: list[Place]) -> np.ndarray:
    """Mean TASR [sources, targets], NaN where it was not measured; one row over all sources where they are None."""
    columns = {place: j for j, place in enumerate(targets)}
    lines = {place: i for i, place in enumerate(sources or [])}
    cells = np.full((max(len(lines), 1), len(columns)), np.nan)
    by = ["target_regime", "target"] + (["source_regime", "source"] if sources else [])
    for key, value in rows.groupby(by)["tasr"].mean().items():
        cells[lines[key[2:]] if sources else 0, columns[key[:2]]] = value
    return cells


def heat(ax: Axes, cells: np.ndarray):
    """Cells from 0 to 1 with their numbers in per cent where there is room."""
    ax.grid(False)
    ax.set_facecolor(MISSING)
    image = ax.imshow(np.ma.masked_invalid(cells), cmap=SCALE, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    if max(cells.shape) <= LEGIBLE:
        for (i, j), value in np.ndenumerate(cells):
            if np.isfinite(value):
                ax.text(
                    j,
                    i,
                    f"{100 * value:.0f}",
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="black" if value > 0.6 else "white",
                )
    return image


def frames(ax: Axes, rows: pd.DataFrame, sides: dict[str, list[Place]]) -> None:
    """A frame round each cell whose attacks were made on the target itself."""
    own = rows.loc[is_true(rows["diagonal"]), ["source_regime", "source"]].drop_duplicates()
    for place in own.itertuples(index=False, name=None):
        corner = sides["target"].index(place) - 0.5, sides["source"].index(place) - 0.5
        ax.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="#D55E00", linewidth=1.8, zorder=3, gid="own"))


def label(ax: Axes, along: list[Place], axis: str) -> None:
    """Steps as ticks, the regime before its first, a white line between regimes."""
    first = [i == 0 or along[i - 1][0] != regime for i, (regime, _) in enumerate(along)]
    words = [f"{regime}  {step}" if new else str(step) for new, (regime, step) in zip(first, along, strict=True)]
    if axis == "y":
        ax.set_yticks(range(len(along)), words)
    else:
        ax.set_xticks(range(len(along)), words, rotation=90)
    for other in ax.figure.axes if axis == "x" else [ax]:
        if other is ax or (axis == "x" and ax.get_shared_x_axes().joined(ax, other)):
            for i, new in enumerate(first):
                if new and i:
                    (other.axhline if axis == "y" else other.axvline)(i - 0.5, color="white", linewidth=2.5, zorder=2)
