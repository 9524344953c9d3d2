"""One segment of a regime's training: the trainer that its settings make, and what is done between its steps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from safety_geometry.artefacts.training_log import MonitorAnswer, StepLog
from safety_geometry.attacks.gcg.batches import BatchSize as AttackBatches
from safety_geometry.attacks.gcg.search import GCGConfig
from safety_geometry.attacks.gcg.suffix import allowed_tokens
from safety_geometry.models.loaded import Loaded
from safety_geometry.models.loading import add_lora
from safety_geometry.models.memory import BatchSize
from safety_geometry.models.processes import Ranks, shard
from safety_geometry.models.runner import Runner
from safety_geometry.training.loop import TrainConfig, Trainer
from safety_geometry.training.monitor import ask
from safety_geometry.training.pool import Pool, PoolConfig, clean_rows


@dataclass(frozen=True)
class MonitorConfig:
    """every: steps between two rounds of the monitor; at_saves: a round at each save too; prompts: of each role; max_new_tokens:
    of an answer; batch_size: rows of a forward pass."""

    every: int
    at_saves: bool
    prompts: int
    max_new_tokens: int
    batch_size: int

    def due(self, step: int, saves: Sequence[int]) -> bool:
        return step % self.every == 0 or (self.at_saves and step in saves)


def make_trainer(
    loaded: Loaded, lora: Mapping, config: TrainConfig, pool: tuple[PoolConfig, GCGConfig, Sequence[dict]] | None,
    clean: Sequence[dict], max_length: int, seed: int, ranks: Ranks, device: str,
) -> tuple[Trainer, list[BatchSize]]:  # fmt: skip
    """A trainer of LoRA layers in `loaded.model`, at step 0, and the batches of its attacks.

    lora: rank, alpha, dropout, targets; pool: with the rows of its behaviours, None for plain SFT; clean: conversations, cut after
    max_length tokens; device: where sharded weights go.

    Raises ModelError for a target that is no layer, CleanRowsError for too few rows, SuffixError for a behaviour that cannot be attacked.
    """
    model = add_lora(loaded.model, **lora, seed=seed)
    if ranks.sharded:
        shard(model, loaded.runner.layers, device)
    runner, cases, allowed, batches = Runner(loaded.model), None, None, []
    if pool is not None:
        pool_config, gcg, behaviours = pool
        attacks = AttackBatches.on(runner.device, gcg.batch_size, ranks)
        batches = list(attacks.both)
        cases = Pool(pool_config, gcg, behaviours, loaded.chat, seed, attacks)
        allowed = allowed_tokens(loaded.tokenizer, loaded.model.config.vocab_size)
    rows = clean_rows(loaded.chat, clean, max_length)
    return Trainer(model, runner, loaded.chat, config, rows, cases, allowed, seed, ranks), batches


def train_to(
    trainer: Trainer, stop: int, saves: Sequence[int], loaded: Loaded, monitor: MonitorConfig, roles: Mapping[str, Sequence[dict]],
    batch_size: BatchSize, on_step: Callable[[StepLog], None],
) -> tuple[list[StepLog], list[MonitorAnswer]]:  # fmt: skip
    """Train to step `stop`; the log, and the answers of the monitor's `roles` to rows of prompts. `on_step` is called after each step,
    by the first of the ranks."""
    log, answers = [], []

    def finished(line: StepLog) -> None:
        if monitor.due(line.step, saves):  # by all ranks, in step: the others would wait for it anyway
            trainer.model.eval()
            answers.extend(ask(loaded, line.step, roles, monitor.max_new_tokens, batch_size))
        log.append(line)
        if trainer.ranks.first:
            on_step(line)

    trainer.advance(stop, finished)
    return log, answers
