"""Directions that were brought in files, swept as R is: the same cells, controls, readouts and effects."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from safety_geometry.artefacts.carriers import Carrier, CarrierPair
from safety_geometry.artefacts.direction_files import Direction
from safety_geometry.artefacts.tables.directions import EFFECT
from safety_geometry.causal.effects import control_normalised
from safety_geometry.causal.sweep import Sweep, Tokens, cell_rows, readout_rows
from safety_geometry.geometry.carriers import NEGLIGIBLE
from safety_geometry.geometry.coupling import cosine_coupling, layer_coupling
from safety_geometry.models.language_model import LanguageModel
from safety_geometry.models.memory import BatchSize
from safety_geometry.settings.identity import Position

log = logging.getLogger(__name__)


def carrier_of(direction: Direction, position: Position) -> Carrier:
    """A direction as a refusal carrier, in whose place it is swept."""
    unit = direction.unit
    norm = float(np.linalg.norm(direction.vector.astype(np.float64)))
    return Carrier("R", direction.layer, position, unit, norm, float("nan"), None, unit[:, None])


def check(name: str, direction: Direction, position: Position, activations, width: int) -> bool:
    """Whether a direction fits the model: one of another width is left out with a warning, since a study may have
    several models. Raises ValueError for a layer that does not exist, and a position that was not recorded."""
    if len(direction.vector) != width:
        log.warning("direction %s has %d numbers, and this model's stream is %d wide: left out", name,
                    len(direction.vector), width)  # fmt: skip
        return False
    if direction.layer >= activations.n_layers:
        raise ValueError(
            f"direction {name} is of layer {direction.layer}; this model has {activations.n_layers} blocks"
        )
    if position not in activations.positions:
        known = ", ".join(map(str, activations.positions))
        raise ValueError(f"direction {name} is of position {position}; activations are recorded at {known}")
    return True


def brought_rows(
    settings: Mapping, model: LanguageModel, pair: CarrierPair, activations, prompts: Mapping[str, Tokens],
    ids: Mapping[str, Sequence[str]], openings: Sequence[int], directions: Mapping[str, tuple[Direction, Position]],
    size: BatchSize, tau: float, rng_seed: int, draws: int,
) -> Iterator[dict]:  # fmt: skip
    """Rows of table `directions` of one checkpoint, without its own columns.

    settings: of `Sweep.of`, whose targets have the mode r_only and give no answers; `tested`: directions whose primary
    targets have a p. prompts and ids: of the readout, `harmful` and `benign`. Raises ValueError of `check`.
    """
    for name, (direction, position) in directions.items():
        if not check(name, direction, position, activations, model.runner.d):
            continue
        mine = carrier_of(direction, position)
        told = settings | {"primary": settings["primary"] if name in settings["tested"] else []}
        here = replace(pair, r=mine, selected=None, selected_sites=())
        sweep = Sweep.of(told, model.runner, model.chat, here, activations, prompts["harmful"], size)
        units, read = list(sweep.units()), {}
        for unit, readout in sweep.read(units, prompts["benign"], openings):
            known = {"log_odds": ids["harmful"], "kl": ids["benign"], "kl_answer": ids["benign"]}
            read[unit.name] = readout | {"prompts": known}
        cells = pd.DataFrame(cell_rows(units, here))
        effects = control_normalised(cells, pd.DataFrame(readout_rows(read, units)), None, rng_seed, draws)
        about = {"direction": name, "layer": direction.layer, "position": str(position), "norm": mine.norm}
        about |= coupled(mine, pair, activations, tau)
        yield from (about | row for row in effects[list(EFFECT)].to_dict("records"))


def coupled(mine: Carrier, pair: CarrierPair, activations, tau: float) -> dict[str, float | None]:
    """Cosine and nearness in layers with H and with R, and cosine with the contrast at the direction's own site."""
    values: dict[str, float | None] = {}
    for kind in ("H", "R"):
        other = pair.by_kind.get(kind)
        values[f"c_cos_{kind.lower()}"] = other and cosine_coupling(mine.direction, other.direction)
        values[f"c_layer_{kind.lower()}"] = other and layer_coupling(mine.layer, other.layer, tau)
    rows, harmful = activations.fit(*mine.site)
    contrast = rows[:harmful].mean(0) - rows[harmful:].mean(0)
    negligible = np.linalg.norm(contrast) <= NEGLIGIBLE * np.abs(rows).max()  # at layer 0, of the template's tokens
    return values | {"c_cos_site": 0.0 if negligible else cosine_coupling(mine.direction, contrast)}
