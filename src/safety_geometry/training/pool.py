"""R2D2's pool of attacked behaviours, and the rows it adds to a training step.

Dynamic (`refresh: true`): selected cases get GCG steps before they are trained on. Frozen (`refresh: false`): the
same cases, rows and order with the suffixes they started with, so that the two regimes differ in one thing.
Released R2D2's defects are corrected: a random stream per case, whole-conversation tokenisation, keep-best, no pad
labels, a pool that is saved.
"""

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace

import torch

from safety_geometry.attacks.gcg.batches import BatchSize
from safety_geometry.attacks.gcg.losses import uncached_loss
from safety_geometry.attacks.gcg.scoring import check_cache
from safety_geometry.attacks.gcg.search import GCGConfig, GCGResult, attack_many
from safety_geometry.attacks.gcg.suffix import Suffix, SuffixError, initial_suffix, place
from safety_geometry.models.chat import ChatFormat
from safety_geometry.models.merging import merged
from safety_geometry.models.processes import ONE, Ranks
from safety_geometry.models.runner import Runner
from safety_geometry.stats.seeds import derived_seed

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PoolConfig:
    """size: cases in the pool; per_step: cases used by an optimiser step; reset_every: steps between resets;
    reset_share: share of the pool replaced at a reset; refresh: attack the cases, or leave their suffixes frozen;
    away_threshold: log p below which a target token is left alone; refusal: the answer trained towards; plain_toward:
    train the refusal on the bare request too (else a small model learns to refuse the suffix instead of the
    request)."""

    size: int
    per_step: int
    reset_every: int
    reset_share: float
    refresh: bool
    away: bool = True
    away_threshold: float = -5.0
    refusal: str = "Sorry, I can't do that."
    plain_toward: bool = False


@dataclass(frozen=True)
class PoolCase:
    """One slot. behaviour: index into the behaviours; born: step of its last reset; updates: attacked how often;
    first_loss, loss: attack loss when it entered and after its last update."""

    slot: int
    behaviour: int
    text: str
    born: int
    updates: int = 0
    first_loss: float | None = None
    loss: float | None = None


@dataclass
class PoolStep:
    """What one step took from the pool: the attacked conversations, and what the log (`StepLog`) says of the pool."""

    suffixes: list[Suffix]
    log: dict[str, object]


class Pool:
    """The cases of a run; `state()` and `restore()` carry it across segments.

    Every pass over the pool visits each slot once, in an order drawn for that pass, so all slots are attacked about
    equally often. Cases are not: one that a reset replaces has had fewer updates, and so has the one that takes its
    place. Draws depend on (seed, step, slot) alone.
    """

    def __init__(
        self,
        config: PoolConfig,
        gcg: GCGConfig,
        behaviours: Sequence[dict],
        chat: ChatFormat,
        seed: int,
        batch: BatchSize | None = None,
    ):
        """`behaviours`: rows with `id`, `prompt` and `target`; fewer of them than slots serve several slots each.
        `batch`: rows of the attacks' passes (`gcg.batch_size` unless given), which remembers what memory forced.

        Raises:
            ValueError: there is none.
            SuffixError: the initial suffix cannot stand behind a behaviour; a reset raises it too.
        """
        if not behaviours:
            raise ValueError("the train pool has no behaviour; give role train_pool prompts")
        self.config, self.gcg, self.behaviours, self.chat, self.seed = config, gcg, behaviours, chat, seed
        self._batch, self._checked = batch, False
        order = self._shuffle("behaviours", range(len(behaviours)))
        self.cases = [self._fresh(slot, order[slot % len(order)], step=0) for slot in range(config.size)]

    def state(self) -> list[dict]:
        return [asdict(case) for case in self.cases]

    def restore(self, state: Sequence[dict]) -> None:
        if len(state) != self.config.size:
            raise ValueError(f"the saved pool has {len(state)} cases and the config asks for {self.config.size}")
        self.cases = [PoolCase(**row) for row in state]

    def reset(self, step: int) -> int:
        """At every `reset_every`-th step, give ⌊share · size⌋ slots a new behaviour and a new suffix; returns how many.

        Behaviours that no slot has come first; where these are too few, those of the leaving slots are dealt out anew.
        """
        config = self.config
        if step == 0 or step % config.reset_every:
            return 0
        # The oldest slots go first, however often they were drawn.
        oldest = sorted(self.cases, key=lambda case: (case.born, case.slot))[: int(config.reset_share * config.size)]
        used = {case.behaviour for case in self.cases}
        free = self._shuffle(f"reset {step}", [b for b in range(len(self.behaviours)) if b not in used])
        if len(free) < len(oldest):
            free += self._shuffle(f"reset {step} anew", [case.behaviour for case in oldest])
        for case, behaviour in zip(oldest, free, strict=False):
            self.cases[case.slot] = self._fresh(case.slot, behaviour, step)
        return len(oldest)

    def draw(self, step: int) -> list[int]:
        """Slots of this step, without replacement within a pass over the pool."""
        config = self.config
        chosen = []
        for k in range(step * config.per_step, (step + 1) * config.per_step):
            chosen.append(self._shuffle(f"pass {k // config.size}", range(config.size))[k % config.size])
        return list(dict.fromkeys(chosen))

    def step(self, step: int, runner: Runner, allowed: torch.Tensor, ranks: Ranks = ONE) -> PoolStep:
        """Reset if due, draw, attack (when refreshing) and return the conversations to train on: the same on all
        `ranks`."""
        self.reset(step)
        slots = self.draw(step)
        rows = [self.behaviours[self.cases[slot].behaviour] for slot in slots]
        suffixes = [
            place(self.chat, row["prompt"], row["target"], self.cases[slot].text)
            for slot, row in zip(slots, rows, strict=True)
        ]
        if not self.config.refresh:
            losses = ranks.of_first(*(uncached_loss(runner, s) for s in suffixes))
            suffixes = [replace(s, loss=loss) for s, loss in zip(suffixes, losses, strict=True)]
            before, after, rejected, tokens = [s.loss for s in suffixes], suffixes, 0, 0
        else:
            seeds = [derived_seed(self.seed, step, slot) for slot in slots]
            results = self._attacked(runner, suffixes, allowed, seeds, ranks)
            before, after = [r.losses[0] for r in results], [r.suffix for r in results]
            rejected, tokens = sum(r.rejected for r in results), sum(r.tokens for r in results)
        for slot, first, suffix in zip(slots, before, after, strict=True):
            case = self.cases[slot]
            self.cases[slot] = replace(
                case,
                text=suffix.text,
                updates=case.updates + self.config.refresh,
                loss=suffix.loss,
                first_loss=first if case.first_loss is None else case.first_loss,
            )
        updates = [case.updates for case in self.cases]
        log = {
            "pool_before": sum(before) / len(before),
            "pool_after": sum(s.loss for s in after) / len(after),
            "rejected": rejected,
            "attack_tokens": tokens,
            "cases": " ".join(row["id"] for row in rows),
            "updates_min": min(updates),
            "updates_max": max(updates),
        }
        return PoolStep(after, log)

    def _attacked(
        self, runner: Runner, suffixes: list[Suffix], allowed: torch.Tensor, seeds: list[int], ranks: Ranks
    ) -> list[GCGResult]:
        """All cases of the step in one batch. Their losses are the search's own: they are statistics of the log."""
        # Sharded weights cannot be merged: no rank has them whole.
        with nullcontext() if ranks.sharded else merged(runner.model):
            if not self._checked:  # at the first attack of a process
                check_cache(runner, suffixes[0], int(allowed.nonzero()[0]))
                self._batch = self._batch or BatchSize.on(runner.device, self.gcg.batch_size, ranks)
                self._checked = True
            return attack_many(runner, self.chat, suffixes, self.gcg, allowed, seeds, batch=self._batch, verify=False)

    def _fresh(self, slot: int, behaviour: int, step: int) -> PoolCase:
        row = self.behaviours[behaviour]
        try:
            start = initial_suffix(
                self.chat, row["prompt"], row["target"], self.gcg.init, self.gcg.suffix_length,
                derived_seed(self.seed, "start", slot, step),
            )  # fmt: skip
        except SuffixError as error:
            raise SuffixError(f"behaviour {row['id']}: {error}") from error
        return PoolCase(slot, behaviour, start.text, born=step)

    def _shuffle(self, purpose: str, items) -> list[int]:
        items = list(items)
        generator = torch.Generator().manual_seed(derived_seed(self.seed, purpose))
        return [items[i] for i in torch.randperm(len(items), generator=generator).tolist()]


