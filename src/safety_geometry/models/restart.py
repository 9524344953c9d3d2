"""Restarting from the cached input of a layer: what makes many single-layer interventions cheap.

Blocks below the edited layer never see the edit, so an edited run starts at that layer from the stream of one clean
run. The shared prefix is edited once per intervention, whatever the number of prompts, and logits are read where they
are needed only.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from safety_geometry.models.interventions import Edits, Intervention, RowEdit
from safety_geometry.models.key_values import KeyValues
from safety_geometry.models.memory import BatchSize
from safety_geometry.models.runner import Batch, Runner, pack


@dataclass(frozen=True)
class CleanRun:
    """A clean run of n prompts: the packed batch, the stream [n, T, d] at the input of chosen layers, that of the
    shared prefix [1, P, d], the stream after the last block at each prompt's last token [n, d]; read: what else was
    asked for, [n, …] by layer."""

    batch: Batch
    stream: dict[int, Tensor]
    prefix_stream: dict[int, Tensor]
    final: Tensor
    read: dict[int, Tensor] = field(default_factory=dict)

    @property
    def lengths(self) -> Tensor:
        return self.batch.lengths


def clean_run(
    runner: Runner,
    prompts: Sequence[Sequence[int]],
    layers: Collection[int],
    share: int = 0,
    read: Callable[[int, Tensor, Batch], Tensor | None] | None = None,
    size: BatchSize | None = None,
) -> CleanRun:
    """Run token-id prompts without any edit and keep what restarting at `layers` needs.

    All prompts are one batch, unless memory runs out.
    read: is shown (ℓ, stream at the input of block ℓ [b, T, d], batch) and says what to keep of it, [b, …], or None.
    size: of the batches that restart from here, lowered to what memory had room for.
    """
    batch = pack(prompts, runner.device, share)
    prefix_stream, cache = {}, None
    if batch.prefix:
        cache = KeyValues(record=True)
        h = runner.embed(torch.tensor([batch.prefix], device=runner.device))
        runner.blocks(h, cache=cache, tap=lambda ell, x: prefix_stream.update({ell: x}) if ell in layers else None)
        cache = KeyValues(past=cache.now)

    parts: list[tuple[dict[int, Tensor], dict[int, Tensor], Tensor]] = []

    def compute(rows: list[int]) -> None:
        chunk = batch if len(rows) == len(prompts) else Batch(batch.ids[rows], batch.lengths[rows], batch.prefix)
        stream, kept = {}, {}

        def keep(layer: int, h: Tensor) -> None:
            if layer in layers:
                stream[layer] = h
            if read is not None and (value := read(layer, h, chunk)) is not None:
                kept[layer] = value

        h = runner.forward(chunk, cache=cache, tap=keep)
        lines = torch.arange(len(rows), device=runner.device)
        parts.append((stream, kept, h[lines, chunk.last]))

    whole = BatchSize(len(prompts), "clean run")
    whole.run(compute, range(len(prompts)))
    if whole.changed and size is not None:
        size.rows = min(size.rows, whole.rows)
    stream, kept, final = parts[0]
    if len(parts) > 1:
        stream, kept = (
            {layer: torch.cat([part[side][layer] for part in parts]) for layer in parts[0][side]} for side in (0, 1)
        )
        final = torch.cat([part[2] for part in parts])
    return CleanRun(batch, stream, prefix_stream, final, kept)


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
