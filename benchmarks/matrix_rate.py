"""What a device can do at best, and how its time is taken: for the benchmarks beside this file."""

import time
from collections.abc import Callable

import torch

from safety_geometry.models.runner import Runner

TOKENS = {"cpu": 256, "cuda": 16384}


def seconds(action: Callable[[], object], device: torch.device) -> float:
    """Wall time of an action to the end of what it started on the device."""
    began = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


@torch.inference_mode()
def matrix_rate(runner: Runner, repeats: int = 10) -> float:
    """Operations a second of matrix products in the shapes of the model's blocks, the best of a few."""
    best, n = 0.0, TOKENS[runner.device.type]
    kind = {"dtype": runner.dtype, "device": runner.device}
    for wide in (runner.d, runner.config.intermediate_size):
        a, b = torch.randn(n, runner.d, **kind), torch.randn(runner.d, wide, **kind)
        for _ in range(5):
            took = seconds(lambda a=a, b=b: [a @ b for _ in range(repeats)], runner.device)
            best = max(best, repeats * 2 * n * runner.d * wide / took)
    return best


def operations(runner: Runner) -> tuple[float, float]:
    """Of one token through all blocks, attention scores not counted, and of the logits after it."""
    blocks = sum(p.numel() for block in runner.layers for p in block.parameters() if p.ndim == 2)
    return 2.0 * blocks, 2.0 * runner.body.embed_tokens.weight.numel()


def named(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
