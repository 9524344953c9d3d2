"""Attention whose backward pass is repeatable on a GPU."""

import contextlib

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


def repeatable_attention(device: torch.device) -> contextlib.AbstractContextManager:
    """For forward passes whose gradients decide something: on CUDA they take torch's plain attention.

    The memory-efficient kernel adds gradients up in an order of chance. The plain one holds all scores [B, heads, T,
    S], which is little where rows are as short as those of an attack. On a CPU nothing changes.
    """
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cuda" else contextlib.nullcontext()
