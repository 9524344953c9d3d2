"""Cheap readouts of interventions: refusal log-odds at the first answer token, and next-token KL on benign prompts.

One short forward pass per prompt and cell, from the edited layer on (see `restart`); many cells share a batch.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from safety_geometry.models.chat import ChatFormat
from safety_geometry.models.interventions import Intervention
from safety_geometry.models.memory import BatchSize
from safety_geometry.models.restart import CleanRun, clean_run, edited_prefix, restart
from safety_geometry.models.runner import Runner

TOGETHER = 64  # cells whose edited prefixes are held at one time


def start_layer(interventions: Sequence[Intervention]) -> int:
    """The lowest block whose input is edited."""
    return min(0 if item.layer is None else item.layer for item in interventions)


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


@torch.inference_mode()
def read_log_odds(
    runner: Runner,
    clean: CleanRun,
    cells: Sequence[Sequence[Intervention]],
    refusal_ids: Sequence[int],
    batch_size: int | BatchSize,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Refusal log-odds of C cells on n prompts, [C, n] float64; `clean` must hold the stream at every cell's start
    layer.

    A cell without interventions gives the clean value.
    """

    def score(logits: Tensor, rows: Tensor) -> Tensor:
        return refusal_log_odds(logits, refusal_ids)

    plain = score(runner.logits(clean.final), None).cpu()
    return _read(runner, clean, cells, batch_size, score, plain, progress)


@torch.inference_mode()
def read_kl(
    runner: Runner,
    clean: CleanRun,
    cells: Sequence[Sequence[Intervention]],
    batch_size: int | BatchSize,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """KL(clean ‖ intervened) in nats of the next token after each prompt: [C, n] float64, 0 without interventions."""
    log_p = torch.log_softmax(runner.logits(clean.final), -1)

    def score(logits: Tensor, rows: Tensor) -> Tensor:
        log_q, base = torch.log_softmax(logits, -1), log_p[rows]
        return (base.exp() * (base - log_q)).double().sum(-1).clamp(min=0)

    plain = torch.zeros(len(log_p), dtype=torch.float64)
    return _read(runner, clean, cells, batch_size, score, plain, progress)


def _read(
    runner: Runner, clean: CleanRun, cells, batch_size: int | BatchSize, score, plain: Tensor, progress
) -> Tensor:
    n, lengths, size = len(clean.lengths), clean.lengths.tolist(), BatchSize.of(batch_size, "readout")
    out = plain.repeat(len(cells), 1)
    # No intervention, or a strength of 0, is the clean run, bit for bit.
    starts = [start_layer(cell) if any(item.strength != 0 for item in cell) else None for cell in cells]
    for layer in sorted({start for start in starts if start is not None}):
        from_layer = [c for c, start in enumerate(starts) if start == layer]
        for first in range(0, len(from_layer), TOGETHER):
            group = from_layer[first : first + TOGETHER]
            prefix = edited_prefix(runner, clean, layer, [cells[c] for c in group])
            jobs = sorted(
                ((place, row) for place in range(len(group)) for row in range(n)), key=lambda j: lengths[j[1]]
            )

            def compute(batch: list, layer=layer, group=group, prefix=prefix) -> None:
                which = torch.tensor([place for place, _ in batch], device=runner.device)
                rows = torch.tensor([row for _, row in batch], device=runner.device)
                h = restart(runner, clean, layer, rows, [cells[group[place]] for place, _ in batch], prefix, which)
                last = h[torch.arange(len(batch), device=h.device), clean.lengths[rows] - 1]
                values = score(runner.logits(last), rows).cpu()
                for (place, row), value in zip(batch, values, strict=True):
                    out[group[place], row] = value
                if progress is not None:
                    progress(len(batch))

            size.run(compute, jobs)
    return out


@torch.inference_mode()
def clean_prompts(
    runner: Runner, prompts: Sequence[Sequence[int]], layers: Sequence[int], share: int, size: BatchSize | None = None
) -> CleanRun:
    """Clean run of the readout's prompts that keeps the stream at all layers where a cell starts; `size` of the
    readout."""
    return clean_run(runner, prompts, set(layers), share, size=size)


def tokens_of(clean: CleanRun, layer: int) -> Tensor:
    """Clean stream [M, d] at the input of a block: the tokens of all prompts after the shared prefix, float64 on the
    CPU."""
    stream = clean.stream[layer]
    real = torch.arange(stream.shape[1], device=stream.device)[None] < clean.lengths[:, None]
    return stream[real].double().cpu()
