"""A model with LoRA layers as if they were merged, for as long as nothing trains: fewer and larger matrix products."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """Inside the block every LoRA layer of peft stands replaced by a plain linear one with W + ΔW.

    The layers themselves are left alone and put back at the end, so that nothing is ever added to a weight and taken
    off again, which would drift. Takes memory for one more copy of the weights that have adapters. Dropout plays no
    part: for evaluation.
    """
    swapped = []
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if hasattr(child, "lora_A") and hasattr(child, "get_delta_weight"):
                swapped.append((parent, name, child))
    try:
        for parent, name, child in swapped:
            setattr(parent, name, _plain(child))
        yield
    finally:
        for parent, name, child in swapped:
            setattr(parent, name, child)


@torch.no_grad()
def _plain(layer: nn.Module) -> nn.Linear:
    base = layer.get_base_layer()
    weight = base.weight + sum(layer.get_delta_weight(name).to(base.weight.dtype) for name in layer.active_adapters)
    plain = nn.Linear(base.in_features, base.out_features, bias=base.bias is not None, device="meta")
    plain.weight = nn.Parameter(weight, requires_grad=False)
    if base.bias is not None:
        plain.bias = nn.Parameter(base.bias.detach(), requires_grad=False)
    return plain.eval()
