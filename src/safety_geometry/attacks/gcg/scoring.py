"""Target losses of many candidate suffixes, and the gradient of the current ones: where GCG spends its time.

A candidate that differs from its case's current suffix from position j on shares the keys and values of everything
before it, so only the tokens from j on are run. Rows of several cases may share a batch (`gcg_batches`). Logits are
computed where the target is predicted, nowhere else.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from safety_geometry.attacks.gcg.batches import OVERHEAD, BatchSize, Span, plan
from safety_geometry.attacks.gcg.losses import check_agreement, uncached_loss
from safety_geometry.attacks.gcg.suffix import Suffix
from safety_geometry.models.attention import repeatable_attention
from safety_geometry.models.key_values import KeyValues
from safety_geometry.models.processes import ONE, Ranks
from safety_geometry.models.runner import Runner


@dataclass
class Current:
    """A case's current conversation. past: keys and values of its tokens but the last, by layer, each [1, kv heads, S,
    head dim]; loss: objective; exact: whether greedy decoding gives the target; gradient [n, V] (None without).
    stream, slope [T, d] (None unless asked for): the tokens from the suffix on at the input of a block, and
    d objective / d stream."""

    suffix: Suffix
    past: dict[int, tuple[Tensor, Tensor]]
    loss: float
    exact: bool
    gradient: Tensor | None = None
    stream: Tensor | None = None
    slope: Tensor | None = None

    def in_dtype(self, dtype: torch.dtype) -> "Current":
        """For a model in another dtype: the same with keys and values in it."""
        return replace(self, past={layer: tuple(x.to(dtype) for x in pair) for layer, pair in self.past.items()})


@dataclass
class Scored:
    """losses [W]: objective of every candidate; exact [W]: greedy decoding gives the target; tokens: run for them;
    streams [W, T, d]: of a draft, the tokens from the suffix on at the input of the block after it."""

    losses: Tensor
    exact: Tensor
    tokens: int = 0
    streams: Tensor | None = None


@torch.no_grad()
def score(
    runner: Runner,
    currents: Sequence[Current],
    candidates: Sequence[Tensor],
    batch: BatchSize,
    alpha: float | None,
    layers: int | None = None,
    start: int = 0,
    streams: Sequence[Tensor] | None = None,
) -> list[Scored]:
    """Objective of every candidate suffix [W, n] of every case, from the first token that differs from the current one.

    Args:
        layers: a draft, the first so many blocks under the model's final norm and head.
        start: the block to go on at.
        streams: [W, T, d] of every case, those of a `draft`, to go on from.
    Tokens count by the share of the blocks that they pass. The ranks of `batch` score a part each and exchange the
    losses.
    """
    batch.ranks.check("candidates of a GCG step", [current.suffix.ids for current in currents], *candidates)
    stop = layers or runner.n_layers
    out = [Scored(torch.zeros(len(rows)), torch.zeros(len(rows), dtype=torch.bool)) for rows in candidates]

    def compute(span: Span, parts: list["_Part"]) -> None:
        inputs = (
            None if streams is None else [streams[part.case][part.rows][:, -part.block.shape[1] :] for part in parts]
        )
        h = runner.embed(span.ids) if inputs is None else span.padded(inputs)
        h = runner.blocks(h, start=start, stop=stop, cache=span.cache(start), **span.layout)
        losses, exact = span.objective(runner, h, [currents[part.case].suffix for part in parts], alpha)
        for part, rows in zip(parts, span.owned, strict=True):
            out[part.case].losses[part.rows], out[part.case].exact[part.rows] = (
                losses[rows].float().cpu(),
                exact[rows].cpu(),
            )
            out[part.case].tokens += part.block.numel()

    _in_batches(runner, currents, candidates, batch, compute, batch.ranks, (start, stop))
    _exchange(batch.ranks, out)
    for scored in out:
        scored.tokens = round(scored.tokens * (stop - start) / runner.n_layers)
    return out


@torch.no_grad()
def draft(
    runner: Runner, currents: Sequence[Current], candidates: Sequence[Tensor], batch: BatchSize, layers: int
) -> list[Scored]:
    """First-order estimate of every candidate's objective, from the input of block `layers` on.

    GCG's gradient takes the whole model for linear in the one-hot, across a jump from one token to another; this takes
    only the blocks from `layers` on for linear, in what the candidate changed there: loss + ⟨slope, stream − current
    stream⟩. Every rank computes all of them, since streams are large; the estimates are those of the first.
    """
    out = []
    for current, rows in zip(currents, candidates, strict=True):
        same = current.stream[None].expand(len(rows), -1, -1).clone()
        out.append(Scored(torch.zeros(len(rows)), torch.zeros(len(rows), dtype=torch.bool), streams=same))

    def compute(span: Span, parts: list["_Part"]) -> None:
        h = runner.blocks(runner.embed(span.ids), stop=layers, cache=span.cache(), **span.layout)
        for part, rows in zip(parts, span.owned, strict=True):
            current, width = currents[part.case], part.block.shape[1]
            new = h[rows, :width]
            moved = (new - current.stream[-width:]) * current.slope[-width:]
            out[part.case].losses[part.rows] = (current.loss + moved.float().sum((1, 2))).cpu()
            out[part.case].streams[part.rows, -width:] = new
            out[part.case].tokens += part.block.numel()

    _in_batches(runner, currents, candidates, batch, compute, stage=(0, layers))
    for scored in out:
        batch.ranks.first_(scored.losses)
        scored.tokens = round(scored.tokens * layers / runner.n_layers)
    return out


def look(
    runner: Runner,
    suffixes: Sequence[Suffix],
    prefixes: Sequence[KeyValues],
    batch: BatchSize,
    alpha: float | None,
    gradient: bool = True,
    kept_layer: int | None = None,
    lsgm: float | None = None,
) -> list[Current]:
    """Loss, keys and values and (unless told otherwise) gradient of the suffixes, after the cached prefixes.

    The gradient is d objective / d one-hot of the suffix tokens, [n, V], through the embedding, which is linear in the
    one-hot. Gemma multiplies its embeddings by a constant, which is left out: it changes no order. With `kept_layer`
    the stream at the input of that block and its slope are kept as well. `lsgm` scales what goes back through attention
    and MLP, in the gradient and the slope (`Runner.scaled_branches`). Every rank of `batch` looks at all of them,
    for the keys and values; what decisions rest on (loss, exactness, gradient) is that of the first.
    """
    out: list[Current | None] = [None] * len(suffixes)

    def compute(part: Sequence[int]) -> None:
        chosen = [suffixes[i] for i in part]
        blocks = [torch.tensor([s.ids[s.start : -1]]) for s in chosen]
        span = Span(runner, [prefixes[i].past for i in part], [s.start for s in chosen], blocks)
        cache, inner = span.cache(record=True), []
        with repeatable_attention(runner.device), torch.set_grad_enabled(gradient), runner.scaled_branches(lsgm):
            embedded = runner.embed(span.ids).detach().requires_grad_(gradient)
            tap = None if kept_layer is None else lambda layer, h: inner.append(h) if layer == kept_layer else None
            h = runner.blocks(embedded, cache=cache, tap=tap, **span.layout)
            losses, exact = span.objective(runner, h, chosen, alpha)
            slopes = torch.autograd.grad(losses.sum(), [embedded, *inner]) if gradient else ()
        table = runner.body.embed_tokens.weight.detach()
        for row, i in enumerate(part):
            s, width = chosen[row], blocks[row].shape[1]
            past = {
                layer: tuple(
                    torch.cat([old, new[row : row + 1, :, :width].detach()], 2)
                    for old, new in zip(prefixes[i].past[layer], pair, strict=True)
                )
                for layer, pair in cache.now.items()
            }
            current = Current(s, past, float(losses[row].detach()), bool(exact[row]))
            if gradient:
                toward = slopes[0][row, : s.stop - s.start].to(table.dtype) @ table.T
                current.gradient = toward if toward.dtype == torch.float64 else toward.float()
            if gradient and inner:
                current.stream, current.slope = inner[0][row, :width].detach(), slopes[1][row, :width]
            out[i] = current

    lengths = [len(s.ids) - 1 - s.start for s in suffixes]
    for rows in plan(lengths, batch.looks.rows, OVERHEAD.get(runner.device.type, 32)):
        batch.looks.run(compute, rows)
    _follow_first(batch.ranks, out)
    return out


def _follow_first(ranks: Ranks, looked: Sequence[Current]) -> None:
    """The same losses and gradients on all ranks: each computed its own, and rounding may differ from one GPU to
    another."""
    if ranks.world == 1:
        return
    losses = ranks.of_first(*(c.loss for c in looked))
    exact = ranks.of_first(*(c.exact for c in looked))
    for current, loss, hit in zip(looked, losses, exact, strict=True):
        current.loss, current.exact = loss, bool(hit)
        if current.gradient is not None:
            current.gradient = current.gradient.contiguous()
            ranks.first_(current.gradient)


@torch.no_grad()
def prefix(runner: Runner, suffix: Suffix) -> KeyValues:
    """Keys and values of everything before the suffix, which no candidate changes."""
    return runner.prefix(suffix.ids[: suffix.start])


def check_cache(runner: Runner, suffix: Suffix, token: int) -> None:
    """Start-up check: a candidate (`token` at the middle of the suffix) has the same loss with and without the caches.

    Raises:
        CacheError: it has not.
    """
    tokens = list(suffix.tokens)
    tokens[len(tokens) // 2] = token
    batch = BatchSize(1)
    (current,) = look(runner, [suffix], [prefix(runner, suffix)], batch, None, gradient=False)
    (scored,) = score(runner, [current], [torch.tensor([tokens])], batch, None)
    check_agreement(runner, current.loss, uncached_loss(runner, suffix), "start-up check of the prefix cache")
    plain = uncached_loss(runner, suffix.changed(tokens, "", math.nan))
    check_agreement(runner, float(scored.losses), plain, "start-up check of the candidates' cache")


@dataclass
class _Part:
    """Rows of one case in a batch: their indices among its candidates, and their ids from their common start on [R,
    T]."""

    case: int
    rows: list[int]
    block: Tensor


def _in_batches(
    runner: Runner,
    currents: Sequence[Current],
    candidates: Sequence[Tensor],
    batch: BatchSize,
    compute: Callable[[Span, list[_Part]], None],
    ranks: Ranks = ONE,
    stage: tuple[int, int] = (0, 0),
) -> None:
    """Call `compute` with batches of the candidates, those of one case starting at the first token that any of them
    changes.

    stage: the blocks (from, to) that `compute` runs. With several ranks each takes its part of the candidates. Where
    weights are sharded, a rank with fewer batches than another runs these blocks on one token instead, to keep step.
    """
    jobs = [(case, row) for case, rows in enumerate(candidates) for row in range(len(rows))]
    starts = [_first_change(current.suffix, rows) for current, rows in zip(currents, candidates, strict=True)]
    lengths = [len(currents[case].suffix.ids) - 1 - starts[case][row] for case, row in jobs]

    def run(chosen: Sequence[int]) -> None:
        by_case: dict[int, list[int]] = {}
        for case, row in sorted(jobs[i] for i in chosen):
            by_case.setdefault(case, []).append(row)
        begin = {case: min(starts[case][row] for row in rows) for case, rows in by_case.items()}
        parts = [
            _Part(case, rows, _from(currents[case].suffix, candidates[case][rows], begin[case]))
            for case, rows in by_case.items()
        ]
        pasts = [currents[case].past for case in by_case]
        compute(Span(runner, pasts, list(begin.values()), [p.block for p in parts]), parts)

    overhead = OVERHEAD.get(runner.device.type, 32)
    order = sorted(range(len(jobs)), key=lambda i: (-lengths[i], i))

    def batches(part: Sequence[int]) -> list[list[int]]:
        """The jobs of a part in batches."""
        return [[part[k] for k in chosen] for chosen in plan([lengths[i] for i in part], batch.rows, overhead)]

    own_batches = batches(ranks.share(order))
    for chosen in own_batches:
        batch.run(run, chosen, lambda i: lengths[i] * (stage[1] - stage[0]))
    if ranks.sharded:
        most = max(len(batches(replace(ranks, rank=row).share(order))) for row in range(ranks.world))
        for _ in range(most - len(own_batches)):
            token = torch.zeros(1, 1, dtype=torch.long, device=runner.device)
            runner.blocks(runner.embed(token), start=stage[0], stop=stage[1])


def _exchange(ranks: Ranks, scored: Sequence[Scored]) -> None:
    """Put together what the ranks scored, each its own candidates and zero for the others: losses, exactness and token
    counts."""
    if ranks.world == 1:
        return
    flat = torch.cat([x.double() for each in scored for x in (each.losses, each.exact, torch.tensor([each.tokens]))])
    ranks.add_(flat)
    parts = iter(flat.split([n for each in scored for n in (len(each.losses), len(each.exact), 1)]))
    for each in scored:
        each.losses, each.exact, each.tokens = next(parts).to(each.losses.dtype), next(parts).bool(), int(next(parts))


def _first_change(suffix: Suffix, candidates: Tensor) -> list[int]:
    """Index in the conversation of the first token in which each candidate differs (the last of the suffix if none)."""
    changed = candidates != torch.tensor(suffix.tokens)
    changed[:, -1] = True
    return (suffix.start + changed.int().argmax(-1)).tolist()


def _from(suffix: Suffix, candidates: Tensor, begin: int) -> Tensor:
    """Ids of the conversations with these suffixes from `begin` on, [W, T]; the last token predicts nothing and is
    out."""
    tail = torch.tensor(suffix.ids[suffix.stop : -1], dtype=torch.long)
    return torch.cat([candidates, tail.expand(len(candidates), -1)], 1)[:, begin - suffix.start :]
