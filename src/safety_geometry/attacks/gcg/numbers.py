"""What the table of attacks says of a GCG attack, on one request or on several together."""

from collections.abc import Sequence
from typing import Protocol

from safety_geometry.attacks.gcg.config import GCGConfig
from safety_geometry.attacks.gcg.losses import mean_loss
from safety_geometry.attacks.gcg.suffix import Suffix
from safety_geometry.attacks.operations import operations
from safety_geometry.models.runner import Runner


class Searched(Protocol):
    """What a search says of itself (`search.GCGResult`, `universal.UniversalResult`)."""

    losses: list[float]
    scored: int
    rejected: int
    tokens: int
    stopped: str
    loss: float
    batch_size: int


def numbers(runner: Runner, config: GCGConfig, starts: Sequence[Suffix], result: Searched) -> dict[str, object]:
    """Losses are target cross-entropies in nats a token, whatever the search minimises; the mean over `starts`."""
    first = result.losses[0] if config.mellowmax is None else mean_loss(runner, starts)
    return {
        "behaviours": len(starts),
        "budget_steps": config.steps,
        "width": config.width,
        "steps": len(result.losses) - 1,
        "loss_start": first,
        "loss": result.loss,
        "candidates": result.scored,
        "rejected": result.rejected,
        "tokens": result.tokens,
        "operations": operations(runner.model, result.tokens),
        "batch_size": result.batch_size,
        "stopped": result.stopped,
    }
