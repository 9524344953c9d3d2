"""One segment of a regime's training: the trainer that its settings make, and what is done between its steps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

from safety_geometry.artefacts.training_log import MonitorAnswer, StepLog
from safety_geometry.attacks.gcg.batches import BatchSize as AttackBatches
from safety_geometry.attacks.gcg.search import GCGConfig
from safety_geometry.attacks.gcg.suffix import allowed_tokens
from safety_geometry.models.language_model import LanguageModel
from safety_geometry.models.loading import add_lora
from safety_geometry.models.memory import BatchSize
from safety_geometry.models.processes import Ranks, shard
from safety_geometry.models.runner import ContextError, Runner
from safety_geometry.training.loop import TrainConfig, Trainer
from safety_geometry.training.monitor import ask
from safety_geometry.training.pool import CleanRowsError, Pool, PoolConfig, clean_rows

ROLES = ("monitor_harmful", "monitor_benign")
ROWS = ("clean", "pool", *ROLES)  # conversations, behaviours of the pool, prompts of the monitor
UNUSABLE = (CleanRowsError, ContextError)  # what training raises for rows that it cannot use


@dataclass(frozen=True)
class MonitorConfig:
    """every: steps between two rounds of the monitor; at_saves: a round at each save too; prompts: of each role;
    max_new_tokens: of an answer; batch_size: rows of a forward pass."""

    every: int
    at_saves: bool
    prompts: int
    max_new_tokens: int
    batch_size: int

    def due(self, step: int, saves: Sequence[int]) -> bool:
        return step % self.every == 0 or (self.at_saves and step in saves)


@dataclass(frozen=True)
class Segment:
    """start, stop: finished steps; saves: after which an adapter is kept; lora: rank, alpha, dropout, targets;
    max_length: tokens after which a clean row is cut; pool, gcg: None for plain SFT."""

    seed: int
    regime: str
    start: int
    stop: int
    saves: Sequence[int]
    lora: Mapping
    train: TrainConfig
    max_length: int
    pool: PoolConfig | None
    gcg: GCGConfig | None
    monitor: MonitorConfig

    @classmethod
    def of(cls, settings: Mapping) -> "Segment":
        """From plain values by name; others are left alone."""
        kinds = {"train": TrainConfig, "pool": PoolConfig, "gcg": GCGConfig, "monitor": MonitorConfig}
        plain = {field.name: settings[field.name] for field in fields(cls) if field.name not in kinds}
        return cls(**plain, **{name: settings[name] and kind(**settings[name]) for name, kind in kinds.items()})

    def rows(self, log: Sequence[StepLog]) -> list[dict]:
        """Of the table training_log."""
        return [{"seed": self.seed, "regime": self.regime} | vars(line) for line in log]


def make_trainer(
    loaded: LanguageModel,
    segment: Segment,
    rows: Mapping[str, Sequence[dict]],
    ranks: Ranks,
    device: str,
    grows: bool = False,
) -> tuple[Trainer, list[BatchSize]]:
    """A trainer of LoRA layers in `loaded.model`, at step 0, and the batches of its attacks.

    rows: `clean` conversations and `pool` behaviours; device: where sharded weights go; grows: whether the attacks'
    batches may become larger than asked for.

    Raises ModelError for a target that is no layer, CleanRowsError for too few rows, SuffixError for a behaviour that
    cannot be attacked.
    """
    model = add_lora(loaded.model, **segment.lora, seed=segment.seed)
    if ranks.sharded:
        shard(model, loaded.runner.layers, device)
    runner, pool, allowed, batches = Runner(loaded.model), None, None, []
    if segment.pool is not None:
        attacks = AttackBatches.on(runner.device, segment.gcg.batch_size, ranks, grows)
        batches = list(attacks.both)
        pool = Pool(segment.pool, segment.gcg, rows["pool"], loaded.chat, segment.seed, attacks)
        allowed = allowed_tokens(loaded.tokenizer, loaded.model.config.vocab_size)
    clean = clean_rows(loaded.chat, rows["clean"], segment.max_length)
    trainer = Trainer(model, runner, loaded.chat, segment.train, clean, pool, allowed, segment.seed, ranks)
    return trainer, batches


def train_to(
    trainer: Trainer,
    segment: Segment,
    loaded: LanguageModel,
    rows: Mapping[str, Sequence[dict]],
    batch_size: BatchSize,
    on_step: Callable[[StepLog], None],
) -> tuple[list[StepLog], list[MonitorAnswer]]:
    """Train to the segment's end; the log, and the answers of the monitor. rows: prompts of `ROLES`; `on_step` is
    called after each step, by the first of the ranks."""
    monitor, log, answers = segment.monitor, [], []
    roles = {role: rows[role][: monitor.prompts] for role in ROLES}

    def finished(line: StepLog) -> None:
        if monitor.due(line.step, segment.saves):  # by all ranks, in step: the others would wait for it anyway
            trainer.model.eval()
            answers.extend(ask(loaded, line.step, roles, monitor.max_new_tokens, batch_size))
        log.append(line)
        if trainer.ranks.first:
            on_step(line)

    trainer.advance(segment.stop, finished)
    return log, answers
