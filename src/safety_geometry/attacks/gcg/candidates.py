"""Candidates of a GCG step: single substitutions by the gradient, several of them made together, and runs of the
target."""

from collections.abc import Sequence

import torch
from torch import Tensor

from safety_geometry.attacks.gcg.config import GCGConfig
from safety_geometry.attacks.gcg.suffix import Suffix
from safety_geometry.models.chat import ChatFormat


def propose(
    gradient: Tensor,
    suffix: Suffix,
    config: GCGConfig,
    allowed: Tensor,
    generator: torch.Generator,
    phrase: Sequence[int] = (),
) -> Tensor:
    """Candidates [width, n] that differ from the current suffix in one token each, and with `echo` as many more at
    most.

    Positions are spread evenly over the suffix; the token is drawn from the `top_k` with the most negative gradient
    at that position, among the allowed ones and without the current token. For `echo` see `_echoes`; `phrase` is what
    it repeats.
    """
    current = torch.tensor(suffix.tokens)
    n, k = len(current), choices(config, allowed)
    values = gradient.masked_fill(~allowed[None].to(gradient.device), torch.inf)
    values[torch.arange(n), current] = torch.inf
    top = (-values).topk(k, dim=-1).indices.cpu()
    where, pick, runs = draws(n, config, k, generator)
    candidates = current.repeat(config.width, 1)
    candidates[torch.arange(config.width), where] = top[where, pick]
    return torch.cat([candidates, _echoes(current, phrase, runs)]) if config.echo and phrase else candidates


def echo_phrase(chat: ChatFormat, suffix: Suffix, allowed: Tensor) -> list[int]:
    """Tokens of the target as it stands in running text; none if one of them is not allowed in a suffix."""
    ids = chat.tokenizer(" " + suffix.target.strip(), add_special_tokens=False)["input_ids"]
    return ids if all(allowed[i] for i in ids) else []


def _echoes(current: Tensor, phrase: Sequence[int], runs: Tensor) -> Tensor:
    """Candidates [≤ echo, n] that have a run of `phrase` somewhere in the suffix: a model tends to go on as its context
    does.

    `runs` [echo, 3] in [0, 1) says how long, from where in the phrase and to where in the suffix. Every second one is
    as long as phrase and suffix allow. What comes out as the current suffix, or twice, is left out.
    """
    n, m = len(current), len(phrase)
    longest = min(n, m)
    words, distinct = torch.tensor(phrase), {tuple(current.tolist()): None}
    for i, (size, begin, place) in enumerate(runs.tolist()):
        length = longest if i % 2 == 0 else 1 + int(size * longest)
        begin, place = int(begin * (m - length + 1)), int(place * (n - length + 1))
        row = current.clone()
        row[place : place + length] = words[begin : begin + length]
        distinct.setdefault(tuple(row.tolist()))
    return torch.tensor(list(distinct)[1:], dtype=torch.long).reshape(-1, n)


def choices(config: GCGConfig, allowed: Tensor) -> int:
    """Tokens that are considered at a position."""
    return min(config.top_k, int(allowed.sum()) - 1)


def draws(n: int, config: GCGConfig, k: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """All that is drawn in a step: positions and ranks of its candidates [width] each, and what its echoes are made of
    [echo, 3]."""
    if config.width >= n:
        where = torch.arange(config.width) * n // config.width
    else:
        where = torch.randperm(n, generator=generator)[: config.width]
    pick = torch.randint(k, (config.width,), generator=generator)
    runs = torch.rand(config.echo, 3, generator=generator) if config.echo else torch.empty(0, 3)
    return where, pick, runs


def merged(suffix: Suffix, rows: Tensor, losses: Tensor, bar: float, most: int) -> Tensor:
    """The best substitutions of 2, 3 … `most` positions made together, [≤ most − 1, n]: the best candidate of every
    position that lowers the loss, the best positions first (the multi-coordinate update of Jia et al. 2024,
    2405.21018). Candidates that change more than one token are left out."""
    current = torch.tensor(suffix.tokens)
    together, taken, out = current.clone(), set(), []
    for r in losses.argsort(stable=True).tolist():
        if len(taken) == most or not losses[r] < bar:
            break
        where = (rows[r] != current).nonzero()[:, 0].tolist()
        if len(where) == 1 and taken.isdisjoint(where):
            taken.update(where)
            together[where] = rows[r, where]
            out.append(together.clone())
    return torch.stack(out[1:]) if len(out) > 1 else rows[:0]
