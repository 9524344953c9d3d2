"""Where is it causal: the effect of each mode on refusal, by the layer at which it acts."""

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patheffects import withStroke

from safety_geometry.figures.modes import FAMILIES, MODES, carrier, checkpoints, look, number, present
from safety_geometry.figures.style import columns_for, first_seed, headline, need

COLUMNS = 3
TICKS = 12
WIDTH = 3.3  # inches of a panel
LETTER = 0.13  # inches that a mark needs
MUCH_KL = 0.10  # nats on benign prompts, the papers' limit on a carrier's side effects


def causal_layers(tables: dict[str, pd.DataFrame]) -> Figure:
    """Heat maps, modes by layers, of the change of the refusal log-odds: one panel per checkpoint (and family and strength,
    where the scan has several), one diverging scale for all. H and R stand at the carriers' own layers; a dot marks a cell
    whose interval includes zero, a cross one whose KL on benign prompts is above MUCH_KL. The first seed is drawn. Needs layer_scan."""
    frame, note = first_seed(need(tables, "layer_scan", ["log_odds_delta"]))
    frame = frame.dropna(subset=["log_odds_delta"])
    kinds = frame[["family", "lambda"]].drop_duplicates().sort_values(["family", "lambda"]).itertuples(index=False)
    panels = [
        (place, family, strength, rows)
        for family, strength in kinds
        for place, part in checkpoints(frame)
        if len(rows := part[(part["family"] == family) & (part["lambda"] == strength)])
    ]
    modes = present(frame["mode"], list(MODES))
    limit, beyond = scale(frame["log_odds_delta"])
    columns = columns_for(len(panels), COLUMNS)
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(max(6.0, 1.5 + WIDTH * columns), 1.1 + (0.75 + 0.27 * len(modes)) * lines))
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    several = len({panel[1:3] for panel in panels}) > 1
    for i, (ax, (place, family, strength, rows)) in enumerate(zip(axes, panels, strict=False)):
        image = heat(ax, rows, modes, Normalize(-limit, limit))
        ax.set_title(place + (f": {family}, λ = {number(strength)}" if several else ""))
        ax.set_yticks(range(len(modes)), [look(m)["label"] for m in modes] if i % columns == 0 else [])
        if i + columns >= len(panels):
            ax.set_xlabel("layer (block input)")
    for ax in axes[len(panels) :]:
        ax.remove()
    bar = figure.colorbar(image, ax=list(axes[: len(panels)]), extend="both" if beyond else "neither", shrink=0.9,
                          aspect=max(12, 11 * lines))  # fmt: skip
    bar.set_label("change of refusal log-odds\n(red: refuses less)")
    bar.outline.set_visible(False)
    what = (
        "an intervention"
        if several
        else f"{FAMILIES.get(panels[0][1], panels[0][1]).lower()} at λ = {number(panels[0][2])}"
    )
    headline(
        figure,
        f"Where {what} changes refusal",
        f"H, R: the carriers' own layers; dot: interval includes 0; ×: KL on benign prompts above {MUCH_KL:g}; {note}",
    )
    return figure


def scale(values: pd.Series) -> tuple[float, bool]:
    """End of the colour scale, and whether a value lies beyond: one extreme cell shall not bleach all others."""
    sizes = values.abs()
    most, high = float(sizes.max()), float(sizes.quantile(0.97))
    beyond = high > 0 and most > 1.5 * high
    return (high if beyond else most) or 1.0, beyond


def heat(ax, rows: pd.DataFrame, modes: list[str], norm: Normalize) -> AxesImage:
    """One panel; the layers scanned stand side by side, however sparse they are. A carrier's layer below or above them all has a
    column of its own, without values."""
    scanned, own = set(rows["layer"]), {*rows["layer_h"].dropna(), *rows["layer_r"].dropna()}
    layers = np.array(sorted(scanned | {layer for layer in own if not min(scanned) <= layer <= max(scanned)}))
    cells = np.full((len(modes), len(layers)), np.nan)
    for row in rows.itertuples():
        x, y = int(np.searchsorted(layers, row.layer)), modes.index(row.mode)
        cells[y, x] = row.log_odds_delta
        if row.kl_benign > MUCH_KL:
            ax.plot(x + 0.34, y - 0.30, "x", color="black", markersize=3.2, markeredgewidth=0.8)
        if row.lo <= 0 <= row.hi:
            ax.plot(x + 0.32, y + 0.30, ".", color="#555555", markersize=2.4, markeredgewidth=0)
    ax.grid(False)
    ax.set_facecolor("#EDEDED")  # a cell that was not scanned is grey, zero is white
    image = ax.imshow(cells, cmap="RdBu", norm=norm, aspect="auto", interpolation="nearest")
    ax.set_xticks(np.arange(len(layers) + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(len(modes) + 1) - 0.5, minor=True)
    ax.grid(True, which="minor", color="white", linewidth=0.8)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    step = -(-len(layers) // TICKS)
    ax.set_xticks(np.arange(len(layers))[::step], [str(int(layer)) for layer in layers[::step]])
    for y, mode in enumerate(modes):
        own = rows[rows["mode"] == mode]
        sites = {name: own[column].dropna() for name, column in (("H", "layer_h"), ("R", "layer_r"))}
        shown = [name for name in ("H", "R") if name in carrier(mode) and len(sites[name])]
        at = {name: float(np.interp(sites[name].iloc[0], layers, np.arange(len(layers)))) for name in shown}
        needed = LETTER * len(layers) / WIDTH
        apart = max(0.0, needed - abs(at["H"] - at["R"])) / 2 if len(at) == 2 else 0.0
        sign = -1 if len(at) == 2 and at["H"] > at["R"] else 1
        for name, x in at.items():
            mark = ax.text(x + sign * (apart if name == "R" else -apart), y, name, ha="center", va="center_baseline", fontsize=8,
                           fontweight="bold", color="black")  # fmt: skip
            mark.set_path_effects([withStroke(linewidth=1.8, foreground="white")])
    return image
