"""Restarting from the cached input of a layer: what makes many single-layer interventions cheap.

Blocks below the edited layer never see the edit, so an edited run starts at that layer from the stream of one clean run.
The shared prefix is edited once per intervention, whatever the number of prompts, and logits are read where they are
needed only.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from safety_geometry.interventions import Edits, Intervention, RowEdit
from safety_geometry.runner import Batch, KeyValues, Runner, pack


@dataclass(frozen=True)
class CleanRun:
    """A clean run of n prompts: the packed batch, the stream [n, T, d] at the input of chosen layers, that of the shared
    prefix [1, P, d], and the stream after the last block at each prompt's last token [n, d]."""

    batch: Batch
    stream: dict[int, Tensor]
    prefix_stream: dict[int, Tensor]
    final: Tensor

    @property
    def lengths(self) -> Tensor:
        return self.batch.lengths


def clean_run(
    runner: Runner,
    prompts: Sequence[Sequence[int]],
    layers: Collection[int],
    share: int = 0,
    tap: Callable[[int, Tensor, Batch], None] | None = None,
) -> CleanRun:
    """Run token-id prompts without any edit and keep what restarting at `layers` needs.

    tap: is shown (ℓ, stream at the input of block ℓ [n, T, d], batch).
    """
    batch = pack(prompts, runner.device, share)
    prefix_stream, stream, cache = {}, {}, None
    if batch.prefix:
        cache = KeyValues(record=True)
        h = runner.embed(torch.tensor([batch.prefix], device=runner.device))
        runner.blocks(h, cache=cache, tap=lambda ell, x: prefix_stream.update({ell: x}) if ell in layers else None)
        cache = KeyValues(past=cache.now)

    def keep(layer: int, h: Tensor) -> None:
        if layer in layers:
            stream[layer] = h
        if tap is not None:
            tap(layer, h, batch)

    h = runner.forward(batch, cache=cache, tap=keep)
    lines = torch.arange(len(batch.lengths), device=runner.device)
    return CleanRun(batch, stream, prefix_stream, h[lines, batch.last])


def edited_prefix(
    runner: Runner, clean: CleanRun, layer: int, edits: Sequence[Intervention | Edits]
) -> KeyValues | None:
    """Keys and values from `layer` on of the shared prefix under each of the edits; None without a prefix."""
    if not clean.batch.prefix:
        return None
    h = clean.prefix_stream[layer].expand(len(edits), -1, -1)
    return runner.prefix(clean.batch.prefix, start=layer, h=h, edit=RowEdit(edits, runner.device))


def restart(
    runner: Runner,
    clean: CleanRun,
    layer: int,
    rows: Tensor,
    edits: Sequence[Intervention | Edits],
    prefix: KeyValues | None,
    prefix_rows: Tensor,
    stop: int | None = None,
    tap: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Run prompts `rows` [B] of the clean run from `layer` to `stop`, the b-th under edits[b] and after the edited
    prefix prefix_rows[b]; the stream at the input of block `stop`, [B, T, d]. No edit may act below `layer`."""
    h = clean.stream[layer][rows, : int(clean.lengths[rows].max())]
    cache = None if prefix is None else KeyValues(prefix.past, rows=prefix_rows)
    return runner.blocks(
        h,
        start=layer,
        stop=stop,
        cache=cache,
        past=len(clean.batch.prefix),
        edit=RowEdit(edits, runner.device),
        tap=tap,
    )
