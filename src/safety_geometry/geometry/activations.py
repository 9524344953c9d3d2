"""Residual-stream activations at chosen positions, for all layers in one forward pass, and the cache that is made of
them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from safety_geometry.artefacts.activations import CLASSES, SETS, ActivationWriter
from safety_geometry.geometry.contrast import large_enough
from safety_geometry.models.chat import Rendered
from safety_geometry.models.generation import by_length
from safety_geometry.models.memory import BatchSize
from safety_geometry.models.positions import PositionError, position_indices
from safety_geometry.models.runner import Runner, pack
from safety_geometry.settings.identity import Position


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

    Values are float32 on the CPU; index ℓ < L is the input of block ℓ, L the last block's output. No more than one
    batch is held.
    """
    where, size = position_indices(prompts, positions), BatchSize.of(batch_size, "activations")

    def compute(rows: list[int]) -> None:
        share_here = min(share, int(where[rows].min()))  # every position read has to lie outside the shared prefix
        batch = pack([prompts[i].ids for i in rows], runner.device, share_here)
        index = (where[rows] - len(batch.prefix)).to(runner.device)
        lines = torch.arange(len(rows), device=runner.device)[:, None]
        values = torch.empty(len(rows), len(positions), runner.n_layers + 1, runner.d, device=runner.device)

        def tap(layer: int, h: Tensor) -> None:
            values[:, :, layer] = h[lines, index].float()

        runner.forward(batch, tap=tap)
        runner.check_finite(values)
        sink(rows, values.cpu())  # once for all blocks: a GPU would stop for each
        if progress is not None:
            progress(len(rows))

    size.run(compute, by_length([len(p.ids) for p in prompts]), lambda i: len(prompts[i].ids))


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


@dataclass(frozen=True)
class CacheSettings:
    """positions: recorded ones; dtype: of the activations of single prompts; only: the position of the validation
    prompts in a cache of means, None where everything is kept; class_min: the fewest prompts of a class of refused and
    other ones."""

    positions: tuple[Position, ...]
    dtype: str
    only: Position | None = None
    class_min: int = 0


def cache_activations(
    path: Path,
    runner: Runner,
    prompts: Mapping[str, Sequence[Rendered]],
    settings: CacheSettings,
    batch_size: int | BatchSize,
    refused: Mapping[str, Sequence[bool]] | None = None,
    share: int = 0,
    progress: Callable[[int, str], Callable[[int], None]] | None = None,
) -> dict[str, Tensor]:
    """Write an activation cache (artefacts/activations.py), batch by batch; returns its means [P, L+1, d] by class.

    prompts: of each of `SETS`; refused: which of the fit prompts of each class are, where R contrasts these with the
    others; share: leading tokens that all prompts have in common; progress(prompts of a set, its name) gives what is
    told the prompts finished.

    Raises PositionError, with the name of the set, for a prompt without a token at a position; OverflowError for an
    activation that is not finite in the cache's type.
    """
    site = (len(settings.positions), runner.n_layers + 1, runner.d)
    labels = {label: torch.tensor(each, dtype=torch.bool) for label, each in (refused or {}).items()}
    means = {label: RunningMean(site) for label in CLASSES}
    told_apart = bool(labels) and large_enough(torch.cat(list(labels.values())), settings.class_min)
    if told_apart:
        means |= {"refused": RunningMean(site), "complied": RunningMean(site)}
    counts = {name: len(prompts[name]) for name in SETS}
    writer = ActivationWriter(
        path, settings.positions, site, settings.dtype, counts, means, bool(labels), settings.only
    )
    with writer as file:
        for name in SETS:
            split, label = name.split("_")

            def keep(rows: list[int], values: Tensor, name=name, split=split, label=label) -> None:
                if split == "fit":
                    means[label].add(values)
                    if told_apart:
                        means["refused"].add(values[labels[label][rows]])
                        means["complied"].add(values[~labels[label][rows]])
                file.add(name, values, rows)

            bar = progress and progress(len(prompts[name]), f"activations {name}")
            try:
                stream(runner, prompts[name], settings.positions, batch_size, keep, share, bar)
            except PositionError as error:
                raise PositionError(f"{name}: {error}") from error
        result = {label: mean.value() for label, mean in means.items()}
        for label, mean in result.items():
            file.write(f"mean.{label}", mean)
        for label, each in labels.items():
            file.write(f"refused.{label}", each.to(torch.uint8))
    return result


def evaluation_layers(mean_harmful: Tensor, mean_benign: Tensor, share: float = 0.1) -> list[int]:
    """The ⌊share·L⌋ blocks (at least one) whose last-token outputs separate the classes best: lowest cosine of the
    means.

    Means are [L+1, d] at the last position, index ℓ+1 being block ℓ's output (COSMIC's rule).
    """
    cosine = torch.cosine_similarity(mean_harmful[1:].double(), mean_benign[1:].double(), dim=-1)
    return sorted(torch.argsort(cosine, stable=True)[: max(1, int(share * len(cosine)))].tolist())
