"""Edits of the residual stream at a block's input, with directions, layers and strengths per row.

Linear ablation a − λ Qᵀ(Q a) and steering a + λ u (arXiv 2606.16349, interventions; arXiv 2604.27019, Eqs. 5-6).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Intervention:
    """One edit. `basis` [k, d]: orthonormal rows for `ablate`, the vector(s) to add (summed) for `steer`."""

    family: str
    layer: int
    basis: Tensor
    strength: float = 1.0

    def __post_init__(self):
        if self.family not in ("ablate", "steer"):
            raise ValueError(f"intervention family {self.family!r}: must be 'ablate' or 'steer'")
        if self.basis.ndim != 2:
            raise ValueError(f"intervention basis has shape {tuple(self.basis.shape)}: must be [k, d]")


class RowEdit:
    """`Edit` for a batch whose row i gets `interventions[i]` (None: left alone).

    Rows with the same layer, family and k are edited together. Inner products are taken in float32.
    """

    def __init__(self, interventions: Sequence[Intervention | None], device: torch.device | str = "cpu"):
        groups: dict[int, dict[tuple[str, int], list[int]]] = {}
        for row, item in enumerate(interventions):
            if item is not None and item.strength != 0:
                groups.setdefault(item.layer, {}).setdefault((item.family, len(item.basis)), []).append(row)
        self.groups: dict[int, list[tuple[str, Tensor | None, Tensor, Tensor]]] = {}
        for layer, kinds in groups.items():
            for (family, _), rows in kinds.items():
                basis = torch.stack([interventions[r].basis.float() for r in rows]).to(device)
                strength = torch.tensor([interventions[r].strength for r in rows], device=device)[:, None, None]
                index = None if len(rows) == len(interventions) else torch.tensor(rows, device=device)
                self.groups.setdefault(layer, []).append((family, index, basis, strength))

    def __call__(self, layer: int, h: Tensor) -> Tensor:
        for family, rows, basis, strength in self.groups.get(layer, ()):
            part = (h if rows is None else h[rows]).float()
            if family == "ablate":
                part = part - strength * ((part @ basis.mT) @ basis)
            else:
                part = part + strength * basis.sum(1, keepdim=True)
            part = part.to(h.dtype)
            h = part if rows is None else h.index_copy(0, rows, part)
        return h
