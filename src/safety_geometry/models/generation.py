"""Decoding of many prompts, greedy by itself: shared prefix, length-sorted batches, finished rows dropped."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from safety_geometry.models.interventions import Edits, RowEdit
from safety_geometry.models.key_values import SlotKeyValues
from safety_geometry.models.memory import BatchSize
from safety_geometry.models.runner import Runner, common_prefix

DROP_BELOW = 0.75  # finished rows leave the batch when the unfinished are at most this share of it


@dataclass(frozen=True)
class Completion:
    """ids of the answer without its stop token; hit_limit: the length limit ended it."""

    ids: tuple[int, ...]
    hit_limit: bool


def by_length(lengths: Sequence[int]) -> list[int]:
    """Indices sorted by length, ties by index: a fixed layout for given inputs."""
    return sorted(range(len(lengths)), key=lambda i: (lengths[i], i))


def length_batches(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Indices in batches of at most `size`, sorted by length."""
    order = by_length(lengths)
    return [order[i : i + size] for i in range(0, len(order), size)]


@torch.inference_mode()
def generate(
    runner: Runner,
    prompts: Sequence[Sequence[int]],
    stop_ids: Sequence[int],
    max_new_tokens: int | Sequence[int],
    batch_size: int | BatchSize,
    share: int = 0,
    edits: Sequence[Edits] | None = None,
    observe: Callable[[list[int], int, Tensor, Tensor], None] | None = None,
    progress: Callable[[int], None] | None = None,
    choose: Callable[[Tensor, list[int], int], Tensor] | None = None,
) -> list[Completion]:
    """Greedy answers to tokenised prompts, in their order.

    Args:
        max_new_tokens: limit of all answers, or of each.
        share: how many leading tokens all prompts have in common (run once for all); ignored where rows differ, or
            do not fit into a sliding window.
        edits: interventions on each prompt, on its own tokens and on the decoded ones alike; prompts that share the
            same object share the run of the edited prefix.
        observe: is shown (indices of a batch's prompts, layer ℓ, the prompts' stream at the input of block ℓ [B, T, d],
            offset [B]): token t of the b-th of them stands in column t + offset[b]. Tokens of the prefix are left out.
            It is shown a batch twice when memory ran out in between.
        progress: told the number of prompts finished with each batch.
        choose: picks the next tokens [B] instead, from (logits [B, V], indices of the prompts, tokens of their answers
            so far).
    Raises:
        ContextError: a prompt and its answer do not fit into the model's context.
    """
    out: list[Completion | None] = [None] * len(prompts)
    limits = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else list(max_new_tokens)
    size = BatchSize.of(batch_size, "answers")
    runner.check_context([len(prompt) for prompt in prompts], limits)

    def compute(rows: list[int]) -> None:
        chunk = [prompts[i] for i in rows]
        answers = _generate_batch(
            runner, chunk, stop_ids, [limits[i] for i in rows], share, rows, edits, observe, choose
        )
        for i, completion in zip(rows, answers, strict=True):
            out[i] = completion
        if progress is not None:
            progress(len(rows))

    size.run(compute, by_length([len(prompt) for prompt in prompts]), lambda i: len(prompts[i]) + limits[i])
    return out


