"""What an attack costs, in a unit that attacks of any kind have: floating-point operations of the model."""

from torch import nn


def operations(model: nn.Module, tokens: int) -> float:
    """2 · parameters · tokens: a multiplication and an addition for each weight and token.

    tokens: processed, padding not counted, a backward pass as two forward ones. All weights count, those that embedding
    and head share once; attention between tokens is left out (a few per cent at these lengths).
    """
    return 2.0 * sum(parameter.numel() for parameter in model.parameters()) * tokens
