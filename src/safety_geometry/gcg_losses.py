"""Target losses of many candidate suffixes, and the gradient of the current ones: where GCG spends its time.

A candidate that differs from its case's current suffix from position j on shares the keys and values of everything before
it, so only the tokens from j on are run. Candidates are sorted by what is left to run and cut into batches of little
padding; rows of several cases may share one. Logits are computed where the target is predicted, nowhere else.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from safety_geometry.runner import KeyValues, Runner
from safety_geometry.suffix import Suffix

OVERHEAD = {"cpu": 32, "cuda": 1024}
"""What one forward pass costs beyond its tokens, in tokens: small models measured on each device."""
TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 5e-2}
"""How far a cached and an uncached loss may differ (times the loss where that exceeds 1). Logits are always float32."""


class CacheError(RuntimeError):
    """Losses with and without cached keys and values differ by more than rounding."""


@dataclass
class BatchSize:
    """Rows of one forward pass. On CUDA it is halved when memory runs out, and stays so; elsewhere it is a constant."""

    rows: int
    adaptive: bool = False

    @classmethod
    def on(cls, device: torch.device, rows: int) -> "BatchSize":
        return cls(rows, device.type == "cuda")

    def run(self, compute, rows: Sequence[int]) -> None:
        """compute(rows), in as many parts as it takes. `compute` must be repeatable."""
        queue = [list(rows)]
        while queue:
            part = queue.pop(0)
            if len(part) > self.rows:
                queue[:0] = [part[i : i + self.rows] for i in range(0, len(part), self.rows)]
                continue
            try:
                compute(part)
                continue
            except torch.OutOfMemoryError:
                if not self.adaptive or len(part) == 1:
                    raise
            self.rows = max(1, len(part) // 2)  # outside the handler, whose traceback keeps tensors alive
            queue.insert(0, part)


@dataclass
class Current:
    """A case's current conversation. past: keys and values of its tokens but the last, by layer, each [1, kv heads, S,
    head dim]; loss: objective; exact: whether greedy decoding gives the target; gradient [n, V] (None without)."""

    suffix: Suffix
    past: dict[int, tuple[Tensor, Tensor]]
    loss: float
    exact: bool
    gradient: Tensor | None = None


@dataclass
class Scored:
    """losses [W]: objective of every candidate; exact [W]: greedy decoding gives the target; tokens: run for them."""

    losses: Tensor
    exact: Tensor
    tokens: int = 0


def mellowmax(losses: Tensor, alpha: float, real: Tensor) -> Tensor:
    """(1/α) log mean exp(α x) over the real entries of each row of x [B, N] (Asadi & Littman 2017): between the mean
    (α → 0) and the maximum (α → ∞), so that the least likely target token weighs most."""
    scaled = (alpha * losses).masked_fill(~real, -torch.inf)
    return (scaled.logsumexp(-1) - real.sum(-1).log()) / alpha


def target_loss(logits: Tensor, labels: Tensor, real: Tensor, alpha: float | None) -> tuple[Tensor, Tensor]:
    """Objective [B] and whether each row's argmax is the target [B], from logits [B, N, V], labels and real [B, N].

    The objective is the mean cross-entropy in nats a token, or its mellowmax.
    """
    own = logits.gather(-1, labels[..., None])[..., 0]
    each = logits.logsumexp(-1) - own
    exact = ((own >= logits.amax(-1)) | ~real).all(-1)
    if alpha is not None:
        return mellowmax(each, alpha, real), exact
    return each.masked_fill(~real, 0.0).sum(-1) / real.sum(-1), exact


def plan(lengths: Tensor, rows: int, overhead: int) -> list[list[int]]:
    """Indices in batches of like length, longest first: the cut with the least padded tokens plus `overhead` a batch."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    sizes: list[list[int]] = []  # [length, how many]
    for i in order:
        if not sizes or sizes[-1][0] != lengths[i]:
            sizes.append([int(lengths[i]), 0])
        sizes[-1][1] += 1
    best: list[tuple[float, int]] = [(0, 0)]  # least cost of the first k lengths, and where their last batch begins
    for end in range(1, len(sizes) + 1):
        options, count = [], 0
        for begin in range(end - 1, -1, -1):
            count += sizes[begin][1]
            options.append((best[begin][0] + count * sizes[begin][0] + overhead * math.ceil(count / rows), begin))
        best.append(min(options))
    cuts, end = [], len(sizes)
    while end:
        cuts.append((best[end][1], end))
        end = best[end][1]
    out, first = [], 0
    for begin, end in reversed(cuts):
        count = sum(size for _, size in sizes[begin:end])
        parts = math.ceil(count / rows)
        out += [order[first + count * k // parts : first + count * (k + 1) // parts] for k in range(parts)]
        first += count
    return out


@torch.no_grad()
def score(
    runner: Runner,
    currents: Sequence[Current],
    candidates: Sequence[Tensor],
    batch: BatchSize,
    alpha: float | None,
    layers: int | None = None,
) -> list[Scored]:
    """Objective of every candidate suffix [W, n] of every case, from the first token that differs from the current one.

    With `layers` it is that of a draft: the first so many blocks under the model's final norm and head. Its tokens count by
    their share of the blocks.
    """
    layers = layers or runner.n_layers
    jobs = [(c, r) for c, rows in enumerate(candidates) for r in range(len(rows))]
    out = [Scored(torch.zeros(len(rows)), torch.zeros(len(rows), dtype=torch.bool)) for rows in candidates]
    starts = [_first_change(current.suffix, rows) for current, rows in zip(currents, candidates, strict=True)]
    lengths = [len(currents[c].suffix.ids) - 1 - starts[c][r] for c, r in jobs]

    def compute(part: Sequence[int]) -> None:
        rows = sorted(jobs[i] for i in part)
        cases = sorted({c for c, _ in rows})
        own = {c: [r for k, r in rows if k == c] for c in cases}
        begin = {c: min(starts[c][r] for r in own[c]) for c in cases}
        blocks = [_from(currents[c].suffix, candidates[c][own[c]], begin[c]) for c in cases]
        span = _Span(runner, [currents[c].past for c in cases], [begin[c] for c in cases], blocks)
        h = runner.blocks(runner.embed(span.ids), stop=layers, cache=span.cache(), **span.layout)
        losses, exact = span.objective(runner, h, [currents[c].suffix for c in cases], alpha)
        first = 0
        for c, block in zip(cases, blocks, strict=True):
            mine = slice(first, first + len(block))
            out[c].losses[own[c]], out[c].exact[own[c]] = losses[mine].cpu(), exact[mine].cpu()
            out[c].tokens += block.numel()
            first += len(block)

    for rows in plan(lengths, batch.rows, OVERHEAD.get(runner.device.type, 32)):
        batch.run(compute, rows)
    for own in out:
        own.tokens = round(own.tokens * layers / runner.n_layers)
    return out


def look(
    runner: Runner,
    suffixes: Sequence[Suffix],
    prefixes: Sequence[KeyValues],
    batch: BatchSize,
    alpha: float | None,
    gradient: bool = True,
) -> list[Current]:
    """Loss, keys and values and (unless told otherwise) gradient of the suffixes, after the cached prefixes.

    The gradient is d objective / d one-hot of the suffix tokens, [n, V], through the embedding, which is linear in the
    one-hot. Gemma multiplies its embeddings by a constant, which is left out: it changes no order.
    """
    out: list[Current | None] = [None] * len(suffixes)

    def compute(part: Sequence[int]) -> None:
        own = [suffixes[i] for i in part]
        blocks = [torch.tensor([s.ids[s.start : -1]]) for s in own]
        span = _Span(runner, [prefixes[i].past for i in part], [s.start for s in own], blocks)
        cache = span.cache(record=True)
        with torch.set_grad_enabled(gradient):
            embedded = runner.embed(span.ids).detach().requires_grad_(gradient)
            h = runner.blocks(embedded, cache=cache, **span.layout)
            losses, exact = span.objective(runner, h, own, alpha)
            slope = torch.autograd.grad(losses.sum(), embedded)[0] if gradient else None
        table = runner.body.embed_tokens.weight.detach()
        for row, i in enumerate(part):
            s, length = own[row], blocks[row].shape[1]
            past = {
                layer: tuple(torch.cat([old, new[row : row + 1, :, :length].detach()], 2)
                             for old, new in zip(prefixes[i].past[layer], pair, strict=True))
                for layer, pair in cache.now.items()
            }  # fmt: skip
            toward = None
            if slope is not None:
                toward = slope[row, : s.stop - s.start].to(table.dtype) @ table.T
                toward = toward if toward.dtype == torch.float64 else toward.float()
            out[i] = Current(s, past, float(losses[row].detach()), bool(exact[row]), toward)

    lengths = [len(s.ids) - 1 - s.start for s in suffixes]
    # A row with its graph takes several times the memory of one without.
    for rows in plan(lengths, max(1, batch.rows // 4), OVERHEAD.get(runner.device.type, 32)):
        batch.run(compute, rows)
    return out


@torch.no_grad()
def uncached_loss(runner: Runner, suffix: Suffix, alpha: float | None = None) -> float:
    """Objective (target cross-entropy by default) of a suffix by one plain forward pass over the whole conversation."""
    h = runner.blocks(runner.embed(torch.tensor([suffix.ids], device=runner.device)))
    logits = runner.logits(h[:, suffix.target_start - 1 : -1])
    labels = torch.tensor([suffix.ids[suffix.target_start :]], device=runner.device)
    return float(target_loss(logits, labels, torch.ones_like(labels, dtype=torch.bool), alpha)[0])


def check_agreement(runner: Runner, cached: float, uncached: float, what: str) -> None:
    """Raise CacheError when the two losses differ by more than the dtype's rounding explains."""
    limit = TOLERANCE[runner.dtype] * max(1.0, abs(uncached))
    if not abs(cached - uncached) <= limit:
        raise CacheError(
            f"{what}: loss {cached:.5f} with cached keys and values, {uncached:.5f} without, more than {limit:.1e} apart "
            f"({runner.dtype}); the search would follow the wrong candidates. Use another dtype, or report the model family"
        )


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


@torch.no_grad()
def prefix(runner: Runner, suffix: Suffix) -> KeyValues:
    """Keys and values of everything before the suffix, which no candidate changes."""
    return runner.prefix(suffix.ids[: suffix.start])


def _first_change(suffix: Suffix, candidates: Tensor) -> list[int]:
    """Index in the conversation of the first token in which each candidate differs (the last of the suffix if none)."""
    changed = candidates != torch.tensor(suffix.tokens)
    changed[:, -1] = True
    return (suffix.start + changed.int().argmax(-1)).tolist()


def _from(suffix: Suffix, candidates: Tensor, begin: int) -> Tensor:
    """Ids of the conversations with these suffixes from `begin` on, [W, T]; the last token predicts nothing and is out."""
    tail = torch.tensor(suffix.ids[suffix.stop : -1], dtype=torch.long)
    return torch.cat([candidates, tail.expand(len(candidates), -1)], 1)[:, begin - suffix.start :]


class _Span:
    """Rows of several cases, run after the first `starts[c]` tokens of their cases' conversations.

    The cases' keys and values stand right-aligned in S slots and the new tokens follow left-aligned: real slots are
    contiguous, so that a sliding window, which counts slots, stays right. One case needs no padding and no mask.
    """

    def __init__(self, runner: Runner, pasts: Sequence[dict], starts: Sequence[int], blocks: Sequence[Tensor]):
        device = runner.device
        self.pasts, self.starts, self.device = pasts, starts, device
        width = max(block.shape[1] for block in blocks)
        self.ids = torch.cat([torch.nn.functional.pad(b, (0, width - b.shape[1])) for b in blocks]).to(device)
        self.owner = torch.repeat_interleave(torch.arange(len(blocks)), torch.tensor([len(b) for b in blocks])).to(
            device
        )
        self.slots = max(starts)
        self.layout = {"past": self.slots}
        if len(blocks) > 1:
            own = torch.tensor(starts, device=device)[self.owner]
            old, new = torch.arange(self.slots, device=device), torch.arange(width, device=device)
            there = (old[None] >= self.slots - own[:, None])[:, None, None].expand(-1, 1, width, -1)
            causal = (new[None] <= new[:, None])[None, None].expand(len(own), 1, -1, -1)
            self.layout["positions"] = own[:, None] + new[None]
            self.layout["visible"] = torch.cat([there, causal], -1)

    def cache(self, record: bool = False) -> KeyValues:
        """Keys and values before the rows; they are cut (and padded) anew for each pass, and not kept."""
        if len(self.pasts) == 1:
            past = {layer: tuple(x[:, :, : self.slots] for x in pair) for layer, pair in self.pasts[0].items()}
            return KeyValues(past, record=record)
        past = {}
        for layer in self.pasts[0]:
            past[layer] = tuple(
                torch.cat([
                    torch.nn.functional.pad(p[layer][side][:, :, :start], (0, 0, self.slots - start, 0))
                    for p, start in zip(self.pasts, self.starts, strict=True)
                ])
                for side in (0, 1)
            )  # fmt: skip
        return KeyValues(past, rows=self.owner, record=record)

    def objective(
        self, runner: Runner, h: Tensor, suffixes: Sequence[Suffix], alpha: float | None
    ) -> tuple[Tensor, Tensor]:
        """Objective and exactness of every row, [B], from the final hidden states; logits at the target only."""
        counts = [len(s.ids) - s.target_start for s in suffixes]
        most = max(counts)
        labels = torch.tensor(
            [[*s.ids[s.target_start :], *[0] * (most - n)] for s, n in zip(suffixes, counts, strict=True)]
        )
        offsets = torch.arange(most)
        real = offsets[None] < torch.tensor(counts)[:, None]
        first = torch.tensor([s.target_start - 1 - at for s, at in zip(suffixes, self.starts, strict=True)])
        columns = (first[:, None] + offsets[None]).clamp(max=h.shape[1] - 1)
        labels, real, columns = (x.to(self.device)[self.owner] for x in (labels, real, columns))
        lines = torch.arange(len(h), device=self.device)[:, None]
        return target_loss(runner.logits(h[lines, columns]), labels, real, alpha)
