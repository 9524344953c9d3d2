"""A causal sweep at one checkpoint: the carriers that it edits with, the clean runs, the units of its plan and their
readouts."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from safety_geometry.artefacts.carriers import CarrierPair
from safety_geometry.artefacts.unit_store import content_key
from safety_geometry.causal.cells import Carriers, Unit, make_unit
from safety_geometry.causal.controls import Source
from safety_geometry.causal.modes import orthonormal
from safety_geometry.causal.plan import SweepPlan, Target
from safety_geometry.causal.readout import (
    AnswerRun,
    clean_answers,
    clean_prompts,
    read_answer_kl,
    read_kl,
    read_log_odds,
    tokens_of,
)
from safety_geometry.models.chat import ChatFormat
from safety_geometry.models.generation import generate
from safety_geometry.models.memory import BatchSize
from safety_geometry.models.restart import CleanRun
from safety_geometry.models.runner import Runner

log = logging.getLogger(__name__)

Tokens = Sequence[Sequence[int]]
QUANTITIES = ("log_odds", "kl", "kl_answer")


class Stream(dict):
    """Clean tokens [M, d] by layer, made when they are asked for."""

    def __init__(self, clean: CleanRun):
        self.clean = clean

    def __missing__(self, layer: int) -> np.ndarray:
        self[layer] = tokens_of(self.clean, layer).numpy()
        return self[layer]


@dataclass(eq=False)
class Sweep:
    """What a sweep's cells are made of, and how they are read.

    activations: cache of the checkpoint's fit prompts (`fit`, `positions`, `n_layers`); harmful: token ids of the
    prompts that the log-odds are read on; seed: of the controls; subspace_positions: rows of a subspace; steer_scale:
    `unit`, `difference_norm` or `activation_norm`, the length of the vector that steering adds at λ = 1;
    max_matched_lambda: see `Carriers`; answer_limit: tokens of the clean answers that a KL is read on; size: rows of a
    readout's pass.
    """

    runner: Runner
    chat: ChatFormat
    plan: SweepPlan
    carriers: CarrierPair
    activations: object
    harmful: Tokens
    seed: int
    subspace_positions: Sequence[int]
    steer_scale: str
    max_matched_lambda: float
    answer_limit: int
    size: BatchSize
    random_bases: dict = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        settings: Mapping,
        runner: Runner,
        chat: ChatFormat,
        carriers: CarrierPair,
        activations: object,
        harmful: Tokens,
        size: BatchSize,
    ) -> "Sweep":
        """From seed, subspace_positions, steer_scale, max_matched_lambda, generate {max_new_tokens} and the settings of
        the plan."""
        rest = (settings[name] for name in ("seed", "subspace_positions", "steer_scale", "max_matched_lambda"))
        limit = settings["generate"]["max_new_tokens"]
        return cls(runner, chat, SweepPlan.of(settings), carriers, activations, harmful, *rest, limit, size)

    def __post_init__(self) -> None:
        """Raises ValueError for a layer of the scan that the model does not have."""
        if self.carriers.r is None:
            log.warning("there is no refusal carrier, only H is swept: %s", self.carriers.r_missing)
        layers = self.activations.n_layers
        if beyond := [layer for layer in self.plan.scan_layers if layer >= layers]:
            raise ValueError(f"layers {beyond} do not exist: the model has blocks 0 to {layers - 1}")

    @property
    def layers(self) -> list[int]:
        """Layers at which a cell may start."""
        everywhere = [0] if any(target.scope == "all_layers" for target in self.plan.targets) else []
        chosen = [layer for _, layer in self.carriers.selected_sites[: self.plan.controls.get("selected", 0)]]
        carriers = [carrier.layer for carrier in self.carriers.by_kind.values()]
        return sorted({*carriers, *chosen, *self.plan.scan_layers, *everywhere})

    def clean(self, prompts: Tokens) -> CleanRun:
        return clean_prompts(self.runner, prompts, self.layers, self.chat.n_prefix, self.size)

    @cached_property
    def clean_harmful(self) -> CleanRun:
        return self.clean(self.harmful)

    @cached_property
    def stream(self) -> Stream:
        return Stream(self.clean_harmful)

    @cached_property
    def scale(self) -> dict[str, float]:
        """Length of the vector that steering adds at λ = 1, by carrier."""
        if self.steer_scale == "unit":
            sizes = {"H": 1.0, "R": 1.0}
        elif self.steer_scale == "difference_norm":
            sizes = {kind: carrier.norm for kind, carrier in self.carriers.by_kind.items()}
        else:
            sizes = {
                kind: float(np.linalg.norm(self.stream[carrier.layer], axis=1).mean())
                for kind, carrier in self.carriers.by_kind.items()
            }
        return sizes | {"HR": (sizes["H"] + sizes.get("R", sizes["H"])) / 2}

    def of_rank(self, rank: int) -> Carriers:
        """Carriers (rank 1) or subspaces of `rank` directions, and where their controls come from."""
        bases = {kind: orthonormal(carrier.rows(rank)) for kind, carrier in self.carriers.by_kind.items()}
        sources = {
            kind: Source(
                kind,
                carrier.site,
                self.activations.fit,
                self.activations.positions,
                self.subspace_positions,
                self.activations.n_layers,
                rank,
            )
            for kind, carrier in self.carriers.by_kind.items()
        }
        chosen = () if self.carriers.selected is None else self.carriers.selected.astype(np.float64)
        winners = tuple(zip(self.carriers.selected_sites, chosen, strict=True))
        h, r, most = bases["H"], bases.get("R"), self.max_matched_lambda
        return Carriers(h, r, sources, self.stream, self.scale, self.random_bases, most, winners)

    def units(self) -> Iterator[Unit]:
        """The units of the plan, with the cells that exist here; the model as it is comes last."""
        ranks = {rank: self.of_rank(rank) for rank in self.plan.ranks}

        def exists(target: Target) -> bool:
            if present := ranks[target.rank].has(target):
                return present
            why = "there is no R" if self.carriers.r is None else "H and R span the same directions here"
            log.warning("%s is left out: %s", target.id, why)
            return False

        for planned in self.plan.units(exists):
            unit = make_unit(planned, ranks[planned.acts.rank if planned.acts else 1], self.seed)
            if unit is not None:
                yield unit

    def passes(self, units: Sequence[Unit], benign: Tokens) -> int:
        """Rows that go through the model in `read`."""
        each = ((cell.kl, cell.generated) for unit in units for cell in unit.cells)
        return sum(len(self.harmful) + len(benign) * (kl + generated) for kl, generated in each)

    def clean_answers(self, benign: Tokens) -> AnswerRun:
        """Clean run of the benign prompts with the clean model's own answers behind them."""
        answers = generate(self.runner, benign, self.chat.stop_ids, self.answer_limit, self.size, self.chat.n_prefix)
        return clean_answers(self.runner, benign, answers, self.layers, self.chat.n_prefix, self.size)

    def read(
        self,
        units: Sequence[Unit],
        benign: Tokens,
        refusal_ids: Sequence[int],
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[tuple[Unit, dict]]:
        """Each unit with its readouts, by quantity (`log_odds` on the harmful prompts, `kl` on the benign ones,
        `kl_answer` on the clean answers to these, of cells that answer) and cell."""
        clean_benign = self.clean(benign) if units else None
        spoken = any(cell.generated for unit in units for cell in unit.cells)
        answered = self.clean_answers(benign) if spoken else None
        for unit in units:
            with_kl = {cell.id: cell.interventions for cell in unit.cells if cell.kl}
            speaking = {cell.id: cell.interventions for cell in unit.cells if cell.generated}
            edits, size = list(unit.interventions.values()), self.size
            log_odds = read_log_odds(self.runner, self.clean_harmful, edits, refusal_ids, size, progress)
            kl = read_kl(self.runner, clean_benign, list(with_kl.values()), size, progress)
            kl_answer = []
            if speaking:
                kl_answer = read_answer_kl(self.runner, answered, list(speaking.values()), size, progress).tolist()
            yield (
                unit,
                {
                    "log_odds": dict(zip(unit.interventions, log_odds.tolist(), strict=True)),
                    "kl": dict(zip(with_kl, kl.tolist(), strict=True)),
                    "kl_answer": dict(zip(speaking, kl_answer, strict=True)),
                },
            )


def cell_rows(units: Sequence[Unit], carriers: CarrierPair) -> Iterator[dict]:
    """Rows of the table of cells."""
    layers = {"carrier_layer_r": None}
    layers |= {f"carrier_layer_{kind.lower()}": carrier.layer for kind, carrier in carriers.by_kind.items()}
    for unit in units:
        for cell in unit.cells:
            about = {"cell": cell.id, "digest": cell.digest, "generated": cell.generated}
            yield from (about | row | layers for row in cell.rows)


def readout_rows(results: Mapping[str, dict], units: Sequence[Unit]) -> Iterator[dict]:
    """Rows of the readout, from the results of the units by name: QUANTITIES and the ids of their prompts."""
    for unit in units:
        result = results[unit.name]
        for quantity in QUANTITIES:
            for cell, values in result[quantity].items():
                for prompt, value in zip(result["prompts"][quantity], values, strict=True):
                    yield {"cell": cell, "quantity": quantity, "prompt_id": prompt, "value": value}


def readout_key(unit: Unit, facts: Mapping, answer_limit: int) -> str:
    """Key of a unit's readouts: `facts` of model, prompts and code, its cells, and how long the clean answers are that
    those are read on that answer. The carriers are in the interventions."""
    cells = [[cell.id, cell.kl, cell.generated and answer_limit, cell.digest] for cell in unit.cells]
    return content_key(facts, unit.name, cells)


def answer_key(
    digests: Mapping[str, str], prompts: Sequence[tuple[str, dict]], settings: Mapping, facts: Mapping
) -> str:
    """Key of the answers that cells give together.

    digests: of what they do, by cell; asked: suites and prompts; settings: max_new_tokens, batch_size; facts: of model
    and code.
    """
    return content_key(
        facts, sorted(digests.items()), prompts, [settings[name] for name in ("max_new_tokens", "batch_size")]
    )