def _generate_batch(runner, prompts, stop_ids, limits, share, indices, edits, observe, choose) -> list[Completion]:
    device = runner.device
    max_new_tokens = max(limits)
    if runner.window is not None and max(map(len, prompts)) + max_new_tokens > runner.window:
        share = 0  # a window is counted in slots, and padding would stand between a shared prefix and a short prompt
    shared = common_prefix(prompts, share)
    lengths = torch.tensor([len(prompt) - shared for prompt in prompts])
    width, n = int(lengths.max()), len(prompts)
    ids = torch.zeros(n, width, dtype=torch.long)
    for i, prompt in enumerate(prompts):  # left padding: the last prompt tokens stand in one column
        ids[i, width - len(prompt) + shared :] = torch.tensor(prompt[shared:])
    ids, pad = ids.to(device), (width - lengths).to(device)

    length = shared + width + max_new_tokens
    cache = SlotKeyValues(length) if runner.graphs is None else runner.graphs.slots(n, length, device)
    row_edits = [edits[i] for i in indices] if edits else None
    if shared:
        for layer, (k, v) in _prefix(runner, prompts[0][:shared], row_edits).items():
            cache.update(k.expand(n, -1, -1, -1), v.expand(n, -1, -1, -1), layer)
        cache.offset = shared
    slots = torch.arange(cache.length, device=device)
    real = (slots[None] < shared) | (slots[None] >= shared + pad[:, None])  # [n, S]: not padding

    edit = RowEdit(row_edits, device) if edits else None
    tap = None if observe is None else lambda layer, h: observe(indices, layer, h, pad - shared)
    columns = torch.arange(width, device=device)
    positions = (shared + columns[None] - pad[:, None]).clamp(min=0)
    causal = slots[: shared + width][None] <= (shared + columns)[:, None]
    # A padding query sees itself, so that its softmax is finite; nothing reads it.
    itself = slots[: shared + width][None] == (shared + columns)[:, None]
    visible = ((real[:, None, : shared + width] & causal[None]) | itself[None])[:, None]
    h = runner.blocks(
        runner.embed(ids), cache=cache, past=shared, positions=positions, visible=visible, edit=edit, tap=tap
    )
    cache.offset = shared + width

    answers: list[list[int]] = [[] for _ in prompts]
    stopped = [False] * n
    stops = torch.tensor(stop_ids, device=device)
    kept = list(range(n))  # the prompts whose rows are still in the batch
    open_rows = set(kept)  # those that are not finished

    def next_tokens(h: Tensor, length: int) -> Tensor:
        """Of the rows that are kept, whose answers have so many tokens."""
        logits = runner.logits(h[:, -1])
        return logits.argmax(-1) if choose is None else choose(logits, [indices[row] for row in kept], length)

    token, length = next_tokens(h, 0), 0
    while True:
        length += 1
        ended = torch.isin(token, stops).tolist()
        for row, t, end in zip(kept, token.tolist(), ended, strict=True):
            if row in open_rows:
                stopped[row] = end
                if not end:
                    answers[row].append(t)
                if end or len(answers[row]) == limits[row]:
                    open_rows.discard(row)
        if not open_rows:
            break
        # Dropping rows copies the cache: not at every finished one.
        if cache.shrinks and len(open_rows) <= DROP_BELOW * len(kept):
            keep = torch.tensor([i for i, row in enumerate(kept) if row in open_rows], device=device)
            kept = [row for row in kept if row in open_rows]
            token, real, pad = token[keep], real[keep], pad[keep]
            cache.keep(keep)
            edit = RowEdit([row_edits[row] for row in kept], device) if edits else None
        visible, slot = cache.next_token(real)
        h = runner.blocks(
            runner.embed(token[:, None]),
            cache=cache,
            past=cache.offset,
            positions=(cache.offset - pad)[:, None],
            visible=visible[:, None, None],
            slots=slot,
            edit=edit,
        )
        cache.offset += 1
        token = next_tokens(h, length)
    return [Completion(tuple(a), not s) for a, s in zip(answers, stopped, strict=True)]


def _prefix(runner: Runner, ids: Sequence[int], edits: Sequence[Edits] | None) -> dict[int, tuple[Tensor, Tensor]]:
    """Keys and values of the shared prefix by layer: one row for all, or as many as there are edits, each run once."""
    if edits is None:
        return runner.prefix(ids).past
    distinct = list({id(e): e for e in edits}.values())
    place = {id(e): i for i, e in enumerate(distinct)}
    h = runner.embed(torch.tensor([list(ids)], device=runner.device)).expand(len(distinct), -1, -1)
    rows = torch.tensor([place[id(e)] for e in edits], device=runner.device)
    past = runner.prefix(ids, h=h, edit=RowEdit(distinct, runner.device)).past
    return {layer: (k[rows], v[rows]) for layer, (k, v) in past.items()}
