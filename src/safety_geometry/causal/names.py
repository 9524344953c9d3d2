"""Names that the sweep, its tables and their figures share."""

from safety_geometry.artefacts.tables import causal
from safety_geometry.artefacts.tables.specification import names

CLEAN = "clean"  # the cell without an intervention
SHARED = (
    "random",
    "covariance",
    "shuffled",
)  # kinds of control that serve every mode of a carrier; pooled in the tables
OWN = ("wrong_layer", "wrong_position", "norm_matched")  # kinds that belong to one target
KINDS = (*SHARED, *OWN)
DESCRIPTION = tuple(names(causal.DESCRIPTION))
"""Columns of a cell's row: what is done, beside which target, and how like the target it is."""
WHOLE = tuple(names(c for c in causal.DESCRIPTION if c.kind == "integer" and c.missing_allowed))
"""Those of them that are whole numbers, or empty: as floats, seeds would be rounded in a table."""
