"""Directions that were brought in files, as targets of the sweep beside H and R."""

from safety_geometry.artefacts.tables.causal import CONTROL_NORMALISED
from safety_geometry.artefacts.tables.families import CHECKPOINT
from safety_geometry.artefacts.tables.specification import Table, number, share, text, whole

NAMED = {column.name: column for column in CONTROL_NORMALISED.columns}
EFFECT = (
    "family", "scope", "lambda", "metric", "control", "value", "baseline", "delta", "delta_lo", "delta_hi",
    "control_mean", "delta_control", "lo", "hi", "n_prompts", "n_controls", "n_capped", "removed_energy",
    "control_energy", "control_cos", "primary", "p_permutation", "p_smallest", "p_kind", "p_kind_smallest",
)  # fmt: skip

DIRECTIONS = Table(
    "directions",
    "What removing or adding a direction that was brought in a file (sweep.directions) does beside matched controls, on"
    " refusal log-odds and KL, by the cells and formulas of control_normalised, whose rows of h_only and r_only it"
    " stands beside; and how it is coupled with H and R. Controls: random, covariance, shuffled (at its layer and"
    " position), norm_matched. p_permutation stands where the direction is primary and is not corrected.",
    (
        *CHECKPOINT,
        text("direction", "its name in the configuration"),
        whole("layer", "where it acts: the input of this block", 0),
        text("position", "position whose fit activations its covariance and shuffled controls are made of"),
        number("norm", "length of the vector in its file; what acts is the unit vector", 0),
        share("c_cos_h", "|cos| with H, whatever layer that is read at"),
        share("c_layer_h", "exp(-|L - L_H| / tau)"),
        share("c_cos_r", "|cos| with R; empty where the checkpoint has none", missing=True),
        share("c_layer_r", "exp(-|L - L_R| / tau)", missing=True),
        share("c_cos_site", "|cos| with the difference of means of the fit prompts at its own layer and position"),
        *(NAMED[name] for name in EFFECT),
    ),
    key=("seed", "regime", "step", "direction", "family", "scope", "lambda", "metric", "control"),
    category="Causal",
    caption=(
        "Directions from files, removed and added at their own layers, less what matched controls do there; with their "
        "cosines to H and R."
    ),
)

TABLES = (DIRECTIONS,)
