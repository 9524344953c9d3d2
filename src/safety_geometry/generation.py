"""Greedy decoding of many prompts: shared prefix, length-sorted batches, finished rows dropped."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from safety_geometry.runner import Edit, Runner, SlotKeyValues

DROP_BELOW = 0.75  # finished rows leave the batch when the unfinished are at most this share of it


@dataclass(frozen=True)
class Completion:
    """ids of the answer without its stop token; hit_limit: the length limit ended it."""

    ids: tuple[int, ...]
    hit_limit: bool


def length_batches(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Indices in batches of at most `size`, sorted by length (ties by index): a fixed layout for given inputs."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    return [order[i : i + size] for i in range(0, len(order), size)]


@torch.inference_mode()
def generate(
    runner: Runner,
    prompts: Sequence[Sequence[int]],
    stop_ids: Sequence[int],
    max_new_tokens: int | Sequence[int],
    batch_size: int,
    share: int = 0,
    edit_for: Callable[[Tensor], Edit] | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Completion]:
    """Greedy answers to tokenised prompts, in their order.

    Args:
        max_new_tokens: limit of all answers, or of each.
        share: how many leading tokens all prompts have in common (run once for all); ignored where rows differ, or
            do not fit into a sliding window.
        edit_for: given the indices (into `prompts`) of the rows still in the batch, the intervention on them. It acts
            on prompt and decoded tokens alike. The prefix then cannot be shared.
        progress: told the number of prompts finished with each batch.
    """
    out: list[Completion | None] = [None] * len(prompts)
    limits = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else list(max_new_tokens)
    if edit_for is not None:
        share = 0
    for rows in length_batches([len(p) for p in prompts], batch_size):
        chunk = [prompts[i] for i in rows]
        found = _generate_batch(runner, chunk, stop_ids, [limits[i] for i in rows], share, rows, edit_for)
        for i, completion in zip(rows, found, strict=True):
            out[i] = completion
        if progress is not None:
            progress(len(rows))
    return out


def _generate_batch(runner, prompts, stop_ids, limits, share, indices, edit_for) -> list[Completion]:
    device = runner.device
    max_new_tokens = max(limits)
    if runner.window is not None and max(map(len, prompts)) + max_new_tokens > runner.window:
        share = 0  # a window is counted in slots, and padding would stand between a shared prefix and a short prompt
    shared = _common(prompts, share)
    lengths = torch.tensor([len(p) - shared for p in prompts], device=device)
    width, n = int(lengths.max()), len(prompts)
    ids = torch.zeros(n, width, dtype=torch.long, device=device)
    for i, p in enumerate(prompts):  # left padding: the last prompt tokens stand in one column
        ids[i, width - len(p) + shared :] = torch.tensor(p[shared:], device=device)
    pad = width - lengths

    cache = SlotKeyValues(shared + width + max_new_tokens)
    prefix = runner.prefix(prompts[0][:shared])
    if prefix is not None:
        for layer, (k, v) in prefix.past.items():
            cache.update(k.expand(n, -1, -1, -1), v.expand(n, -1, -1, -1), layer)
        cache.offset = shared
    slots = torch.arange(shared + width + max_new_tokens, device=device)
    real = (slots[None] < shared) | (slots[None] >= shared + pad[:, None])  # [n, S]: not padding

    rows = torch.tensor(indices, device=device)
    edit = edit_for(rows) if edit_for is not None else None
    columns = torch.arange(width, device=device)
    positions = (shared + columns[None] - pad[:, None]).clamp(min=0)
    causal = slots[: shared + width][None] <= (shared + columns)[:, None]
    # A padding query sees itself, so that its softmax is finite; nothing reads it.
    itself = slots[: shared + width][None] == (shared + columns)[:, None]
    visible = ((real[:, None, : shared + width] & causal[None]) | itself[None])[:, None]
    h = runner.blocks(runner.embed(ids), cache=cache, past=shared, positions=positions, visible=visible, edit=edit)
    cache.offset = shared + width

    answers: list[list[int]] = [[] for _ in prompts]
    stopped = [False] * n
    stops = torch.tensor(stop_ids, device=device)
    there = list(range(n))  # the prompts whose rows are still in the batch
    open_rows = set(there)  # those that are not finished
    token = runner.logits(h[:, -1]).argmax(-1)
    while True:
        ended = torch.isin(token, stops).tolist()
        for row, t, end in zip(there, token.tolist(), ended, strict=True):
            if row in open_rows:
                stopped[row] = end
                if not end:
                    answers[row].append(t)
                if end or len(answers[row]) == limits[row]:
                    open_rows.discard(row)
        if not open_rows:
            break
        if len(open_rows) <= DROP_BELOW * len(there):  # dropping rows copies the cache: not at every finished one
            keep = torch.tensor([i for i, row in enumerate(there) if row in open_rows], device=device)
            there = [row for row in there if row in open_rows]
            token = token[keep]
            cache.keep(keep)
            edit = edit_for(rows[there]) if edit_for is not None else None
        visible = real[there, None, None, : cache.offset + 1]
        positions = (cache.offset - pad[there])[:, None]
        h = runner.blocks(
            runner.embed(token[:, None]),
            cache=cache,
            past=cache.offset,
            positions=positions,
            visible=visible,
            edit=edit,
        )
        cache.offset += 1
        token = runner.logits(h[:, -1]).argmax(-1)
    return [Completion(tuple(a), not s) for a, s in zip(answers, stopped, strict=True)]


def _common(prompts: Sequence[Sequence[int]], limit: int) -> int:
    limit = min(limit, min(map(len, prompts)) - 1)
    first = prompts[0]
    return next((t for t in range(limit) if any(p[t] != first[t] for p in prompts)), max(limit, 0))
