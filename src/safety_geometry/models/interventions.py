"""Edits of the residual stream at a block's input, with directions, layers and strengths per row.

A block's input is the residual stream itself in every family: what all earlier blocks have added to the embedding,
before any norm of the block (and, for the embedding of Gemma, after its scale). What the block makes of it differs:

* Llama, Mistral, Qwen, SmolLM3 and Phi 3 norm the input of attention and of the MLP, and add their outputs as they are.
* OLMo 2 and 3 norm the outputs instead. Attention and the MLP read the stream itself, length included, which queries
  and keys then lose in norms of their own; each adds a vector whose length its norm has set.
* Gemma 2 and 3 norm both.

So an edit here means the same in all of them, but with normed outputs (OLMo, Gemma) it is not what a change of weights
would do: a matrix that cannot write a direction is followed by a norm with a weight for each coordinate, and what comes
out of that has the direction again.

Linear ablation a − λ Qᵀ(Q a) and steering a + λ u (arXiv 2606.16349, interventions; arXiv 2604.27019, Eqs. 5-6).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Intervention:
    """One edit. `basis` [k, d]: orthonormal rows for `ablate`, the vector(s) to add (summed) for `steer`.

    layer: the block whose input is edited; None edits the input of every block.
    """

    family: str
    layer: int | None
    basis: Tensor
    strength: float = 1.0

    def __post_init__(self):
        if self.family not in ("ablate", "steer"):
            raise ValueError(f"intervention family {self.family!r}: must be 'ablate' or 'steer'")
        if self.basis.ndim != 2:
            raise ValueError(f"intervention basis has shape {tuple(self.basis.shape)}: must be [k, d]")


Edits = Sequence[Intervention]
"""What is done to one row: any number of interventions, those at one layer in their order."""


class RowEdit:
    """`Edit` for a batch whose row i gets `rows[i]`: an intervention, several, or None.

    Rows with the same layer, family and k are edited together. Inner products are taken in float32.
    """

    def __init__(self, rows: Sequence[Intervention | Edits | None], device: torch.device | str = "cpu"):
        groups: dict[int | None, dict[tuple[int, str, int], list[tuple[int, Intervention]]]] = {}
        for row, items in enumerate(rows):
            items = [items] if isinstance(items, Intervention) else items or []
            for order, item in enumerate(items):
                if item.strength != 0:
                    kind = (order, item.family, len(item.basis))
                    groups.setdefault(item.layer, {}).setdefault(kind, []).append((row, item))
        self.groups: dict[int | None, list[tuple[str, Tensor | None, Tensor, Tensor]]] = {}
        for layer, kinds in groups.items():
            for (_, family, _), members in sorted(kinds.items(), key=lambda kind: kind[0][0]):
                basis = torch.stack([item.basis.float() for _, item in members]).to(device)
                strength = torch.tensor([item.strength for _, item in members], device=device)[:, None, None]
                index = None
                if len(members) < len(rows):
                    index = torch.tensor([row for row, _ in members], device=device)
                self.groups.setdefault(layer, []).append((family, index, basis, strength))

    def __call__(self, layer: int, h: Tensor) -> Tensor:
        for family, rows, basis, strength in (*self.groups.get(None, ()), *self.groups.get(layer, ())):
            part = (h if rows is None else h[rows]).float()
            if family == "ablate":
                part = part - strength * ((part @ basis.mT) @ basis)
            else:
                part = part + strength * basis.sum(1, keepdim=True)
            part = part.to(h.dtype)
            h = part if rows is None else h.index_copy(0, rows, part)
        return h
