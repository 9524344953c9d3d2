"""Edits made of carriers, for `answer` and `generate`: one carrier removed or added, or both in one of the modes."""

from safety_geometry.artefacts.carriers import Carrier
from safety_geometry.causal.modes import Part, interventions, mode_parts
from safety_geometry.models.interventions import Intervention


def ablate(carrier: Carrier, strength: float = 1.0, scope: str = "layer") -> tuple[Intervention, ...]:
    """Remove the carrier at its layer's input, a − λ(uᵀa)u with λ = `strength`; scope `all_layers`: at every block."""
    return interventions((_part(carrier),), "ablate", strength, scope=scope)


def steer(carrier: Carrier, strength: float, scope: str = "layer") -> tuple[Intervention, ...]:
    """Add the carrier at its layer's input, a + λu with λ = `strength` in activation units; below zero: against it."""
    return interventions((_part(carrier),), "steer", strength, scope=scope)


def mode_edits(
    mode: str, h: Carrier, r: Carrier, family: str = "ablate", strength: float = 1.0, scope: str = "layer"
) -> tuple[Intervention, ...]:
    """Edits of a mode (h_only, r_only, h_plus_r, h_perp_r, r_perp_h; arXiv 2606.16349, interventions), ablated or
    steered.

    Raises ValueError for an unknown mode or family, or where nothing is left of one carrier without the other.
    """
    parts = mode_parts(mode, h.direction, r.direction, h.layer, r.layer, family)
    return interventions(parts, family, strength, scope=scope)


def _part(carrier: Carrier) -> Part:
    return Part(carrier.kind, carrier.layer, carrier.direction[None])
