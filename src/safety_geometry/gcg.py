"""Greedy coordinate gradient (GCG): a suffix after the request that makes a given answer opening likely.

One engine for R2D2's pool and for fixed-source attacks (Zou et al. 2023, arXiv 2307.15043; corrections in the
docstrings). The conversation is tokenised as a whole, for the gradient, for the candidates and for training alike.
"""

import string
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from safety_geometry.chat import ChatFormat, special_ids
from safety_geometry.runner import KeyValues, Runner


@dataclass(frozen=True)
class GCGConfig:
    """steps; width: candidates scored a step; top_k: replacements considered a position; suffix_length: tokens;
    batch_size: candidates of one forward pass; stop_loss: stop when the loss falls below; init: one start token's text.
    """

    steps: int
    width: int
    top_k: int = 256
    suffix_length: int = 10
    batch_size: int = 64
    stop_loss: float = 0.0
    init: str = " !"


@dataclass(frozen=True)
class Suffix:
    """An attacked conversation: ids of the prompt and target, where the suffix and the target stand, and its loss."""

    request: str
    target: str
    text: str
    ids: tuple[int, ...]
    start: int
    stop: int
    target_start: int
    loss: float = float("nan")

    @property
    def prompt(self) -> str:
        """The user's message: the request with the suffix."""
        return self.request + self.text


@dataclass
class GCGResult:
    """suffix: the best one; losses: best loss after every step, the first before any; scored: candidates evaluated;
    tokens: tokens processed; stopped: `loss`, `steps` or `stuck` (no candidate survives re-tokenisation)."""

    suffix: Suffix
    losses: list[float] = field(default_factory=list)
    scored: int = 0
    rejected: int = 0
    tokens: int = 0
    stopped: str = "steps"


class SuffixError(ValueError):
    """The suffix cannot be placed: the tokenizer merges it with the request or the template."""


def place(chat: ChatFormat, request: str, target: str, text: str) -> Suffix:
    """Tokenise the whole conversation with suffix `text` and locate it.

    Raises:
        SuffixError: a token crosses the border between the request and the suffix, or the suffix and the template.
    """
    rendered = chat.render(request + text, target)
    ids = rendered.ids[:-1] if rendered.ids[-1] in chat.stop_ids else rendered.ids  # the target has no end of turn
    bare = chat.render(request)
    start = bare.t_inst + 1
    if rendered.ids[:start] != bare.ids[:start] or rendered.merged:
        raise SuffixError(
            f"the tokenizer merges the suffix with what stands around it (suffix of {len(text)} characters)"
        )
    return Suffix(request, target, text, tuple(ids), start, rendered.t_inst + 1, rendered.response)


def initial_suffix(chat: ChatFormat, request: str, target: str, config: GCGConfig) -> Suffix:
    """The start: `init` repeated to `suffix_length` tokens."""
    count = config.suffix_length
    suffix = place(chat, request, target, config.init * count)
    if suffix.stop - suffix.start != count:
        raise SuffixError(f"{count} × {config.init!r} is {suffix.stop - suffix.start} tokens; choose another `init`")
    return suffix


def allowed_tokens(tokenizer, vocabulary: int) -> Tensor:
    """[V] boolean: tokens that decode to printable ASCII text and are not special."""
    printable = set(string.printable) - set("\t\n\r\x0b\x0c")
    texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
    ok = torch.zeros(vocabulary, dtype=torch.bool)
    ok[: len(texts)] = torch.tensor([bool(t.strip()) and set(t) <= printable for t in texts])
    ok[[i for i in special_ids(tokenizer) if i < vocabulary]] = False
    return ok


def attack(
    runner: Runner,
    chat: ChatFormat,
    suffix: Suffix,
    config: GCGConfig,
    allowed: Tensor,
    seed: int,
    progress: Callable[[int, float], None] | None = None,
) -> GCGResult:
    """Run `config.steps` GCG steps from `suffix`, always keeping the best suffix seen.

    The candidates depend on `seed` and the step alone. A step in which no candidate re-tokenises to itself changes
    nothing. `progress` is told (step, best loss).
    """
    generator = torch.Generator().manual_seed(seed)
    cache = _prefix(runner, suffix)
    loss = float(_losses(runner, suffix, torch.tensor([suffix.ids[suffix.start : suffix.stop]]), cache, 1)[0])
    result = GCGResult(replace(suffix, loss=loss), [loss])
    for step in range(config.steps):
        if result.suffix.loss <= config.stop_loss:
            break
        candidates = propose(_gradient(runner, result.suffix, cache), result.suffix, config, allowed, generator)
        texts = _surviving(chat, result.suffix, candidates)
        kept = [i for i, text in enumerate(texts) if text is not None]
        result.rejected += len(candidates) - len(kept)
        if kept:
            losses = _losses(runner, result.suffix, candidates[kept], cache, config.batch_size)
            best = int(losses.argmin())
            span = len(suffix.ids) - suffix.start
            result.scored += len(kept)
            result.tokens += len(kept) * span + 3 * span
            if losses[best] < result.suffix.loss:
                ids = list(result.suffix.ids)
                ids[suffix.start : suffix.stop] = candidates[kept[best]].tolist()
                result.suffix = replace(result.suffix, ids=tuple(ids), text=texts[kept[best]], loss=float(losses[best]))
        result.losses.append(result.suffix.loss)
        if progress is not None:
            progress(step + 1, result.suffix.loss)
    if result.suffix.loss <= config.stop_loss:
        result.stopped = "loss"
    elif result.rejected and not result.scored:
        result.stopped = "stuck"
    return result


