"""Losses of R2D2, from logits at labelled positions only."""

import torch
from torch import Tensor

from safety_geometry.models.token_log_p import token_log_p


def log_one_minus_p(logits: Tensor, labels: Tensor) -> Tensor:
    """log(1 − p(label)), [N]: log-sum-exp over all other tokens minus the full one, stable where p is close to 1."""
    others = logits.scatter(-1, labels[:, None], -torch.inf)
    return torch.logsumexp(others, -1) - torch.logsumexp(logits, -1)


def away_loss(logits: Tensor, labels: Tensor, threshold: float = -5.0) -> Tensor:
    """−(1/N) Σ 1[log p > threshold] log(1 − p) over the N target tokens of one row (HarmBench's R2D2).

    Tokens that are already improbable add nothing but still count in N.
    """
    active = (token_log_p(logits, labels) > threshold).to(logits.dtype)
    return -(active * log_one_minus_p(logits, labels)).sum() / len(labels)
