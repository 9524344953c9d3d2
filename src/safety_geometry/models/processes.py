"""The processes of one training run, their ranks: who takes which rows, and what they tell each other.

Rows and candidates are dealt out, gradients and losses are added up, and everything else (pool, draws, optimiser) is
repeated by every rank on equal numbers. Code asks a `Ranks` and has one path: with one process (`ONE`) nothing is
exchanged and every number stays what it is, to the last bit. With more, sums are rounded otherwise.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

PATIENCE = timedelta(minutes=30)
"""How long a rank waits for another one. A launcher ends the others of a rank that died at once; this is for what
hangs."""


class RanksError(RuntimeError):
    """The processes cannot work together: too few GPUs, or they no longer compute the same thing."""


@dataclass(frozen=True)
class Ranks:
    """This process's place among the `world` processes of a run. sharded: the frozen weights of every block are spread
    over the ranks (`shard`), so that all of them have to run each block equally often, forward and backward."""

    rank: int = 0
    world: int = 1
    sharded: bool = False

    @property
    def first(self) -> bool:
        """Whether it is this process that writes files and speaks."""
        return self.rank == 0

    def share(self, items: Sequence, offset: int = 0) -> list:
        """This rank's part of `items`, dealt out in turn; rank `offset` (modulo the world) gets the first."""
        return list(items[(self.rank - offset) % self.world :: self.world])

    def sum(self, *values: float) -> tuple[float, ...]:
        """Each value added up over the ranks."""
        if self.world == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return tuple(total.tolist())

    def least(self, value: int) -> int:
        """The smallest of the ranks' values."""
        if self.world == 1:
            return value
        least = torch.tensor(value)
        dist.all_reduce(least, op=dist.ReduceOp.MIN)
        return int(least)

    def add_(self, tensor: Tensor) -> None:
        """Add a tensor up over the ranks, in place. NaN and ∞ of one rank stay."""
        if self.world > 1:
            dist.all_reduce(tensor)

    def first_(self, tensor: Tensor) -> None:
        """Make a tensor that of the first rank, in place."""
        if self.world > 1:
            dist.broadcast(tensor, 0)

    def of_first(self, *values: float) -> tuple[float, ...]:
        """The values of the first rank."""
        if self.world == 1:
            return values
        first = torch.tensor(values, dtype=torch.float64)
        dist.broadcast(first, 0)
        return tuple(first.tolist())

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add the gradients up over the ranks, in one exchange. A parameter that has none on any rank keeps none."""
        if self.world == 1:
            return
        parameters = list(parameters)
        gradients = [
            torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in parameters
        ]
        counts = gradients[0].new_tensor([parameter.grad is not None for parameter in parameters])
        flat = torch.cat([*(gradient.flatten() for gradient in gradients), counts])
        dist.all_reduce(flat)
        *parts, counts = flat.split([*(gradient.numel() for gradient in gradients), len(parameters)])
        for parameter, part, count in zip(parameters, parts, counts.tolist(), strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype).clone() if count else None

    def check(self, what: str, *parts: object) -> None:
        """Compare something that all ranks have to have alike: tensors on the CPU, and what has an exact `repr`.

        Raises:
            RanksError: they differ (on every rank).
        """
        if self.world == 1:
            return
        whole = hashlib.sha256()
        for part in parts:
            whole.update(part.contiguous().numpy().tobytes() if isinstance(part, Tensor) else repr(part).encode())
        digest = torch.tensor([int.from_bytes(whole.digest()[:7])])
        digests = [torch.zeros_like(digest) for _ in range(self.world)]
        dist.all_gather(digests, digest)
        if others := [rank for rank, digest in enumerate(digests) if digest != digests[0]]:
            raise RanksError(
                f"{what}: process {others[0]} of {self.world} has another one than process 0, and training on would"
                " follow neither. Are all on the same kind of device, with the same files and packages? If so, train"
                " with one process, and report it"
            )


ONE = Ranks()
"""A run of one process."""


@contextmanager
def launched(device: str, sharded: bool = False) -> Iterator[Ranks]:
    """The ranks that a launcher (`accelerate launch`, `torchrun`) started, of which this process is one; `ONE` without
    a launcher.

    On a GPU each rank gets the one that its number on the machine says, as the current device: `device` has to be plain
    `cuda`.

    Raises:
        RanksError: there are not enough GPUs.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield ONE
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.device(device).type == "cuda":
        _take_gpu(device, local)
    # What is on the CPU (losses, digests) goes through gloo, gradients and weights on GPUs through nccl.
    backend = "gloo" if torch.device(device).type == "cpu" else "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=PATIENCE)
    ranks = Ranks(dist.get_rank(), world, sharded)
    yield ranks
    # Not after an error: a rank that fails ends, and its launcher ends the others, which wait for it.
    ranks.sum(0.0)  # the first may still be writing
    dist.destroy_process_group()


def _take_gpu(device: str, local: int) -> None:
    wanted, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", local + 1)), torch.cuda.device_count()
    if torch.device(device).index is not None:
        raise RanksError(f"device {device} is one GPU, and each of {wanted} processes needs its own; write cuda")
    if wanted > gpus:
        raise RanksError(
            f"{wanted} processes need a GPU each, and this machine shows {gpus}; start fewer, or ask for more GPUs"
            " (resource gpu of the profile, train.processes, CUDA_VISIBLE_DEVICES)"
        )
    torch.cuda.set_device(local)


def shard(model: nn.Module, blocks: Iterable[nn.Module], device: str) -> nn.Module:
    """Spread the frozen weights of `blocks` over the ranks (FSDP): each is whole only while it runs. Everything else is
    moved to `device` whole: embedding, head, and what is trained, whose gradients are therefore added up as without
    sharding.

    Call it on a model on the CPU, after adapters were added. Blocks are called one by one (`Runner`), not through the
    model, so each is an FSDP root of its own. Gradients must enter a block through its output alone: no cache with
    gradients.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(torch.device(device).type, (dist.get_world_size(),))
    trained = {parameter for parameter in model.parameters() if parameter.requires_grad}
    for block in blocks:
        fully_shard(block, mesh=mesh, reshard_after_forward=True, ignored_params=trained)
    return model.to(device)
