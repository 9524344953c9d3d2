"""Activations of prompts that are run anyway, to be answered."""

from collections.abc import Sequence

import torch
from torch import Tensor

from safety_geometry.models.chat import Rendered
from safety_geometry.models.loading import DTYPES
from safety_geometry.models.positions import position_indices
from safety_geometry.models.runner import Runner
from safety_geometry.settings.identity import Position


class PromptRecorder:
    """`values` [n, P, L, d] of the prompts at `positions` and all block inputs; `observe` fills it during
    `generate`."""

    def __init__(self, runner: Runner, prompts: Sequence[Rendered], positions: Sequence[Position], dtype: str):
        """Raises PositionError for a prompt that has no token at one of the positions."""
        self.n_layers, self._columns = runner.n_layers, position_indices(prompts, positions)
        self.values = torch.empty(len(prompts), len(positions), runner.n_layers, runner.d, dtype=DTYPES[dtype])

    def observe(self, rows: list[int], layer: int, stream: Tensor, offset: Tensor) -> None:
        """As `generate` asks: stream [B, T, d] at the input of block `layer`, token t of row b in column t +
        offset[b]."""
        if layer < self.n_layers:
            columns = self._columns[rows].to(stream.device) + offset[:, None]
            lines = torch.arange(len(rows), device=stream.device)[:, None]
            self.values[rows, :, layer] = stream[lines, columns].to(self.values.dtype).cpu()