@dataclass(frozen=True)
class Row:
    """One training row: ids, and the index of the first labelled token (all from there on are labels)."""

    ids: tuple[int, ...]
    label_from: int


def adversarial_rows(chat: ChatFormat, suffixes: Sequence[Suffix], config: PoolConfig) -> tuple[list[Row], list[Row]]:
    """Away rows (attacked prompt + its affirmative target) and toward rows (prompt + refusal + end of turn)."""
    prompts = [s.prompt for s in suffixes] + ([s.request for s in suffixes] if config.plain_toward else [])
    away = [Row(s.ids, s.target_start) for s in suffixes]
    toward = [Row(r.ids, r.response) for r in chat.render_many(prompts, [config.refusal] * len(prompts))]
    return away, toward


class CleanRowsError(ValueError):
    """Too few conversations are left to train on. One plain line."""


def clean_rows(chat: ChatFormat, conversations: Sequence[dict], max_length: int) -> list[Row]:
    """Rows of ordinary conversations: `prompt`, `response`, and `hit_limit` (an answer that was cut has no end of
    turn).

    One of several turns has `messages`; its labels are all tokens from the first answer on, as packed fine-tuning has
    them. A row is cut after `max_length` tokens; one whose answer begins beyond them is left out. How many is logged.
    """
    single = [conversation for conversation in conversations if "messages" not in conversation]
    rendered = iter(
        chat.render_many(
            [conversation["prompt"] for conversation in single], [conversation["response"] for conversation in single]
        )
    )
    rows, cut, beyond = [], 0, []
    for conversation in conversations:
        rendered_row = chat.render_dialogue(conversation["messages"]) if "messages" in conversation else next(rendered)
        ids = rendered_row.ids[:-1] if conversation.get("hit_limit") else rendered_row.ids
        if rendered_row.response < min(len(ids), max_length):
            rows.append(Row(ids[:max_length], rendered_row.response))
            cut += len(ids) > max_length
        elif rendered_row.response < len(ids):
            beyond.append(rendered_row.response)
    empty = len(conversations) - len(rows) - len(beyond)
    limit = f"train.max_length = {max_length} tokens"
    faults = [
        (len(beyond), f"left out, whose answers begin beyond {limit} (the farthest at {max(beyond, default=0)})"),
        (empty, "left out, whose answers have no tokens"),
        (cut, f"cut after {limit}"),
    ]
    if summary := ", ".join(f"{n} {what}" for n, what in faults if n):
        log.warning("of %d clean conversations %s", len(conversations), summary)
    return rows
