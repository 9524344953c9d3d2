"""How the modes of an intervention look in every causal figure, and how checkpoints become panels.

Modes that act on harmfulness are warm, those that act on refusal cold; the one that does both stands between. None of
the colours belongs to a regime.
"""

from collections.abc import Sequence

import pandas as pd
from matplotlib.lines import Line2D

from safety_geometry.figures.style import GREY, NAMED, ORANGE, PURPLE, SKY, NoData

BROWN, INDIGO = "#8C510A", "#332288"
MODES: dict[str, dict] = {
    "h_only": {"label": "H only", "color": ORANGE, "marker": "o"},
    "h_perp_r": {"label": "H⊥R", "color": BROWN, "marker": "D"},
    "r_only": {"label": "R only", "color": SKY, "marker": "s"},
    "r_perp_h": {"label": "R⊥H", "color": INDIGO, "marker": "^"},
    "h_plus_r": {"label": "H + R", "color": PURPLE, "marker": "P"},
}
HUES = {"H": ORANGE, "R": SKY, "H + R": PURPLE}
FAMILIES = {"ablate": "Ablation", "steer": "Steering"}


def look(mode: str) -> dict:
    """Label, colour and marker of a mode; an unknown mode is grey under its own name."""
    return MODES.get(mode, {"label": str(mode), "color": GREY, "marker": "X"})


def carrier(mode: str) -> str:
    """Whose site a mode acts at, which is what its random controls share: `H`, `R` or `H + R`."""
    return "H + R" if mode == "h_plus_r" else "R" if mode.startswith("r_") else "H"


def present(values: pd.Series, order: Sequence[str]) -> list[str]:
    """The values that occur: known ones in `order`, others behind them by name."""
    there = set(values.dropna())
    return [v for v in order if v in there] + sorted(there - set(order))


def handle(mode: str, **extra) -> Line2D:
    """Entry of a legend for a mode."""
    return Line2D([], [], **({"linestyle": "none"} | look(mode) | extra))


def number(value: float) -> str:
    """A strength without needless digits, with a real minus sign."""
    return f"{value:g}".replace("-", "−")


def place(regime: str, anchor: str | float, step: float) -> str:
    """Name of a checkpoint in a title: `sft, anchor 30`, or the bare name of a model that has no steps."""
    if anchor == "model":  # a model of the configuration
        return regime
    if pd.isna(anchor):
        return f"{regime}, step {int(step)}"
    return f"{regime}, reference anchor" if anchor == "reference" else f"{regime}, anchor {anchor}"


def dose(cell: pd.Series) -> str:
    """Family and strength of a target, with its scope and rank where they are not the usual ones: `ablate, λ = 1, rank
    3`."""
    extra = "" if cell["scope"] == "layer" else ", all layers"
    extra += f", rank {int(cell['rank'])}" if cell["rank"] > 1 else ""
    return f"{cell['family']}, λ = {number(cell['lambda'])}{extra}"


def label(cell: pd.Series) -> str:
    """Two lines for a target: what is done, and to which checkpoint."""
    return f"{look(cell['mode'])['label']}: {dose(cell)}\n{place(cell['regime'], cell['anchor'], cell['step'])}"


def checkpoints(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Name and rows of each checkpoint: named regimes first, others as they appear, then steps. Raises NoData when
    there is none."""
    if not len(frame):
        raise NoData("the table has no checkpoint to draw")
    regimes = list(dict.fromkeys([*NAMED, *frame["regime"]]))
    parts = frame.groupby(["regime", "step", "anchor"], dropna=False, sort=False)
    ordered = sorted(parts, key=lambda part: (regimes.index(part[0][0]), part[0][1], str(part[0][2])))
    return [(place(regime, anchor, step), rows) for (regime, step, anchor), rows in ordered]
