"""Interventions of the causal sweep: what each mode edits, at which layers, with which directions.

Modes (arXiv 2606.16349, interventions): `h_only` and `r_only` act with one carrier at its own layer; `h_perp_r` and
`r_perp_h` with what is left of it after the other has been projected out; `h_plus_r` with both. A mode becomes one or
two `Part`s, and a part becomes an `Intervention` of the engine.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from safety_geometry.causal.names import CARRIER, FAMILIES, MODES, SCOPES
from safety_geometry.models.interventions import Intervention

NOTHING_LEFT = 1e-6  # of a unit vector: what is shorter after a projection counts as nothing


@dataclass(frozen=True, eq=False)
class Part:
    """Orthonormal rows [k, d] in float64 that act at the input of block `layer`; `carrier` says whose part it is."""

    carrier: str
    layer: int
    basis: np.ndarray

    @property
    def carriers(self) -> tuple[str, ...]:
        """H, R or both."""
        return tuple(self.carrier)


def orthonormal(rows: np.ndarray) -> np.ndarray:
    """Orthonormal rows [k', d] with the span of `rows` [k, d], in their order (Gram-Schmidt); dependent rows are
    dropped.

    A single row keeps its sign. Raises ValueError when nothing is left.
    """
    basis: list[np.ndarray] = []
    for row in np.atleast_2d(np.asarray(rows, np.float64)):
        length = np.linalg.norm(row)
        if length == 0:
            continue
        left = row / length
        for _ in range(2):  # twice is enough against rounding
            for other in basis:
                left = left - (left @ other) * other
        if np.linalg.norm(left) > NOTHING_LEFT:
            basis.append(left / np.linalg.norm(left))
    if not basis:
        raise ValueError("no direction is left: the rows are zero")
    return np.stack(basis)


def without(basis: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Orthonormal rows of `basis` [k, d] after projecting out the rows of `other` [m, d]: (h − (hᵀr) r) / ‖·‖ for one
    each.

    Raises ValueError when nothing is left (one carrier lies in the other's span).
    """
    other = orthonormal(other)
    left = basis - (basis @ other.T) @ other
    left = left[np.linalg.norm(left, axis=1) > NOTHING_LEFT]
    if not len(left):
        raise ValueError("the carriers span the same directions: nothing is left of one without the other")
    return orthonormal(left)


def mode_parts(
    mode: str, h: np.ndarray, r: np.ndarray, layer_h: int, layer_r: int, family: str = "ablate"
) -> tuple[Part, ...]:
    """Parts of a mode for carriers or subspaces h [k, d], r [k, d] (orthonormal rows) at their layers.

    `h_plus_r`: at different layers each at its own; at one layer an orthonormal basis of both spans (ablate), or
    (h + r) / ‖h + r‖ (steer). Raises ValueError for an unknown mode, or where a projection leaves nothing.
    """
    h, r = np.atleast_2d(h).astype(np.float64), np.atleast_2d(r).astype(np.float64)
    if family == "steer" and max(len(h), len(r)) > 1:
        raise ValueError("steering adds one direction: a subspace can only be ablated")
    if carrier := CARRIER.get(mode):
        layer, basis, other = (layer_h, h, r) if carrier == "H" else (layer_r, r, h)
        return (Part(carrier, layer, without(basis, other) if "perp" in mode else basis),)
    if mode != "h_plus_r":
        raise ValueError(f"unknown mode {mode!r}; modes are {', '.join(MODES)}")
    if layer_h != layer_r:
        return (Part("H", layer_h, h), Part("R", layer_r, r))
    return (Part("HR", layer_h, orthonormal(h + r if family == "steer" else np.concatenate([h, r]))),)


def interventions(
    parts: tuple[Part, ...],
    family: str,
    strength: float,
    scale: Mapping[str, float] | None = None,
    scope: str = "layer",
) -> tuple[Intervention, ...]:
    """The engine's interventions for parts: ablation by λ = `strength`, or addition of λ · scale · u.

    scale: by carrier (H, R, HR), the length of the added vector for λ = 1 (None: 1); ablation has none. scope
    `all_layers` edits the input of every block with the same directions.
    """
    if family not in FAMILIES or scope not in SCOPES:
        raise ValueError(f"family {family!r}, scope {scope!r}: must be one of {FAMILIES} and of {SCOPES}")
    edits = []
    for part in parts:
        size = strength * (scale[part.carrier] if family == "steer" and scale is not None else 1.0)
        basis = torch.from_numpy(part.basis.astype(np.float32))
        edits.append(Intervention(family, part.layer if scope == "layer" else None, basis, size))
    return tuple(edits)


def cosine(first: tuple[Part, ...], second: tuple[Part, ...]) -> float:
    """|cos| between two interventions with parts at the same layers: root mean square cosine of the principal angles of
    each pair of subspaces (|uᵀv| for directions), averaged over the parts."""
    pairs = zip(first, second, strict=True)
    return float(
        np.mean([np.linalg.norm(a.basis @ b.basis.T) / np.sqrt(min(len(a.basis), len(b.basis))) for a, b in pairs])
    )