def propose(gradient: Tensor, suffix: Suffix, config: GCGConfig, allowed: Tensor, generator: torch.Generator) -> Tensor:
    """Candidates [width, n] that differ from the current suffix in one token each.

    Positions are spread evenly over the suffix; the token is drawn from the `top_k` with the most negative gradient
    at that position, among the allowed ones and without the current token.
    """
    current = torch.tensor(suffix.ids[suffix.start : suffix.stop])
    n = len(current)
    score = gradient.masked_fill(~allowed[None], torch.inf)
    score[torch.arange(n), current] = torch.inf
    k = min(config.top_k, int(allowed.sum()) - 1)
    top = (-score).topk(k, dim=-1).indices
    where = (
        torch.arange(config.width) * n // config.width
        if config.width >= n
        else torch.randperm(n, generator=generator)[: config.width]
    )
    pick = torch.randint(k, (config.width,), generator=generator)
    candidates = current.repeat(config.width, 1)
    candidates[torch.arange(config.width), where] = top[where, pick]
    return candidates


@torch.no_grad()
def uncached_loss(runner: Runner, suffix: Suffix) -> float:
    """Target cross-entropy of a suffix by one plain forward pass over the whole conversation."""
    h = runner.blocks(runner.embed(torch.tensor([suffix.ids], device=runner.device)))
    logits = runner.logits(h[0, suffix.target_start - 1 : -1])
    labels = torch.tensor(suffix.ids[suffix.target_start :], device=runner.device)
    return float(torch.nn.functional.cross_entropy(logits, labels))


@torch.no_grad()
def _prefix(runner: Runner, suffix: Suffix) -> KeyValues:
    """Keys and values of everything before the suffix, which no candidate changes."""
    return runner.prefix(suffix.ids[: suffix.start])


def _gradient(runner: Runner, suffix: Suffix, cache: KeyValues) -> Tensor:
    """d loss / d one-hot of the suffix tokens, [n, V] (through the embedding, which is linear in the one-hot).

    Gemma multiplies its embeddings by a constant, which is left out: it changes no order.
    """
    ids = torch.tensor([suffix.ids[suffix.start :]], device=runner.device)
    n = suffix.stop - suffix.start
    with torch.enable_grad():
        embedded = runner.embed(ids).detach().requires_grad_(True)
        h = runner.blocks(embedded, cache=cache, past=suffix.start)
        at = suffix.target_start - suffix.start
        loss = torch.nn.functional.cross_entropy(runner.logits(h[0, at - 1 : -1]), ids[0, at:])
        (slope,) = torch.autograd.grad(loss, embedded)
    table = runner.body.embed_tokens.weight.detach()
    return (slope[0, :n].to(table.dtype) @ table.T).float().cpu()


def _surviving(chat: ChatFormat, suffix: Suffix, candidates: Tensor) -> list[str | None]:
    """The text of every candidate whose whole conversation re-tokenises to the same ids, None for the others."""
    # Decoded after the token before it: SentencePiece drops the leading space of what stands first.
    anchor = suffix.ids[suffix.start - 1]
    rows = [[anchor], *([anchor, *c] for c in candidates.tolist())]
    before, *texts = chat.tokenizer.batch_decode(rows, clean_up_tokenization_spaces=False)
    texts = [t[len(before) :] for t in texts]
    rendered = chat.render_many([suffix.request + t for t in texts], [suffix.target] * len(texts))
    head, tail = suffix.ids[: suffix.start], suffix.ids[suffix.stop :]
    wanted = [head + tuple(c) + tail for c in candidates.tolist()]
    return [
        t if r.ids[: len(w)] == w and len(r.ids) <= len(w) + 1 else None
        for t, r, w in zip(texts, rendered, wanted, strict=True)
    ]


@torch.no_grad()
def _losses(runner: Runner, suffix: Suffix, candidates: Tensor, cache: KeyValues, batch_size: int) -> Tensor:
    """Mean target cross-entropy of every candidate suffix, [W]; logits at the target positions only."""
    tail = torch.tensor(suffix.ids[suffix.stop :])
    rows = torch.cat([candidates, tail.expand(len(candidates), -1)], 1).to(runner.device)
    at = suffix.target_start - suffix.start
    out = []
    for chunk in rows.split(batch_size):
        h = runner.blocks(runner.embed(chunk), cache=cache, past=suffix.start)
        logits = runner.logits(h[:, at - 1 : -1])
        labels = chunk[:, at:]
        each = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        out.append(each.view(labels.shape).mean(1))
    return torch.cat(out).cpu()
