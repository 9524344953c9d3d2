"""Positions of a rendered prompt: counted from its end, or the last token of the instruction."""

from collections.abc import Sequence

import torch
from torch import Tensor

from safety_geometry.models.chat import Rendered
from safety_geometry.settings.identity import T_INST, Position


class PositionError(ValueError):
    """A prompt has no token at a requested position."""


def position_indices(prompts: Sequence[Rendered], positions: Sequence[Position]) -> Tensor:
    """Absolute token index of every position in every prompt, [n, P].

    Positions are negative (counted from the end of the prompt) or "t_inst" (last token of the instruction).
    """
    table = [
        [prompt.t_inst if position == T_INST else len(prompt.ids) + int(position) for position in positions]
        for prompt in prompts
    ]
    worst = min((min(row) for row in table), default=0)
    if worst < 0:
        raise PositionError(
            f"a prompt is {-worst} tokens too short for positions {list(positions)}; name fewer positions"
        )
    return torch.tensor(table)
