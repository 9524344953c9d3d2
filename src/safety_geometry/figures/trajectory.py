"""Coupling and behaviour over all saved checkpoints."""

import pandas as pd
from matplotlib.figure import Figure

from safety_geometry.figures.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    VERMILION,
    across_seeds,
    draw,
    headline,
    need,
    seeds_note,
)

BEHAVIOUR = (
    ("fixed_asr", "fixed-source attack success", VERMILION, "s", 1.0),
    ("any_refusal", "refusal of look-alikes", BLUE, "o", 1.0),
    ("benign_mean", "benign helpfulness / 2", GREEN, "^", 0.5),
    ("usefulness", "harmful usefulness", ORANGE, "v", 1.0),
)
FIXED_SHADES = ("#C9B3D4", "#A77DB8", "#7E4A94", "#552472", "#33104A")


def trajectory(tables: dict[str, pd.DataFrame]) -> Figure:
    """One column per regime. Above: C_cos at the carriers' own sites and at fixed common layers, the range of shuffled
    labels and the split-half ceiling. Below: behaviour. Needs trajectory and coupling_controls."""
    frame = need(tables, "trajectory", ["c_cos"])
    controls = need(tables, "coupling_controls", ["value"])
    behaviour = [b for b in BEHAVIOUR if frame[b[0]].notna().any()]
    regimes = list(dict.fromkeys(frame["regime"]))
    figure = Figure(figsize=(max(6.5, 3.7 * len(regimes)), 6.4))
    axes = figure.subplots(2, len(regimes), sharex=True, sharey="row", squeeze=False)
    for column, regime in enumerate(regimes):
        top, bottom = axes[:, column]
        mine = controls[controls["regime"] == regime]
        couple(top, mine)
        top.set_title(regime)
        rows = frame[frame["regime"] == regime]
        width = 0.012 * (frame["step"].max() - frame["step"].min())
        for i, (metric, label, colour, marker, scale) in enumerate(behaviour):
            points = across_seeds(rows, "step", metric, f"{metric}_lo", f"{metric}_hi")
            points[["value", "lo", "hi"]] *= scale
            look = {"color": colour, "marker": marker, "linestyle": "-"}
            draw(bottom, points, look, (i - (len(behaviour) - 1) / 2) * width, label=label)
        bottom.set_ylim(-0.04, 1.04)
        bottom.set_xlabel("optimiser step")
        for ax in (top, bottom):
            for step in rows.loc[rows["anchor"].notna(), "step"].unique():
                ax.axvline(step, color="#D0D0D0", linewidth=0.7, zorder=0)
    axes[0, 0].set_ylabel("|cos| of H and R carriers")
    axes[0, 0].set_ylim(-0.02, 1.04)
    axes[1, 0].set_ylabel("share of prompts, or score / maximum")
    for place, ax in (("outside right upper", axes[0, 0]), ("outside right lower", axes[1, 0])):
        handles, names = ax.get_legend_handles_labels()
        figure.legend(handles, names, loc=place)
    note = f"{seeds_note(frame, '95 % intervals')}; grey lines: anchors"
    headline(figure, "Coupling (above) and behaviour (below) at every save", note)
    return figure


def couple(ax, controls: pd.DataFrame) -> None:
    """C_cos of one regime with what stands beside it."""

    def pick(companion: str, quantity: str) -> pd.DataFrame:
        return controls[(controls["companion"] == companion) & (controls["quantity"] == quantity)]

    ceiling = across_seeds(pick("split_half", "ceiling"), "step", "value")
    ax.plot(ceiling["x"], ceiling["value"], color=GREY, linestyle="--", linewidth=1.2, label="split-half ceiling")
    fixed = pick("fixed_layer", "c_cos")
    layers = sorted(fixed["layer_r"].unique())
    for i, layer in enumerate(layers):
        points = across_seeds(fixed[fixed["layer_r"] == layer], "step", "value")
        shade = FIXED_SHADES[min(i * len(FIXED_SHADES) // max(len(layers), 1), len(FIXED_SHADES) - 1)]
        ax.plot(points["x"], points["value"], color=shade, linewidth=1.1, label=f"both at layer {layer}")
    own = across_seeds(pick("own_sites", "c_cos"), "step", "value", "lo", "hi")
    draw(ax, own, {"color": "black", "marker": "o", "linestyle": "-"}, label="own sites")
    shuffled = pick("shuffled", "c_cos").groupby("step")[["lo", "hi"]].agg({"lo": "min", "hi": "max"})
    ax.fill_between(shuffled.index, shuffled["lo"], shuffled["hi"], color=GREY, alpha=0.25, linewidth=0,
                    label="shuffled labels, 95 % range")  # fmt: skip
    chance = across_seeds(pick("isotropic", "c_cos"), "step", "value")
    ax.plot(chance["x"], chance["value"], color=GREY, linestyle=":", linewidth=1.2, label="random directions")
