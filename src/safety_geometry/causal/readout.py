"""Cheap readouts of interventions: refusal log-odds at the first answer token, and KL on benign prompts, at that token
and over the clean model's answer.

One short forward pass per prompt and cell, from the edited layer on (see `restart`); many cells share a batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from safety_geometry.models.generation import Completion
from safety_geometry.models.interventions import Intervention
from safety_geometry.models.memory import BatchSize
from safety_geometry.models.openings import refusal_log_odds
from safety_geometry.models.restart import CleanRun, clean_run, edited_prefix, restart
from safety_geometry.models.runner import Runner

TOGETHER = 64  # cells whose edited prefixes are held at one time


def start_layer(interventions: Sequence[Intervention]) -> int:
    """The lowest block whose input is edited."""
    return min(0 if item.layer is None else item.layer for item in interventions)


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

    def score(h: Tensor, rows: Tensor) -> Tensor:
        return refusal_log_odds(runner.logits(_last(h, clean, rows)), refusal_ids)

    plain = refusal_log_odds(runner.logits(clean.final), refusal_ids).cpu()
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

    def score(h: Tensor, rows: Tensor) -> Tensor:
        return _kl(log_p[rows], torch.log_softmax(runner.logits(_last(h, clean, rows)), -1))

    plain = torch.zeros(len(log_p), dtype=torch.float64)
    return _read(runner, clean, cells, batch_size, score, plain, progress)


@dataclass(frozen=True)
class AnswerRun:
    """Clean run of n prompts with the clean model's greedy answers behind them, the stream after the last block kept.

    spans: the columns whose next tokens are an answer's, of each row: its tokens and, if it ended by itself, its end.
    """

    clean: CleanRun
    spans: tuple[slice, ...]


@torch.inference_mode()
def clean_answers(
    runner: Runner,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Completion],
    layers: Sequence[int],
    share: int,
    size: BatchSize | None = None,
) -> AnswerRun:
    """The run of `clean_prompts` over prompts and their answers; an answer's last token is an input only where the end
    of the answer is predicted behind it."""
    heard = [answer.ids[:-1] if answer.hit_limit else answer.ids for answer in answers]
    texts = [[*prompt, *ids] for prompt, ids in zip(prompts, heard, strict=True)]
    share = min(share, min(map(len, prompts)) - 1)  # what predicts the first token stays in its row

    def keep(layer: int, h: Tensor, batch: object) -> Tensor | None:
        return h if layer == runner.n_layers else None

    clean = clean_run(runner, texts, set(layers), share, keep, size)
    starts = [len(prompt) - 1 - len(clean.batch.prefix) for prompt in prompts]
    return AnswerRun(clean, tuple(slice(start, start + len(ids) + 1) for start, ids in zip(starts, heard, strict=True)))


@torch.inference_mode()
def read_answer_kl(
    runner: Runner,
    answered: AnswerRun,
    cells: Sequence[Sequence[Intervention]],
    batch_size: int | BatchSize,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """KL(clean ‖ intervened) over the clean answers, mean nats per token: [C, n] float64, 0 without interventions.

    Teacher-forced: the intervened model predicts each token of the clean answer behind the clean ones before it.
    """
    clean = answered.clean
    whole = clean.read[runner.n_layers]

    def score(h: Tensor, rows: Tensor) -> Tensor:
        values = []
        for edited, row in zip(h, rows.tolist(), strict=True):  # one at a time: logits of all tokens are large
            span = answered.spans[row]
            log_p, log_q = (torch.log_softmax(runner.logits(x[span]), -1) for x in (whole[row], edited))
            values.append(_kl(log_p, log_q).mean())
        return torch.stack(values)

    plain = torch.zeros(len(answered.spans), dtype=torch.float64)
    return _read(runner, clean, cells, batch_size, score, plain, progress)


def _last(h: Tensor, clean: CleanRun, rows: Tensor) -> Tensor:
    """Stream [B, d] at the last token of each prompt of a batch [B, T, d]."""
    return h[torch.arange(len(rows), device=h.device), clean.lengths[rows] - 1]


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) in nats over the last dimension, float64."""
    return (log_p.exp() * (log_p - log_q)).double().sum(-1).clamp(min=0)


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
                values = score(h, rows).cpu()
                for (place, row), value in zip(batch, values, strict=True):
                    out[group[place], row] = value
                if progress is not None:
                    progress(len(batch))

            depth = runner.n_layers - layer
            size.run(compute, jobs, lambda job, depth=depth: depth * lengths[job[1]])
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


@torch.inference_mode()
def read_log_ratio(
    runner: Runner,
    clean: CleanRun,
    cells: Sequence[Sequence[Intervention]],
    token: int,
    other: int,
    batch_size: int | BatchSize,
) -> Tensor:
    """log P(token) − log P(other) at the first answer token, of C cells on n prompts: [C, n] float64."""

    def ratio(final: Tensor) -> Tensor:
        logits = runner.logits(final)
        return (logits[..., token] - logits[..., other]).double()

    def score(h: Tensor, rows: Tensor) -> Tensor:
        return ratio(_last(h, clean, rows))

    return _read(runner, clean, cells, batch_size, score, ratio(clean.final).cpu(), None)
