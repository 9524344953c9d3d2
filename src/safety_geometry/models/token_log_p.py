"""How likely a model makes given tokens."""

import torch
from torch import Tensor


def token_log_p(logits: Tensor, labels: Tensor) -> Tensor:
    """log p(label), [N], from logits [N, V]."""
    return torch.log_softmax(logits, -1).gather(-1, labels[:, None])[:, 0]
