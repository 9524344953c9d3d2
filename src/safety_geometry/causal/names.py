"""Names that the sweep, its tables and their figures share."""

CLEAN = "clean"  # the cell without an intervention
SHARED = (
    "random",
    "covariance",
    "shuffled",
)  # kinds of control that serve every mode of a carrier; pooled in the tables
OWN = ("wrong_layer", "wrong_position", "norm_matched", "selected")  # kinds that belong to one target
KINDS = (*SHARED, *OWN)
SCAN = "layer_scan"  # cells of the layer scan, which has a table of its own
SCAN_CONTROLS = {f"scan_{kind}": kind for kind in SHARED}  # the same of its controls, with their kind
MODES = ("h_only", "r_only", "h_plus_r", "h_perp_r", "r_perp_h")
CARRIER = {"h_only": "H", "h_perp_r": "H", "r_only": "R", "r_perp_h": "R"}
"""The carrier at whose layer a mode acts; `h_plus_r` acts at both."""
FAMILIES = ("ablate", "steer")
SCOPES = ("layer", "all_layers")
