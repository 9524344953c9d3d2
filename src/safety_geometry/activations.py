"""Residual-stream activations at chosen positions, for all layers in one forward pass."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from safety_geometry.chat import Rendered
from safety_geometry.generation import length_batches
from safety_geometry.memory import BatchSize
from safety_geometry.runner import Runner, pack

Position = int | str
T_INST = "t_inst"


class PositionError(ValueError):
    """A prompt has no token at a requested position."""


def position_indices(prompts: Sequence[Rendered], positions: Sequence[Position]) -> Tensor:
    """Absolute token index of every position in every prompt, [n, P].

    Positions are negative (counted from the end of the prompt) or "t_inst" (last token of the instruction).
    """
    table = [[p.t_inst if q == T_INST else len(p.ids) + int(q) for q in positions] for p in prompts]
    worst = min((min(row) for row in table), default=0)
    if worst < 0:
        raise PositionError(
            f"a prompt is {-worst} tokens too short for positions {list(positions)}; name fewer positions"
        )
    return torch.tensor(table)


@torch.inference_mode()
def stream(
    runner: Runner,
    prompts: Sequence[Rendered],
    positions: Sequence[Position],
    batch_size: int | BatchSize,
    sink: Callable[[list[int], Tensor], None],
    share: int = 0,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Show `sink` the activations batch by batch, each prompt once: (indices of the prompts, values [b, P, L+1, d]).

    Values are float32 on the CPU; index ℓ < L is the input of block ℓ, L the last block's output. No more than one batch is
    held.
    """
    where, size = position_indices(prompts, positions), BatchSize.of(batch_size, "activations")

    def compute(rows: list[int]) -> None:
        share_here = min(share, int(where[rows].min()))  # every position read has to lie outside the shared prefix
        batch = pack([prompts[i].ids for i in rows], runner.device, share_here)
        index = (where[rows] - len(batch.prefix)).to(runner.device)
        lines = torch.arange(len(rows), device=runner.device)[:, None]
        values = torch.empty(len(rows), len(positions), runner.n_layers + 1, runner.d)

        def tap(layer: int, h: Tensor) -> None:
            values[:, :, layer] = h[lines, index].float().cpu()

        runner.forward(batch, tap=tap)
        runner.check_finite(values)
        sink(rows, values)
        if progress is not None:
            progress(len(rows))

    for rows in length_batches([len(p.ids) for p in prompts], size.rows):
        size.run(compute, rows)


def record(
    runner: Runner,
    prompts: Sequence[Rendered],
    positions: Sequence[Position],
    batch_size: int | BatchSize,
    share: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """All that `stream` shows in one tensor [n, P, L+1, d]: for few prompts, or a small model."""
    out = torch.empty(len(prompts), len(positions), runner.n_layers + 1, runner.d)

    def keep(rows: list[int], values: Tensor) -> None:
        out[rows] = values

    stream(runner, prompts, positions, batch_size, keep, share, progress)
    return out


class RunningMean:
    """Mean over all prompts that it is shown, whatever their batches: summed in float64, given in float32."""

    def __init__(self, shape: Sequence[int]):
        self.total, self.count = torch.zeros(*shape, dtype=torch.float64), 0

    def add(self, values: Tensor) -> None:
        """values [b, *shape]."""
        for place in range(
            len(self.total)
        ):  # one position at a time: the float64 copy of a batch would be the largest tensor
            self.total[place] += values[:, place].double().sum(0)
        self.count += len(values)

    def value(self) -> Tensor:
        if not self.count:
            raise ValueError("the mean of no prompts was asked for")
        return (self.total / self.count).float()


def evaluation_layers(mean_harmful: Tensor, mean_benign: Tensor, share: float = 0.1) -> list[int]:
    """The ⌊share·L⌋ blocks (at least one) whose last-token outputs separate the classes best: lowest cosine of the means.

    Means are [L+1, d] at the last position, index ℓ+1 being block ℓ's output (COSMIC's rule).
    """
    cosine = torch.cosine_similarity(mean_harmful[1:].double(), mean_benign[1:].double(), dim=-1)
    count = max(1, int(share * len(cosine)))
    return sorted(torch.argsort(cosine, stable=True)[:count].tolist())
