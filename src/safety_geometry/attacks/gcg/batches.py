"""Batches of GCG's candidates: which rows share a forward pass, and how rows of several cases stand beside each
other."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from safety_geometry.attacks.gcg.losses import target_loss
from safety_geometry.attacks.gcg.suffix import Suffix
from safety_geometry.models import memory
from safety_geometry.models.key_values import KeyValues
from safety_geometry.models.processes import ONE, Ranks
from safety_geometry.models.runner import Runner

OVERHEAD = {"cpu": 32, "cuda": 1024}
"""What one forward pass costs beyond its tokens, in tokens: measured with a small model on one thread of a CPU, and a
guess for CUDA."""


class BatchSize(memory.BatchSize):
    """Rows of one forward pass, and the ranks that share the passes out. Halved on CUDA only, and not where weights are
    sharded: a rank cannot try again while others wait for it. They grow where one process runs alone.

    `looks` are the rows of a pass with its graph, a quarter as many, since such a row takes several times the memory;
    they shrink by themselves. `both` is what a job registers."""

    def __init__(self, rows: int, adaptive: bool = False, ranks: Ranks = ONE, grows: bool = False):
        super().__init__(rows, "GCG's candidates", adaptive, grows)
        self.ranks, self.looks = ranks, memory.BatchSize(max(1, rows // 4), "GCG's gradients", adaptive)

    @property
    def both(self) -> tuple[memory.BatchSize, memory.BatchSize]:
        return self, self.looks

    @classmethod
    def on(cls, device: torch.device, rows: int, ranks: Ranks = ONE, grows: bool = False) -> "BatchSize":
        return cls(rows, device.type == "cuda" and not ranks.sharded, ranks, grows and ranks.world == 1)


def plan(lengths: Tensor, rows: int, overhead: int) -> list[list[int]]:
    """Indices in batches of like length, longest first: the cut with the least padded tokens plus `overhead` a
    batch."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    sizes: list[list[int]] = []  # [length, how many]
    for i in order:
        if not sizes or sizes[-1][0] != lengths[i]:
            sizes.append([int(lengths[i]), 0])
        sizes[-1][1] += 1
    best: list[tuple[float, int]] = [(0, 0)]  # least cost of the first k lengths, and where their last batch begins
    for end in range(1, len(sizes) + 1):
        options, count = [], 0
        for begin in range(end - 1, -1, -1):
            count += sizes[begin][1]
            options.append((best[begin][0] + count * sizes[begin][0] + overhead * math.ceil(count / rows), begin))
        best.append(min(options))
    cuts, end = [], len(sizes)
    while end:
        cuts.append((best[end][1], end))
        end = best[end][1]
    out, first = [], 0
    for begin, end in reversed(cuts):
        count = sum(size for _, size in sizes[begin:end])
        parts = math.ceil(count / rows)
        out += [order[first + count * k // parts : first + count * (k + 1) // parts] for k in range(parts)]
        first += count
    return out


class Span:
    """Rows of several cases, run after the first `starts[c]` tokens of their cases' conversations.

    The cases' keys and values stand right-aligned in S slots and the new tokens follow left-aligned: real slots are
    contiguous, so that a sliding window, which counts slots, stays right. One case needs no padding and no mask.
    """

    def __init__(self, runner: Runner, pasts: Sequence[dict], starts: Sequence[int], blocks: Sequence[Tensor]):
        """`pasts`: keys and values by layer of each case; `blocks`: ids [R, T] of each case's rows from its start
        on."""
        device = runner.device
        self.pasts, self.starts, self.device = pasts, starts, device
        self.width = max(block.shape[1] for block in blocks)
        counts = torch.tensor([len(block) for block in blocks])
        ends = counts.cumsum(0).tolist()
        self.owned = [slice(end - len(block), end) for end, block in zip(ends, blocks, strict=True)]
        self.ids = torch.cat([torch.nn.functional.pad(b, (0, self.width - b.shape[1])) for b in blocks]).to(device)
        self.owner = torch.repeat_interleave(torch.arange(len(blocks)), counts).to(device)
        self.slots = max(starts)
        self.layout = {"past": self.slots}
        if len(blocks) > 1:
            starts_of_rows = torch.tensor(starts, device=device)[self.owner]
            old, new = torch.arange(self.slots, device=device), torch.arange(self.width, device=device)
            before = (old[None] >= self.slots - starts_of_rows[:, None])[:, None, None].expand(-1, 1, self.width, -1)
            causal = (new[None] <= new[:, None])[None, None].expand(len(starts_of_rows), 1, -1, -1)
            self.layout["positions"] = starts_of_rows[:, None] + new[None]
            self.layout["visible"] = torch.cat([before, causal], -1)

    def padded(self, streams: Sequence[Tensor]) -> Tensor:
        """The rows' streams [R, T, d] of every case in one tensor [B, T, d]."""
        return torch.cat([torch.nn.functional.pad(h, (0, 0, 0, self.width - h.shape[1])) for h in streams])

    def cache(self, first: int = 0, record: bool = False) -> KeyValues:
        """Keys and values before the rows from block `first` on; they are cut (and padded) anew for each pass, not
        kept."""
        if len(self.pasts) == 1:
            past = {
                layer: tuple(x[:, :, : self.slots] for x in pair)
                for layer, pair in self.pasts[0].items()
                if layer >= first
            }
            return KeyValues(past, record=record)
        past = {}
        for layer in (layer for layer in self.pasts[0] if layer >= first):
            past[layer] = tuple(
                torch.cat(
                    [
                        torch.nn.functional.pad(p[layer][side][:, :, :start], (0, 0, self.slots - start, 0))
                        for p, start in zip(self.pasts, self.starts, strict=True)
                    ]
                )
                for side in (0, 1)
            )
        return KeyValues(past, rows=self.owner, record=record)

    def objective(
        self, runner: Runner, h: Tensor, suffixes: Sequence[Suffix], alpha: float | None
    ) -> tuple[Tensor, Tensor]:
        """Objective and exactness of every row, [B], from the final hidden states; logits at the target only."""
        counts = [len(s.ids) - s.target_start for s in suffixes]
        most = max(counts)
        labels = torch.tensor(
            [[*s.ids[s.target_start :], *[0] * (most - n)] for s, n in zip(suffixes, counts, strict=True)]
        )
        offsets = torch.arange(most)
        real = offsets[None] < torch.tensor(counts)[:, None]
        first = torch.tensor([s.target_start - 1 - at for s, at in zip(suffixes, self.starts, strict=True)])
        columns = (first[:, None] + offsets[None]).clamp(max=h.shape[1] - 1)
        labels, real, columns = (x.to(self.device)[self.owner] for x in (labels, real, columns))
        lines = torch.arange(len(h), device=self.device)[:, None]
        return target_loss(runner.logits(h[lines, columns]), labels, real, alpha)
