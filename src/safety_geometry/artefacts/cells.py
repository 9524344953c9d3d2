"""Cells of a causal sweep and their readouts, CSV: what each intervention is, and a number for each cell and prompt."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from safety_geometry.artefacts.columns import (
    FLAG,
    NUMBER,
    NUMBER_OR_NONE,
    TEXT,
    TEXT_OR_NONE,
    WHOLE,
    WHOLE_OR_NONE,
    read_columns,
    write_columns,
)

DIGITS = 9
DESCRIPTION = {
    "target": TEXT_OR_NONE, "family": TEXT_OR_NONE, "mode": TEXT_OR_NONE, "scope": TEXT_OR_NONE, "rank": WHOLE_OR_NONE,
    "lambda": NUMBER_OR_NONE, "control": TEXT, "number": WHOLE, "control_seed_h": WHOLE_OR_NONE,
    "control_seed_r": WHOLE_OR_NONE, "layer_h": WHOLE_OR_NONE, "layer_r": WHOLE_OR_NONE, "source_layer_h": WHOLE_OR_NONE,
    "source_layer_r": WHOLE_OR_NONE, "source_position_h": TEXT_OR_NONE, "source_position_r": TEXT_OR_NONE,
    "abs_cos": NUMBER_OR_NONE, "energy": NUMBER_OR_NONE, "primary": FLAG,
}  # fmt: skip
"""What is done, beside which target, and how like the target it is."""
WHOLE_NUMBERS = tuple(name for name, column in DESCRIPTION.items() if column is WHOLE_OR_NONE)
CELLS = {
    "cell": TEXT,
    "digest": TEXT,
    **DESCRIPTION,
    "generated": FLAG,
    "carrier_layer_h": WHOLE,
    "carrier_layer_r": WHOLE,
}
READOUT = {"cell": TEXT, "quantity": TEXT, "prompt_id": TEXT, "value": NUMBER}


def write_cells(path: Path, rows: Iterable[dict]) -> None:
    """A row for each cell and target that it belongs to; what a row does not have is empty."""
    write_columns(pd.DataFrame(list(rows)).reindex(columns=list(CELLS)), CELLS, path, DIGITS)


def read_cells(path: Path) -> pd.DataFrame:
    """Raises ArtefactError."""
    return read_columns(path, CELLS)


def write_readout(path: Path, rows: Iterable[dict]) -> None:
    write_columns(pd.DataFrame(list(rows), columns=list(READOUT)), READOUT, path, DIGITS)


def read_readout(path: Path) -> pd.DataFrame:
    """Raises ArtefactError."""
    return read_columns(path, READOUT)
