"""SFT and R2D2 as one plain loop over optimiser steps, whose whole state can be saved and restored between any two.

The learning rate, the clean rows, the pool's draws and the dropout masks of a step are functions of (seed, step), so
that training in segments equals training in one go, bit for bit on a CPU with a fixed thread count. The rows of a step
may be shared among several processes (`distributed.Ranks`): losses are normalised by the counts of the whole step, so
that only rounding and the dropout masks depend on how many there are.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from safety_geometry.artefacts.training_log import StepLog
from safety_geometry.models.chat import ChatFormat
from safety_geometry.models.processes import ONE, Ranks
from safety_geometry.models.runner import NotFinite, Runner, pack
from safety_geometry.models.token_log_p import token_log_p
from safety_geometry.stats.seeds import derived_seed
from safety_geometry.training.losses import away_loss
from safety_geometry.training.pool import CleanRowsError, Pool, Row, adversarial_rows


@dataclass(frozen=True)
class TrainConfig:
    """rows: clean rows of an optimiser step, of all ranks together; micro_rows: rows of one forward pass;
    micro_tokens: tokens of one, padding included, in place of micro_rows (a longer row is alone); schedule_steps:
    length of the cosine, whatever the number of steps run; weights of the three losses; share_prefix: run the common
    system prefix once per batch (exact)."""

    learning_rate: float
    schedule_steps: int
    rows: int
    micro_rows: int
    weight_decay: float = 0.0
    clip: float = 1.0
    clean_weight: float = 1.0
    away_weight: float = 0.5
    toward_weight: float = 0.5
    share_prefix: bool = True
    micro_tokens: int | None = None


def cosine_rate(step: int, peak: float, length: int) -> float:
    """Learning rate of 0-based optimiser step `step`: cosine from `peak` to 0 over `length` steps, no warm-up."""
    return peak * 0.5 * (1.0 + math.cos(math.pi * min(step, length) / length))


def micro_batches(lengths: Sequence[int], rows: int, tokens: int | None = None) -> list[list[int]]:
    """Indices in their order, in parts of at most `rows` or, if given, of at most `tokens` with padding; one row at
    least."""
    parts: list[list[int]] = []
    longest = 0
    for i, length in enumerate(lengths):
        longest = max(longest, length)
        together = len(parts[-1]) + 1 if parts else 0
        if parts and (together <= rows if tokens is None else together * longest <= tokens):
            parts[-1].append(i)
        else:
            parts.append([i])
            longest = length
    return parts


def clean_order(n: int, rows: int, step: int, seed: int) -> list[int]:
    """Indices of the clean rows of `step`: consecutive slices of shuffled passes; the same for every regime of a
    seed."""
    if n < rows:
        raise CleanRowsError(
            f"{n} clean rows cannot fill a step of {rows}; add prompts to role `clean`, lower `train.rows`, or raise"
            " `train.max_length` where it left rows out"
        )
    out = []
    for k in range(step * rows, (step + 1) * rows):
        generator = torch.Generator().manual_seed(derived_seed(seed, "clean", k // n))
        out.append(torch.randperm(n, generator=generator)[k % n].item())
    return out


class Trainer:
    """Model, optimiser and pool of one run. `advance` trains to a step; `state`/`restore` move it between processes.

    All `ranks` build the same one, call the same methods and have the same state afterwards.

    Raises:
        ValueError: more ranks than rows in a step.
    """

    def __init__(
        self,
        model,
        runner: Runner,
        chat: ChatFormat,
        config: TrainConfig,
        clean: Sequence[Row],
        pool: Pool | None,
        allowed: Tensor | None,
        seed: int,
        ranks: Ranks = ONE,
    ):
        rows = config.rows + (0 if pool is None else pool.config.per_step * (2 + pool.config.plain_toward))
        if ranks.world > rows:
            raise ValueError(
                f"a step has {rows} rows, and {ranks.world} processes cannot share them; start fewer, or raise"
                " train.rows"
            )
        self.model, self.runner, self.chat, self.config = model, runner, chat, config
        self.clean, self.pool, self.allowed, self.seed, self.ranks = clean, pool, allowed, seed, ranks
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.optimiser = torch.optim.AdamW(
            self.parameters.values(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.step = 0

    def advance(self, to: int, on_step: Callable[[StepLog], None]) -> None:
        """Train optimiser steps self.step … to−1; `on_step` is told each (its `step` counts finished steps).

        Raises:
            RanksError: the ranks no longer have the same adapter, or the same pool.
            SuffixError: a behaviour that enters the pool at a reset cannot take the initial suffix.
        """
        self._compare()
        while self.step < to:
            on_step(self._one_step())

    def _one_step(self) -> StepLog:
        config, step = self.config, self.step
        attacked = None
        if self.pool is not None:
            self.model.eval()
            attacked = self.pool.step(step, self.runner, self.allowed, self.ranks)
        self.model.train()
        torch.manual_seed(derived_seed(self.seed, "dropout", step, *([] if self.ranks.first else [self.ranks.rank])))
        self.optimiser.zero_grad(set_to_none=True)
        clean = [self.clean[i] for i in clean_order(len(self.clean), config.rows, step, self.seed)]
        log = StepLog(step + 1, cosine_rate(step, config.learning_rate, config.schedule_steps), 0.0, 0.0)
        try:
            log.clean = self._clean_backward(clean)
        except NotFinite as error:
            raise FloatingPointError(f"{error} (at step {log.step}; lower train.learning_rate)") from error
        if attacked is not None:
            log = replace(log, **attacked.log)
            log.away, log.toward = self._adversarial_backward(attacked.suffixes)
        log.clean, log.away, log.toward = self.ranks.sum(log.clean, log.away, log.toward)
        log.loss = config.clean_weight * log.clean
        if attacked is not None:
            log.loss += config.toward_weight * log.toward + (
                config.away_weight * log.away if self.pool.config.away else 0.0
            )
        self.ranks.add_gradients(self.parameters.values())
        log.grad_norm = float(torch.nn.utils.clip_grad_norm_(self.parameters.values(), config.clip))
        for group in self.optimiser.param_groups:
            group["lr"] = log.lr
        self.optimiser.step()
        self.step += 1
        self._compare()
        if not math.isfinite(log.loss):
            raise FloatingPointError(f"the loss is {log.loss} at step {log.step}; lower train.learning_rate")
        return log

    def _compare(self) -> None:
        """Whether all ranks stand where this one does."""
        if self.ranks.world > 1:
            norms = [float(p.detach().double().norm()) for p in self.parameters.values()]
            self.ranks.check(f"adapter and pool after step {self.step}", norms, self.pool and self.pool.state())

    def _micro_batches(self, rows: Sequence[Row], dealt: int = 0) -> list[list[int]]:
        """Indices of this rank's part of a step's rows, `dealt` others having been dealt out before, in parts for one
        pass each.

        Where weights are sharded every rank gets as many parts; an empty one stands for a pass that only keeps step.
        """

        def of(ranks: Ranks) -> list[list[int]]:
            own = ranks.share(range(len(rows)), dealt)
            lengths = [len(rows[i].ids) for i in own]
            parts = micro_batches(lengths, self.config.micro_rows, self.config.micro_tokens)
            return [[own[k] for k in part] for part in parts]

        parts = of(self.ranks)
        if self.ranks.sharded:
            most = max(len(of(replace(self.ranks, rank=rank))) for rank in range(self.ranks.world))
            parts += [[]] * (most - len(parts))
        return parts

    def _keep_step(self, row: Row) -> None:
        """A pass forward and backward that adds nothing to any gradient."""
        logits, _, _ = self._labelled([row])
        (0.0 * logits.sum()).backward()

    def _clean_backward(self, rows: Sequence[Row]) -> float:
        """Cross-entropy over all label tokens of the step, whatever the micro-batches: this rank's part of the sum."""
        count = sum(len(r.ids) - r.label_from for r in rows)
        total = 0.0
        rows = sorted(rows, key=lambda r: len(r.ids))
        for part in self._micro_batches(rows):
            if not part:
                self._keep_step(rows[0])
                continue
            logits, labels, _ = self._labelled([rows[i] for i in part])
            loss = -token_log_p(logits, labels).sum() / count
            (self.config.clean_weight * loss).backward()
            total += float(loss.detach())
        return total

    def _adversarial_backward(self, suffixes) -> tuple[float, float]:
        """Mean over cases of the away and of the toward loss (each a mean over its target tokens): this rank's part."""
        config, pool = self.config, self.pool.config
        away, toward = adversarial_rows(self.chat, suffixes, pool)
        sums = {"away": 0.0, "toward": 0.0}
        rows = [("away", r) for r in away] + [("toward", r) for r in toward]
        for part in self._micro_batches([r for _, r in rows], dealt=config.rows):
            if not part:
                self._keep_step(rows[0][1])
                continue
            logits, labels, owner = self._labelled([rows[i][1] for i in part])
            objective = logits.new_zeros(())
            for i, kind in enumerate(rows[k][0] for k in part):
                z, y = logits[owner == i], labels[owner == i]
                if kind == "away":
                    loss = away_loss(z, y, pool.away_threshold) / len(away)
                    weight = config.away_weight if pool.away else 0.0
                else:
                    loss = -token_log_p(z, y).mean() / len(toward)
                    weight = config.toward_weight
                objective = objective + weight * loss
                sums[kind] += float(loss.detach())
            objective.backward()
        return sums["away"], sums["toward"]

    def _labelled(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [N, V] at the labelled positions only, labels [N], and the row [N] each belongs to."""
        first_label = min(r.label_from for r in rows)
        # Sharded blocks see gradients through their output alone, not through a prefix's keys and values.
        share = first_label - 1 if self.config.share_prefix and not self.ranks.sharded else 0
        batch = pack([r.ids for r in rows], self.runner.device, share)
        h = self.runner.forward(batch)
        past = len(batch.prefix)
        owner = torch.cat([torch.full((len(r.ids) - r.label_from,), i) for i, r in enumerate(rows)])
        columns = torch.cat([torch.arange(r.label_from - 1 - past, len(r.ids) - 1 - past) for r in rows])
        labels = torch.tensor([t for r in rows for t in r.ids[r.label_from :]], device=self.runner.device)
        return self.runner.logits(h[owner, columns]), labels, owner.to(self.runner.device)

    def state(self) -> tuple[dict[str, Tensor], dict]:
        """Tensors (adapter, both moments, random state) and JSON-able rest (step, pool)."""
        tensors = {f"adapter.{name}": parameter.detach().clone() for name, parameter in self.parameters.items()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                tensors[f"optimiser.{key}.{name}"] = value.detach().clone()
        tensors["rng"] = torch.get_rng_state()
        rest = {
            "step": self.step,
            "seed": self.seed,
            "config": {key: value for key, value in asdict(self.config).items() if value is not None},
            "pool": None if self.pool is None else self.pool.state(),
            "clean_cursor": self.step * self.config.rows,
        }
        return tensors, rest

    def restore(self, tensors: dict[str, Tensor], rest: dict) -> None:
        """Raises ValueError when the state is of another seed, set of trained parameters or kind of pool."""
        names = {k.removeprefix("adapter.") for k in tensors if k.startswith("adapter.")}
        if names != set(self.parameters):
            raise ValueError("the saved adapter has other parameters than the configured one; start the regime anew")
        if rest["seed"] != self.seed:
            raise ValueError(f"the saved state is of seed {rest['seed']}, this run has seed {self.seed}")
        if (rest["pool"] is None) != (self.pool is None):
            raise ValueError("the saved state and this run differ in having a pool: one is SFT; start the regime anew")
        if self.pool is not None:
            self.pool.restore(rest["pool"])
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[f"adapter.{name}"])
                keys = [k.split(".")[1] for k in tensors if k.startswith("optimiser.") and k.endswith(f".{name}")]
                if keys:
                    state = {key: tensors[f"optimiser.{key}.{name}"].clone() for key in keys}
                    # The moments live beside their parameter, AdamW's step count on the CPU.
                    self.optimiser.state[parameter] = {
                        k: v if k == "step" else v.to(parameter.device) for k, v in state.items()
                    }
        torch.set_rng_state(tensors["rng"])
        self.step = rest["step"]
