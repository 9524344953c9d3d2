"""What the table of attacks says of a GCG attack."""

from safety_geometry.attacks.gcg.config import GCGConfig
from safety_geometry.attacks.gcg.losses import uncached_loss
from safety_geometry.attacks.gcg.search import GCGResult
from safety_geometry.attacks.gcg.suffix import Suffix
from safety_geometry.models.runner import Runner


def numbers(runner: Runner, config: GCGConfig, start: Suffix, result: GCGResult) -> dict:
    """Losses are target cross-entropies in nats a token, whatever the search minimises."""
    first = result.losses[0] if config.mellowmax is None else uncached_loss(runner, start)
    return {
        "budget_steps": config.steps,
        "width": config.width,
        "steps": len(result.losses) - 1,
        "loss_start": first,
        "loss": result.loss,
        "candidates": result.scored,
        "rejected": result.rejected,
        "tokens": result.tokens,
        "batch_size": result.batch_size,
        "stopped": result.stopped,
    }
