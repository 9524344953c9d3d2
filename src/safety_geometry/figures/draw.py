"""Figures of the study, functions from tables to a matplotlib figure. They never draw without data: NoData says what
lacks."""

from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from safety_geometry.figures.aligned_anchors import aligned_anchors
from safety_geometry.figures.attacks import attacks
from safety_geometry.figures.causal_layers import causal_layers
from safety_geometry.figures.control_effects import control_effects
from safety_geometry.figures.coupling_controls import coupling_controls
from safety_geometry.figures.dense import dense
from safety_geometry.figures.dose_response import dose_response
from safety_geometry.figures.five_anchor import five_anchor
from safety_geometry.figures.follow_up import follow_up
from safety_geometry.figures.geometry import geometry
from safety_geometry.figures.layer_profile import layer_profile
from safety_geometry.figures.quadrants import quadrants
from safety_geometry.figures.selection import selection
from safety_geometry.figures.style import NoData, empty_figure, save, styled
from safety_geometry.figures.training_curves import training_curves
from safety_geometry.figures.trajectory import trajectory
from safety_geometry.figures.transfer import transfer
from safety_geometry.figures.transfer_predictors import transfer_predictors

__all__ = ["FIGURES", "NoData", "empty_figure", "make_figure", "save"]

FIGURES: dict[str, Callable[[dict[str, pd.DataFrame]], Figure]] = {
    "five_anchor": five_anchor,
    "trajectory": trajectory,
    "layer_profile": layer_profile,
    "selection": selection,
    "training_curves": training_curves,
    "geometry": geometry,
    "coupling_controls": coupling_controls,
    "causal_layers": causal_layers,
    "dose_response": dose_response,
    "control_effects": control_effects,
    "aligned_anchors": aligned_anchors,
    "follow_up": follow_up,
    "quadrants": quadrants,
    "attacks": attacks,
    "transfer": transfer,
    "transfer_predictors": transfer_predictors,
    "dense": dense,
}


def make_figure(name: str, tables: dict[str, pd.DataFrame]) -> Figure:
    """The figure of that name from tables by name. Raises ValueError for an unknown name, NoData for missing data."""
    if name not in FIGURES:
        raise ValueError(f"no figure named {name!r}; known: {', '.join(FIGURES)}")
    with styled():
        return FIGURES[name](tables)
