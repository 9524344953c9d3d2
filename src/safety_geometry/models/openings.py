"""How a refusal begins: the first answer tokens that open one, and the log-odds that the model gives them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from safety_geometry.models.chat import ChatFormat


def refusal_log_odds(logits: Tensor, refusal_ids: Sequence[int]) -> Tensor:
    """log P − log(1 − P), P the probability of the refusal openings' first tokens: logits [..., V] -> [...],
    float64."""
    z = logits.double()
    chosen = torch.zeros(z.shape[-1], dtype=torch.bool, device=z.device)
    chosen[list(refusal_ids)] = True
    return z[..., chosen].logsumexp(-1) - z[..., ~chosen].logsumexp(-1)


def opening_ids(chat: ChatFormat, openings: Sequence[str], requests: Sequence[str]) -> list[int]:
    """First answer token of each opening, without repetition, as it stands behind the template in a whole conversation.

    A tokenizer may begin a word otherwise there than in a text of its own (SentencePiece's space). Raises ValueError
    where an opening has no such token: it is empty, merges with the template, stands behind a blank of its own, or
    begins with another token after another of the requests.
    """
    return list(dict.fromkeys(_first_token(chat, text, requests) for text in openings))


def _first_token(chat: ChatFormat, opening: str, requests: Sequence[str]) -> int:
    if not opening.strip():
        raise ValueError(f"the refusal opening {opening!r} has no tokens")
    prompts = chat.render_many(requests)
    answered = chat.render_many(requests, [opening] * len(requests))
    if any(a.ids[: len(p.ids)] != p.ids for p, a in zip(prompts, answered, strict=True)):
        raise ValueError(f"the refusal opening {opening!r} merges with the chat template into one token")
    tokens = {a.ids[len(p.ids)] for p, a in zip(prompts, answered, strict=True)}
    if len(tokens) > 1:
        raise ValueError(
            f"the refusal opening {opening!r} begins with another token after another request: {sorted(tokens)}"
        )
    token = tokens.pop()
    if not chat.tokenizer.convert_ids_to_tokens(token).strip("▁Ġ \n"):
        raise ValueError(f"the first token of the refusal opening {opening!r} is a blank that the chat template writes")
    return token
