"""Activations of the prompts that a checkpoint was asked: `prompts` [n, P, L, d], in the order of its completions.

Metadata: `positions`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from safety_geometry.artefacts.errors import ArtefactError
from safety_geometry.artefacts.tensor_file import Tensors
from safety_geometry.settings.identity import Position

if TYPE_CHECKING:
    from torch import Tensor


def write_prompt_activations(path: Path, values: "Tensor", positions: Sequence[Position]) -> None:
    """values [n, P, L, d]. Raises OverflowError when one is not finite."""
    import torch
    from safetensors.torch import save_file

    if not torch.isfinite(values).all():
        raise OverflowError(f"activations are not finite as {str(values.dtype).removeprefix('torch.')}")
    save_file({"prompts": values}, path, {"positions": json.dumps(list(positions))})


class PromptActivations:
    """Read as they are asked for; as long as there are prompts."""

    def __init__(self, path: Path):
        """Raises ArtefactError when the file holds none."""
        self.file = Tensors(path)
        self.positions: list[Position] = self.file.describe("positions")
        self.file.check("prompts", None, len(self.positions), None, None)

    def __len__(self) -> int:
        return self.file.shape("prompts")[0]

    def read(self, position: Position, layer: int) -> np.ndarray:
        """[n, d] at one site."""
        if position not in self.positions:
            raise ArtefactError(f"{self.file.path} has no position {position!r}; it has {self.positions}")
        return self.file.read("prompts", np.s_[:, self.positions.index(position), layer])
