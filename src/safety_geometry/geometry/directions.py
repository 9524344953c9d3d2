"""From the activations of harmful and benign prompts to both carriers and their coupling, in memory: no cache file, one
checkpoint.

Activations have the shape [prompts, P, L+1, d]: P positions, the inputs of L blocks and the output of the last, width
d. The equations stand in `carriers` and `coupling`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from safety_geometry.artefacts.candidate_scores import CandidateScores
from safety_geometry.artefacts.carriers import Carrier
from safety_geometry.geometry.activations import evaluation_layers, record
from safety_geometry.geometry.candidate_scores import candidate_directions, score_candidates
from safety_geometry.geometry.carriers import (
    candidate_table,
    harmfulness_profile,
    mean_difference,
    report_refusal,
    select_harmfulness,
    unit,
)
from safety_geometry.geometry.coupling import Coupling, couple, position_subspace
from safety_geometry.models.chat import Rendered
from safety_geometry.models.memory import BatchSize
from safety_geometry.models.runner import Runner
from safety_geometry.settings.identity import T_INST, Position

SUBSPACE_K = 3


@dataclass(frozen=True, eq=False)
class ClassActivations:
    """harmful [n, P, L+1, d] and benign [m, P, L+1, d] at the P `positions` (from the end of the prompt, or
    "t_inst")."""

    harmful: np.ndarray
    benign: np.ndarray
    positions: tuple[Position, ...]

    def __post_init__(self) -> None:
        shapes = self.harmful.shape, self.benign.shape
        if any(len(shape) != 4 for shape in shapes) or shapes[0][1:] != shapes[1][1:]:
            raise ValueError(
                f"activations have shapes {shapes[0]} and {shapes[1]}: must be [prompts, P, L+1, d], alike "
                "but in prompts"
            )
        if shapes[0][1] != len(self.positions):
            raise ValueError(f"activations at {shapes[0][1]} positions, and {len(self.positions)} are named")

    @property
    def n_layers(self) -> int:
        return self.harmful.shape[2] - 1

    @property
    def after_instruction(self) -> tuple[int, ...]:
        """The positions that are counted from the end of the prompt."""
        return tuple(position for position in self.positions if position != T_INST)

    @cached_property
    def difference(self) -> np.ndarray:
        """Mean over harmful less mean over benign prompts, [P, L+1, d] float64 (arXiv 2604.27019, Eq. 1)."""
        return mean_difference(*(side.mean(0, dtype=np.float64) for side in (self.harmful, self.benign)))

    def place(self, position: Position) -> int:
        """Where a position stands among the P. Raises ValueError when it is none of them."""
        if position not in self.positions:
            raise ValueError(f"no activations at position {position!r}; there are {list(self.positions)}")
        return self.positions.index(position)

    def subspace(self, layer: int, k: int = SUBSPACE_K) -> np.ndarray:
        """Top k directions [d, k'] of the mean differences at the post-instruction positions of a layer."""
        rows = self.difference[[self.place(position) for position in self.after_instruction], layer]
        scale = np.linalg.norm(self.benign[:, :, layer].mean(0, dtype=np.float64), axis=-1).max()
        return position_subspace(rows, k, float(scale))


def record_classes(
    runner: Runner,
    harmful: Sequence[Rendered],
    benign: Sequence[Rendered],
    positions: Sequence[Position] = (-5, -4, -3, -2, -1, T_INST),
    batch_size: int | BatchSize = 32,
    share: int = 0,
) -> ClassActivations:
    """Activations of both classes; `share`: leading tokens that all prompts have in common (`ChatFormat.n_prefix`)."""
    values = (record(runner, prompts, positions, batch_size, share).numpy() for prompts in (harmful, benign))
    return ClassActivations(*values, tuple(positions))


def harmfulness_carrier(
    fit: ClassActivations, held_out: ClassActivations, position: Position = T_INST, score: str = "dprime"
) -> Carrier:
    """H: the direction of `fit` at `position`, at the block input that separates the held-out prompts best (arXiv
    2606.16349, section 3).

    score: dprime, auroc or gap.
    """
    place, blocks = fit.place(position), slice(0, fit.n_layers)
    raw = fit.difference[place]
    sides = (side[:, held_out.place(position), blocks] for side in (held_out.harmful, held_out.benign))
    profile = harmfulness_profile(raw[blocks], *sides)
    layer = select_harmfulness(profile, score)
    return _carrier("H", fit, layer, position, float(profile[score].iloc[layer]), None)


def score_refusal_candidates(
    runner: Runner,
    fit: ClassActivations,
    harmful: Sequence[Rendered],
    benign: Sequence[Rendered],
    layers: Sequence[int] | None = None,
    evaluation_share: float = 0.1,
    batch_size: int | BatchSize = 96,
    share: int = 0,
    progress: Callable[[int], None] | None = None,
) -> CandidateScores:
    """What adding and removing the direction of every post-instruction position and layer does to held-out prompts, as
    many of each class.

    layers: block inputs that are tried (None: those below 0.8 L); evaluation_share: of the blocks whose outputs are
    compared. The run of the model is the expensive part; `refusal_carrier` can choose from the scores with any
    thresholds.
    """
    last = fit.place(-1)
    means = (torch.from_numpy(side[:, last].mean(0)) for side in (fit.harmful, fit.benign))
    tried = range(int(0.8 * fit.n_layers)) if layers is None else layers
    difference = torch.from_numpy(fit.difference).float()
    directions = candidate_directions(difference, fit.positions, fit.after_instruction, tried)
    return score_candidates(
        runner,
        directions,
        harmful,
        benign,
        evaluation_layers(*means, evaluation_share),
        batch_size=batch_size,
        share=share,
        progress=progress,
    )


def refusal_carrier(
    fit: ClassActivations, scores: CandidateScores, beta_kl: float = 1.0, kl_max: float = 0.10
) -> Carrier:
    """R: the candidate with the largest S_refuse + S_comply − β·KL among those with KL ≤ `kl_max` (arXiv 2604.27019,
    Eq. 2).

    Where no candidate keeps within the limit, the best of the others, with `admissible` False.
    """
    best = report_refusal(candidate_table(scores, beta_kl, kl_max))
    return _carrier("R", fit, int(best.layer), int(best.position), float(best.s_total), bool(best.admissible))


def couple_carriers(fit: ClassActivations, h: Carrier, r: Carrier, k: int = SUBSPACE_K, tau: float = 4.0) -> Coupling:
    """Coupling of two carriers of `fit` (arXiv 2606.16349): the subspaces are the top k of the post-instruction
    positions at each one's layer."""
    bases = fit.subspace(h.layer, k), fit.subspace(r.layer, k)
    return couple(h.direction, r.direction, *bases, h.layer, r.layer, tau)


def _carrier(
    kind, fit: ClassActivations, layer: int, position: Position, score: float, admissible: bool | None
) -> Carrier:
    raw = fit.difference[fit.place(position), layer]
    k = min(SUBSPACE_K, len(fit.after_instruction))  # none, where only the instruction's last token was recorded
    subspace = fit.subspace(layer, k) if k else np.zeros((len(raw), 0))
    return Carrier(kind, layer, position, unit(raw), float(np.linalg.norm(raw)), score, admissible, subspace)
