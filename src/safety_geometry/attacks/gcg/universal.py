"""One suffix for several requests at once (Zou et al. 2023, arXiv 2307.15043, algorithm 2, with all from the start).

The objective is the mean over the requests of each one's target loss, L(s) = (1/m) Σᵢ ℓᵢ(s); its gradient with respect
to the suffix is the requests' gradients added up, and a candidate is scored behind all of them.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from safety_geometry.attacks.gcg.batches import BatchSize
from safety_geometry.attacks.gcg.candidates import choices, draws, merged, propose
from safety_geometry.attacks.gcg.config import GCGConfig
from safety_geometry.attacks.gcg.losses import check_agreement, mean_loss
from safety_geometry.attacks.gcg.scoring import Current, look, prefix, score
from safety_geometry.attacks.gcg.suffix import Suffix, surviving
from safety_geometry.models.chat import ChatFormat
from safety_geometry.models.runner import Runner


@dataclass
class UniversalResult:
    """suffixes: the best suffix behind each request, with its own loss there; losses: best mean objective after every
    step, the first before any; loss: mean target cross-entropy recomputed by plain forward passes; the other fields as
    in `search.GCGResult`, over all requests together."""

    suffixes: list[Suffix]
    losses: list[float]
    scored: int
    rejected: int
    tokens: int
    stopped: str
    loss: float
    batch_size: int

    @property
    def text(self) -> str:
        return self.suffixes[0].text


def attack_together(
    runner: Runner,
    chat: ChatFormat,
    starts: Sequence[Suffix],
    config: GCGConfig,
    allowed: Tensor,
    seed: int,
    progress: Callable[[int, float], None] | None = None,
    state: dict | None = None,
    save: Callable[[dict], None] | None = None,
    batch: BatchSize | None = None,
) -> UniversalResult:
    """Run `config.steps` steps from `starts`, the same suffix behind each request, always keeping the best one seen.

    What is drawn depends on `seed` and the losses alone. A candidate has to re-tokenise to itself behind every request.

    Args:
        allowed: [V] boolean, tokens that a suffix may be made of.
        progress: is told (step, best mean loss) after every step.
        state: what `save` was given: goes on from there, with the same result as one go. `config.steps` and
            `batch_size` may be others than then.
        save: is given the state after every step, a dict that JSON can hold.

    Raises:
        ValueError: no starts, or starts of different tokens; `echo`, `buffer`, `probe` or `momentum`, which are of
            single requests; a state of another attack.
        CacheError: the recomputed loss is another one.
    """
    if len({start.tokens for start in starts}) != 1:
        raise ValueError(f"a universal suffix is one for all requests; the {len(starts)} starts differ, or are none")
    if config.echo or config.buffer or config.probe is not None or config.momentum:
        raise ValueError(
            "a universal suffix has no echo, buffer, probe or momentum: they are of one request's own search"
        )
    batch = batch or BatchSize.on(runner.device, config.batch_size)
    print_of, generator = _fingerprint(chat, starts, config, seed), torch.Generator().manual_seed(seed)
    prefixes = [prefix(runner, start) for start in starts]

    def look_at(run: _Run) -> list[Current]:
        run.processed += (3 if config.steps else 1) * sum(len(s.ids) - 1 - s.start for s in starts)
        suffixes = run.suffixes(starts)
        return look(runner, suffixes, prefixes, batch, config.mellowmax, config.steps > 0, lsgm=config.lsgm)

    if state is None:
        run = _Run(list(starts[0].tokens), starts[0].text, processed=sum(s.start for s in starts))
        looked = look_at(run)
        run.begin(looked)
    else:
        if state["attack"] != print_of:
            raise ValueError("the saved state is of another universal attack (requests, settings or seed differ)")
        run, looked = _Run(**state["run"]), None
        for _ in range(run.step):  # the stream goes on where it was left
            draws(len(run.tokens), config, choices(config, allowed), generator)
    while run.step < config.steps and run.loss > config.stop_loss:
        _step(runner, chat, run, looked or look_at(run), config, allowed, generator, batch)
        looked = None
        if progress is not None:
            progress(run.step, run.loss)
        if save is not None:
            now = {"attack": print_of, "run": asdict(run)}
            save(json.loads(json.dumps(now)))  # a copy: what comes later must not change it
    return _result(runner, run, starts, config, batch)


@dataclass
class _Run:
    """Where the attack stands: the best suffix, its loss behind each request and their mean, and counts."""

    tokens: list[int]
    text: str
    each: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    step: int = 0
    scored: int = 0
    rejected: int = 0
    processed: int = 0

    @property
    def loss(self) -> float:
        return self.losses[-1]

    def suffixes(self, starts: Sequence[Suffix]) -> list[Suffix]:
        each = self.each or [float("nan")] * len(starts)
        return [s.changed(self.tokens, self.text, loss) for s, loss in zip(starts, each, strict=True)]

    def begin(self, looked: Sequence[Current]) -> None:
        self.each = [current.loss for current in looked]
        self.losses = [sum(self.each) / len(self.each)]

    def take(self, tokens: list[int], text: str, each: list[float]) -> None:
        self.tokens, self.text, self.each = tokens, text, each


def _step(
    runner: Runner,
    chat: ChatFormat,
    run: _Run,
    looked: Sequence[Current],
    config: GCGConfig,
    allowed: Tensor,
    generator: torch.Generator,
    batch: BatchSize,
) -> None:
    """Propose by the summed gradient, filter, score behind all requests, and keep what is better."""
    best, gradient = run.loss, torch.stack([current.gradient for current in looked]).sum(0)
    now = looked[0].suffix
    rows, texts, rejected = _filtered(chat, looked, propose(gradient, now, config, allowed, generator))
    run.rejected += rejected
    losses = _scored(runner, run, looked, rows, batch, config.mellowmax)
    rounds = [(rows, texts, losses)]
    if config.merge > 1:
        rows, texts, _ = _filtered(chat, looked, merged(now, rows, losses.mean(0), best, config.merge))
        rounds.append((rows, texts, _scored(runner, run, looked, rows, batch, config.mellowmax)))
    for rows, texts, losses in rounds:
        mean = losses.mean(0)
        mean = mean.where(mean.isfinite(), torch.inf)  # a candidate without a loss must not cost the others
        if len(mean) and float(mean.min()) < best:
            k = int(mean.argmin())
            best = float(mean[k])
            run.take(rows[k].tolist(), texts[k], losses[:, k].tolist())
    run.step += 1
    run.losses.append(best)


def _filtered(chat: ChatFormat, looked: Sequence[Current], rows: Tensor) -> tuple[Tensor, list[str], int]:
    """Candidates that re-tokenise to themselves behind every request, as one text; and how many do not."""
    behind = surviving(chat, [current.suffix for current in looked], [rows.tolist()] * len(looked))
    kept = [r for r, texts in enumerate(zip(*behind, strict=True)) if texts[0] is not None and len(set(texts)) == 1]
    return rows[kept], [behind[0][r] for r in kept], len(rows) - len(kept)


def _scored(
    runner: Runner, run: _Run, looked: Sequence[Current], rows: Tensor, batch: BatchSize, alpha: float | None
) -> Tensor:
    """Objective of every candidate behind every request, [m, W]."""
    scored = score(runner, looked, [rows] * len(looked), batch, alpha)
    run.processed += sum(each.tokens for each in scored)
    losses = torch.stack([each.losses for each in scored])
    run.scored += int(losses.isfinite().all(0).sum())
    return losses


def _result(
    runner: Runner, run: _Run, starts: Sequence[Suffix], config: GCGConfig, batch: BatchSize
) -> UniversalResult:
    suffixes = run.suffixes(starts)
    stopped = "loss" if run.loss <= config.stop_loss else "stuck" if run.rejected and not run.scored else "steps"
    loss = mean_loss(runner, suffixes)
    plain = loss if config.mellowmax is None else mean_loss(runner, suffixes, config.mellowmax)
    check_agreement(runner, run.loss, plain, "final mean loss of a universal suffix")
    tokens = run.processed + sum(len(s.ids) for s in suffixes)
    return UniversalResult(suffixes, run.losses, run.scored, run.rejected, tokens, stopped, loss, batch.rows)


def _fingerprint(chat: ChatFormat, starts: Sequence[Suffix], config: GCGConfig, seed: int) -> str:
    """Of all that decides what is drawn and kept; not of how far to go, nor of the model."""
    search = {k: v for k, v in asdict(config).items() if k not in ("steps", "batch_size", "stop_loss")}
    whole = json.dumps([chat.digest, [list(s.ids) for s in starts], search, seed])
    return hashlib.sha256(whole.encode()).hexdigest()[:32]
