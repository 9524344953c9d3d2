"""Where is it causal: the effect of each mode on refusal, by the layer at which it acts."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from safety_geometry.figures.lettering import headline, legend_below, title
from safety_geometry.figures.modes import FAMILIES, MODES, carrier, checkpoints, look, number, present
from safety_geometry.figures.notes import counts, first_seed
from safety_geometry.figures.style import columns_for, is_true, need

COLUMNS = 3
TICKS = 12
WIDTH = 3.5  # inches of a panel
MUCH_KL = 0.10  # nats on benign prompts, the papers' limit on a carrier's side effects
UNSURE = {"fill": False, "hatch": "////", "edgecolor": "#8A8A8A", "linewidth": 0}  # the interval includes zero
DAMAGE = {"marker": "x", "color": "black", "markersize": 5, "markeredgewidth": 1.2, "linestyle": "none",
          "path_effects": [withStroke(linewidth=2.6, foreground="white")]}  # fmt: skip
NOT_SCANNED = "#DADADA"
RECOMMENDED = {"fill": False, "edgecolor": "black", "linewidth": 2.0}
BEYOND = {"delta_control": "shown", "delta_control_lo": "lo", "delta_control_hi": "hi"}  # beside controls of the scan


def causal_layers(tables: dict[str, pd.DataFrame]) -> Figure:
    """Heat maps, modes by layers, of the change of the refusal log-odds, less that of the layer's controls where the
    scan has any: one panel per checkpoint (and family and strength, where the scan has several), one diverging scale
    for all. H and R stand at the carriers' own layers; a hatched cell has an interval that includes zero, a cross a KL
    on benign prompts above MUCH_KL, a frame is the recommended layer and strength of a mode. The first seed is drawn.
    Needs layer_scan."""
    frame, note = first_seed(need(tables, "layer_scan", ["log_odds_delta"]))
    frame = frame.dropna(subset=["log_odds_delta"])
    beside = "delta_control" in frame and frame["delta_control"].notna().all()
    frame = frame.assign(shown=frame["log_odds_delta"])
    if beside:
        frame = frame.assign(**{name: frame[column] for column, name in BEYOND.items()})
    marked = is_true(frame["recommended"]) if "recommended" in frame else pd.Series(False, index=frame.index)
    frame = frame.assign(recommended=marked)
    kinds = frame[["family", "lambda"]].drop_duplicates().sort_values(["family", "lambda"]).itertuples(index=False)
    panels = [
        (place, family, strength, rows)
        for family, strength in kinds
        for place, part in checkpoints(frame)
        if len(rows := part[(part["family"] == family) & (part["lambda"] == strength)])
    ]
    modes = present(frame["mode"], list(MODES))
    limit, beyond = scale(frame["shown"])
    columns = columns_for(len(panels), COLUMNS)
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(max(7.0, 1.6 + WIDTH * columns), 1.7 + (0.85 + 0.3 * len(modes)) * lines))
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    several = len({panel[1:3] for panel in panels}) > 1
    for i, (ax, (place, family, strength, rows)) in enumerate(zip(axes, panels, strict=False)):
        image = heat(ax, rows, modes, Normalize(-limit, limit))
        title(ax, place + (f": {family}, λ = {number(strength)}" if several else ""), WIDTH - 0.6)
        ax.set_yticks(range(len(modes)), [look(m)["label"] for m in modes] if i % columns == 0 else [])
        if i + columns >= len(panels):
            ax.set_xlabel("layer (block input)")
    for ax in axes[len(panels) :]:
        ax.remove()
    bar = figure.colorbar(image, ax=list(axes[: len(panels)]), extend="both" if beyond else "neither", shrink=0.9,
                          aspect=max(12, 11 * lines))  # fmt: skip
    less = ", less controls'" if beside else ""
    bar.set_label(f"change of refusal\nlog-odds{less}\n(red: refuses less)")
    bar.outline.set_visible(False)
    entries = [
        Patch(label="95 % interval includes 0", **UNSURE),
        Line2D([], [], label=f"KL on benign prompts above {MUCH_KL:g}", **DAMAGE),
        Patch(facecolor=NOT_SCANNED, label="layer not scanned"),
    ]
    if marked.any():
        most = ", ".join(f"{value:g}" for value in sorted(set(frame["max_kl"].dropna())))
        entries.append(Patch(label=f"recommended: largest effect beyond controls, KL at most {most}", **RECOMMENDED))
    legend_below(figure, entries)
    what = (
        "an intervention"
        if several
        else f"{FAMILIES.get(panels[0][1], panels[0][1]).lower()} at λ = {number(panels[0][2])}"
    )
    than = " more than drawn directions do" if beside else ""
    controls = f", {counts(frame, 'n_controls').removeprefix('n = ')} controls a cell" if beside else ""
    where = f"{counts(frame, 'n')} prompts{controls}; H, R: the carriers' own layers; {note}"
    headline(figure, f"Where {what} changes refusal{than}", where)
    return figure


def scale(values: pd.Series) -> tuple[float, bool]:
    """End of the colour scale, and whether a value lies beyond: one extreme cell shall not bleach all others."""
    sizes = values.abs()
    most, high = float(sizes.max()), float(sizes.quantile(0.97))
    beyond = high > 0 and most > 1.5 * high
    return (high if beyond else most) or 1.0, beyond


def heat(ax: Axes, rows: pd.DataFrame, modes: list[str], norm: Normalize) -> AxesImage:
    """One panel; the layers scanned stand side by side, however sparse they are. A carrier's own layer that was not
    scanned has a column of its own, without values."""
    layers = sorted({*rows["layer"], *rows["layer_h"].dropna(), *rows["layer_r"].dropna()})
    cells = np.full((len(modes), len(layers)), np.nan)
    small = len(layers) > TICKS
    for row in rows.itertuples():
        x, y = layers.index(row.layer), modes.index(row.mode)
        cells[y, x] = row.shown
        if row.recommended:
            ax.add_patch(Rectangle((x - 0.44, y - 0.42), 0.88, 0.84, **RECOMMENDED, zorder=3))
        if row.lo <= 0 <= row.hi:
            ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, **UNSURE, zorder=1.5))
        if row.kl_benign > MUCH_KL:
            ax.plot(x + (0 if small else 0.24), y - 0.24, **DAMAGE | ({"markersize": 3} if small else {}))
    ax.grid(False)
    ax.set_facecolor(NOT_SCANNED)
    image = ax.imshow(cells, cmap="RdBu", norm=norm, aspect="auto", interpolation="nearest")
    ax.set_xticks(np.arange(len(layers) + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(len(modes) + 1) - 0.5, minor=True)
    ax.grid(True, which="minor", color="white", linewidth=0.8)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    step = -(-len(layers) // TICKS)
    ax.set_xticks(np.arange(len(layers))[::step], [str(int(layer)) for layer in layers[::step]])
    for y, mode in enumerate(modes):
        of_mode, marks = rows[rows["mode"] == mode], {}
        for name, column in (("H", "layer_h"), ("R", "layer_r")):
            site = of_mode[column].dropna()
            if name in carrier(mode) and len(site):
                x = layers.index(site.iloc[0])
                marks[x] = marks.get(x, "") + name
        for x, letters in marks.items():  # both at one layer: one above the other, within the cell
            mark = ax.text(x, y, "\n".join(letters), ha="center", va="center", fontsize=8 if len(letters) == 1 else 6.5,
                           fontweight="bold", color="black", linespacing=0.95)  # fmt: skip
            mark.set_path_effects([withStroke(linewidth=1.8, foreground="white")])
    return image
