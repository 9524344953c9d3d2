"""Coupling and behaviour over all saved checkpoints."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from safety_geometry.figures.lettering import headline, label_ends, legend_below, title
from safety_geometry.figures.notes import counts, fit_prompts, hollow_note, seeds_note, success
from safety_geometry.figures.style import (
    GREY,
    HOLLOW,
    INDIGO,
    OLIVE,
    ORANGE,
    PURPLE,
    ROSE,
    SKY,
    WINE,
    across_seeds,
    draw,
    need,
    panel_width,
    runs,
    step_axis,
    without_own,
)

BEHAVIOUR = (
    ("fixed_asr", "fixed-source {success}", WINE, "s", 1.0),
    ("any_refusal", "refusal of look-alikes", INDIGO, "o", 1.0),
    ("benign_mean", "benign helpfulness / 2", OLIVE, "^", 0.5),
    ("usefulness", "harmful usefulness", ROSE, "v", 1.0),
)
SHORT = {"fixed_asr": "attack", "any_refusal": "refusal", "benign_mean": "helpful", "usefulness": "useful"}
LAYERS = (
    (ORANGE, ":"),
    (PURPLE, "--"),
    (SKY, "-."),
    (WINE, (0, (5, 1, 1, 1, 1, 1))),
    (OLIVE, (0, (1, 1))),
    (ROSE, (0, (8, 2))),
)
CEILING, CHANCE = (
    {"color": GREY, "linestyle": "--", "linewidth": 1.0},
    {"color": GREY, "linestyle": ":", "linewidth": 1.2},
)
BAND = {"color": GREY, "alpha": 0.22, "linewidth": 0}


def trajectory(tables: dict[str, pd.DataFrame]) -> Figure:
    """One column per regime. Above: C_cos at the carriers' own sites (hollow: at frozen ones, where there is no own R)
    and at fixed common layers, the range of shuffled labels and the split-half ceiling. Below: behaviour. Needs
    trajectory and coupling_controls; coupling, where given, tells the number of prompts, and what is hollow."""
    frame = need(tables, "trajectory", ["c_cos_frozen"])
    controls = need(tables, "coupling_controls", ["value"])
    behaviour = [b for b in BEHAVIOUR if frame[b[0]].notna().any()]
    regimes = list(dict.fromkeys(frame["regime"]))
    layers = sorted(controls.loc[controls["companion"] == "fixed_layer", "layer_r"].dropna().astype(int).unique())
    room = panel_width(len(regimes), 3.7)
    figure = Figure(figsize=(max(6.5, room * len(regimes)), 7.2))
    axes = figure.subplots(2, len(regimes), sharex="col", sharey="row", squeeze=False)
    ends: dict[Axes, list] = {}
    for column, regime in enumerate(regimes):
        top, bottom = axes[:, column]
        rows = frame[frame["regime"] == regime]
        ends[top] = couple(top, controls[controls["regime"] == regime], layers)
        lacking = without_own(rows, "step", "c_cos")
        if len(lacking):
            draw(top, lacking, {"color": "black", "marker": "o"} | HOLLOW)
            ends[top].append((lacking["value"].iloc[-1], "frozen sites", "black"))
        title(top, regime, room - 0.6)
        ends[bottom] = []
        distance = 0.012 * (rows["step"].max() - rows["step"].min())
        for i, (metric, _, colour, marker, scale) in enumerate(behaviour):
            points = across_seeds(rows, "step", metric, f"{metric}_lo", f"{metric}_hi")
            if not len(points):
                continue
            points[["value", "lo", "hi"]] *= scale
            look = {"color": colour, "marker": marker, "linestyle": "-"}
            draw(bottom, points, look, (i - (len(behaviour) - 1) / 2) * distance)
            ends[bottom].append((points["value"].iloc[-1], SHORT[metric], colour))
        if not ends[bottom]:
            bottom.text(0.5, 0.5, "behaviour not measured", transform=bottom.transAxes, ha="center", fontsize=8)
        bottom.set_ylim(-0.04, 1.04)
        step_axis(bottom, rows["step"])
        for ax in (top, bottom):
            ax.grid(False, axis="x")
            for step in rows.loc[rows["anchor"].notna(), "step"].unique():
                ax.axvline(step, color="#D0D0D0", linewidth=0.7, zorder=0)
    hollow = (frame["c_cos"].isna() & frame["c_cos_frozen"].notna()).any()
    n = fit_prompts(tables)
    axes[0, 0].set_ylabel("|cos| of H and R carriers" + (f"\n({n})" if n else ""))
    axes[0, 0].set_ylim(-0.02, 1.04)
    axes[1, 0].set_ylabel("share of prompts,\nor score / maximum")
    behaviour = [(metric, label.format(success=success(frame)), *look) for metric, label, *look in behaviour]
    known = [
        f"{label} ({counts(frame, f'{metric}_n')})" if f"{metric}_n" in frame else label
        for metric, label, *_ in behaviour
    ]
    entries = [
        Line2D([], [], color="black", marker="o", label="coupling at the carriers' own sites"),
        *([Line2D([], [], color="black", marker="o", label=hollow_note(tables), **HOLLOW)] if hollow else []),
        Line2D([], [], label="split-half ceiling", **CEILING),
        Patch(label="shuffled labels, 95 % range", **BAND),
        Line2D([], [], label="random directions", **CHANCE),
        *[
            Line2D([], [], color=look[0], linestyle=look[1], label=f"both read at layer {layer}")
            for layer, look in looks_of(layers).items()
        ],
        *[
            Line2D([], [], color=colour, marker=marker, label=label)
            for (_, _, colour, marker, _), label in zip(behaviour, known, strict=True)
        ],
    ]
    legend_below(figure, entries)
    note = f"{seeds_note(frame, '95 % intervals')}; grey verticals: anchors"
    headline(figure, "Coupling (above) and behaviour (below) at every save", note)
    label_ends(figure, ends, room=0.6)
    return figure


def looks_of(layers: list[int]) -> dict[int, tuple]:
    """Colour and line of each common layer."""
    return {layer: LAYERS[i % len(LAYERS)] for i, layer in enumerate(layers)}


def couple(ax: Axes, controls: pd.DataFrame, layers: list[int]) -> list[tuple[float, str, str]]:
    """C_cos of one regime with what stands beside it; returns the names of the lines and where they end."""

    def pick(companion: str, quantity: str) -> pd.DataFrame:
        return controls[(controls["companion"] == companion) & (controls["quantity"] == quantity)]

    def plain(points: pd.DataFrame, look: dict, lone: dict) -> None:
        """A line without markers; `lone`: the marker of a point that no line reaches."""
        for run in runs(points):
            ax.plot(run["x"], run["value"], **look | (lone if len(run) == 1 else {}))

    ends, dash = [], {"marker": "_", "markersize": 14}
    plain(across_seeds(pick("split_half", "ceiling"), "step", "value"), CEILING, dash)
    fixed = pick("fixed_layer", "c_cos")
    for layer, (colour, line) in looks_of(layers).items():
        points = across_seeds(fixed[fixed["layer_r"] == layer], "step", "value")
        plain(points, {"color": colour, "linestyle": line, "linewidth": 1.5}, {"marker": "."})
        if len(points):
            ends.append((points["value"].iloc[-1], f"layer {layer}", colour))
    at_own_sites = across_seeds(pick("own_sites", "c_cos"), "step", "value", "lo", "hi")
    draw(ax, at_own_sites, {"color": "black", "marker": "o", "linestyle": "-"})
    if len(at_own_sites):
        ends.append((at_own_sites["value"].iloc[-1], "own sites", "black"))
    shuffled = pick("shuffled", "c_cos")
    ranges = shuffled.groupby("step")[["lo", "hi"]].agg({"lo": "min", "hi": "max"})
    for run in runs(across_seeds(shuffled, "step", "value")):
        lo, hi = ranges.loc[run["x"], "lo"], ranges.loc[run["x"], "hi"]
        if len(run) == 1:
            ax.vlines(run["x"], lo, hi, **BAND | {"linewidth": 12}, zorder=0)
        else:
            ax.fill_between(run["x"], lo, hi, **BAND)
    plain(across_seeds(pick("isotropic", "c_cos"), "step", "value"), CHANCE, dash)
    return ends
