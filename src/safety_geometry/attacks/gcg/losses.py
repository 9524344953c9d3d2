"""What GCG minimises, and how far a loss from cached keys and values may be from one without."""

from collections.abc import Sequence

import torch
from torch import Tensor

from safety_geometry.attacks.gcg.suffix import Suffix
from safety_geometry.models.runner import Runner

TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 5e-2}
"""How far a cached and an uncached loss may differ (times the loss where that exceeds 1). Logits are always float32."""


class CacheError(RuntimeError):
    """Losses with and without cached keys and values differ by more than rounding."""


def mellowmax(losses: Tensor, alpha: float, real: Tensor) -> Tensor:
    """(1/α) log mean exp(α x) over the real entries of each row of x [B, N] (Asadi & Littman 2017): between the mean
    (α → 0) and the maximum (α → ∞), so that the least likely target token weighs most."""
    scaled = (alpha * losses).masked_fill(~real, -torch.inf)
    return (scaled.logsumexp(-1) - real.sum(-1).log()) / alpha


def target_loss(logits: Tensor, labels: Tensor, real: Tensor, alpha: float | None) -> tuple[Tensor, Tensor]:
    """Objective [B] and whether each row's argmax is the target [B], from logits [B, N, V], labels and real [B, N].

    The objective is the mean cross-entropy in nats a token, or its mellowmax. Not by `token_log_p`: a step's logits are
    the largest thing that it holds, and log-probabilities of all of them would be as large again.
    """
    of_labels = logits.gather(-1, labels[..., None])[..., 0]
    each = logits.logsumexp(-1) - of_labels
    exact = ((of_labels >= logits.amax(-1)) | ~real).all(-1)
    if alpha is not None:
        return mellowmax(each, alpha, real), exact
    return each.masked_fill(~real, 0.0).sum(-1) / real.sum(-1), exact


@torch.no_grad()
def uncached_loss(runner: Runner, suffix: Suffix, alpha: float | None = None) -> float:
    """Objective (target cross-entropy by default) of a suffix by one plain forward pass over the whole conversation."""
    h = runner.blocks(runner.embed(torch.tensor([suffix.ids], device=runner.device)))
    logits = runner.logits(h[:, suffix.target_start - 1 : -1])
    labels = torch.tensor([suffix.ids[suffix.target_start :]], device=runner.device)
    return float(target_loss(logits, labels, torch.ones_like(labels, dtype=torch.bool), alpha)[0])


def mean_loss(runner: Runner, suffixes: Sequence[Suffix], alpha: float | None = None) -> float:
    """Mean of the suffixes' objectives by plain forward passes."""
    return sum(uncached_loss(runner, suffix, alpha) for suffix in suffixes) / len(suffixes)


def check_agreement(runner: Runner, cached: float, uncached: float, what: str) -> None:
    """Raise CacheError when the two losses differ by more than the dtype's rounding explains."""
    limit = TOLERANCE[runner.dtype] * max(1.0, abs(uncached))
    if not abs(cached - uncached) <= limit:
        raise CacheError(
            f"{what}: loss {cached:.5f} with cached keys and values, {uncached:.5f} without, more than {limit:.1e}"
            f" apart ({runner.dtype}); the search would follow the wrong candidates. Use another dtype, or report the"
            " model family"
        )
