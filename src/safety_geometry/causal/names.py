"""Names that the sweep, its tables and their figures share."""

CLEAN = "clean"  # the cell without an intervention
SHARED = (
    "random",
    "covariance",
    "shuffled",
)  # kinds of control that serve every mode of a carrier; pooled in the tables
OWN = ("wrong_layer", "wrong_position", "norm_matched")  # kinds that belong to one target
KINDS = (*SHARED, *OWN)
DESCRIPTION = ("target", "family", "mode", "scope", "rank", "lambda", "control", "number", "control_seed_h",
               "control_seed_r", "layer_h", "layer_r", "source_layer_h", "source_layer_r", "source_position_h",
               "source_position_r", "abs_cos", "energy", "primary")  # fmt: skip
"""Columns of a cell's row: what is done, beside which target, and how like the target it is."""
WHOLE = ("rank", "control_seed_h", "control_seed_r", "layer_h", "layer_r", "source_layer_h", "source_layer_r")
"""Those of them that are whole numbers, or empty: as floats, seeds would be rounded in a table."""
