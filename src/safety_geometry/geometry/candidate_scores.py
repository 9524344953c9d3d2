"""Candidate scores of refusal directions: the heavy half of the selection of R.

For every candidate the model is run with the direction removed on harmful prompts, removed on benign prompts, and added
on benign prompts. What is stored per candidate and prompt is enough for both selectors (`selection`), and for any
threshold, weight or resampling of prompts afterwards (arXiv 2604.27019, Eq. 2).

Speed: a run starts at the candidate's layer from the stored clean input, of one clean run for all stages of a
selection; the edited system prefix is run once per candidate and shared by all prompts; candidates of one layer share
batches; logits are computed at the last position only.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from safety_geometry.artefacts.candidate_scores import CandidateScores
from safety_geometry.models.chat import Rendered
from safety_geometry.models.interventions import Edits, Intervention
from safety_geometry.models.memory import BatchSize
from safety_geometry.models.openings import refusal_log_odds
from safety_geometry.models.restart import clean_run, edited_prefix, restart
from safety_geometry.models.runner import Batch, Runner
from safety_geometry.settings.identity import Position

TOGETHER = 64  # edits whose prefixes are held at one time
REMOVALS = ("layer", "affine", "linear")
REMOVE, ADD = "remove", "add"


@dataclass(frozen=True, eq=False)
class Candidate:
    """A direction at a site: `vector` [d], raw, is what addition adds; strength: λ of the removal."""

    layer: int
    position: int
    vector: Tensor
    strength: float = 1.0

    @property
    def unit(self) -> Tensor:
        return self.vector / self.vector.norm()


def as_candidates(directions: Mapping[tuple[int, int], Tensor]) -> list[Candidate]:
    """Raw mean differences [d] by (layer, position), in the order of the sites."""
    return [Candidate(*site, directions[site].float()) for site in sorted(directions)]


@dataclass(frozen=True, eq=False)
class _Job:
    """One row: a prompt under an edit; kl: whether it is asked for the KL, or for everything else."""

    candidate: int
    edit: int
    row: int
    kind: str
    kl: bool


class Scorer:
    """Scores candidates on prompts that are run clean once."""

    def __init__(
        self,
        runner: Runner,
        harmful: Sequence[Rendered],
        benign: Sequence[Rendered],
        layers: Sequence[int],
        evaluation_layers: Sequence[int],
        refusal_ids: Sequence[int] | None = None,
        answered: Sequence[bool] | None = None,
        coefficient: float = 1.0,
        batch_size: int | BatchSize = 96,
        share: int = 0,
        removal: str = "layer",
        benign_means: Mapping[tuple[int, int], Tensor] | None = None,
    ):
        """
        Args:
            layers: block inputs that candidates act at. evaluation_layers: blocks whose last-token outputs are summed,
                that of the last block after the final norm.
            refusal_ids: first tokens of refusals (None: no log-odds). answered: benign prompts that the KL counts on.
            coefficient: multiple of the raw direction that is added on benign prompts.
            removal: `layer`: a − λ(uᵀa)u at the candidate's own layer (arXiv 2604.27019); `affine`: there, and the
                projection of the mean of benign prompts put back; `linear`: at every block input (COSMIC's two forms).
            benign_means: means [d] by (layer, position), for `affine`.
        """
        if removal not in REMOVALS:
            raise ValueError(f"unknown form of removal {removal!r}; choose one of {', '.join(REMOVALS)}")
        self.runner, self.size = runner, BatchSize.of(batch_size, "candidate scores")
        self.n, self.m = len(harmful), len(benign)
        self.ids, self.coefficient, self.removal = refusal_ids, coefficient, removal
        self.answered = np.ones(self.m, bool) if answered is None else np.asarray(answered, bool)
        self.evaluated, self.means = list(evaluation_layers), benign_means or {}
        starts = {0, *layers}  # an edit of every block starts at 0

        def read(layer: int, h: Tensor, batch: Batch) -> Tensor | None:
            if layer - 1 not in self.evaluated:
                return None
            return self._evaluation(layer, h[torch.arange(len(h), device=h.device), batch.last])

        prompts = [prompt.ids for prompt in (*harmful, *benign)]
        with torch.inference_mode():
            self.clean = clean_run(runner, prompts, starts, share, read, self.size)
            logits = runner.logits(self.clean.final)
            self.log_p = torch.log_softmax(logits, -1)
            self.log_odds = self._log_odds(logits).cpu().numpy()
        self.vectors = {layer - 1: values for layer, values in self.clean.read.items()}

    def _evaluation(self, layer: int, h: Tensor) -> Tensor:
        """A last-token output [b, d] as it is compared: that of the last block after the final norm, as published."""
        return (self.runner.body.norm(h) if layer == self.runner.n_layers else h).float()

    def _log_odds(self, logits: Tensor) -> Tensor:
        zeros = torch.zeros(len(logits), dtype=torch.float64, device=logits.device)
        return zeros if self.ids is None else refusal_log_odds(logits, self.ids)

    @cached_property
    def clean_vectors(self) -> np.ndarray:
        """[n + m, d]."""
        return sum(self.vectors[e] for e in self.evaluated).cpu().numpy()

    def energy(self, layer: int, unit: Tensor) -> float:
        """Share of the energy of the harmful prompts' clean stream at a layer that lies along `unit` [d]."""
        stream = self.clean.stream[layer][: self.n]
        places = torch.arange(stream.shape[1], device=stream.device)[None]
        tokens = stream[places < self.clean.lengths[: self.n, None]].double()
        along = (tokens @ unit.double().to(tokens.device)).square().sum()
        return float(along / tokens.square().sum())

    def edit(self, candidate: Candidate, kind: str) -> tuple[int, Edits]:
        """Where an edit starts, and what it is."""
        if kind == ADD:
            return candidate.layer, (Intervention("steer", candidate.layer, candidate.vector[None], self.coefficient),)
        unit, where = candidate.unit, None if self.removal == "linear" else candidate.layer
        edits = [Intervention("ablate", where, unit[None], candidate.strength)]
        if self.removal == "affine":
            back = self.means[candidate.layer, candidate.position].float() @ unit
            edits.append(Intervention("steer", candidate.layer, unit[None], float(back) * candidate.strength))
        return (0 if where is None else candidate.layer), tuple(edits)

    @torch.inference_mode()
    def score(
        self,
        candidates: Sequence[Candidate],
        harmful: Sequence[int] | None = None,
        benign: Sequence[int] | None = None,
        progress: Callable[[int], None] | None = None,
        kl: bool = True,
    ) -> CandidateScores:
        """Of every candidate on the prompts of these places in each class (None: all); progress gets the number of rows
        finished; without `kl` no prompt counts as answered, and none is read on it."""
        harmful, benign = (
            list(range(count)) if rows is None else list(rows) for rows, count in ((harmful, self.n), (benign, self.m))
        )
        n, m, count = len(harmful), len(benign), len(candidates)
        answered = self.answered[benign] & kl
        vectors = {REMOVE: np.zeros((count, n, self.runner.d), np.float32),
                   ADD: np.zeros((count, m, self.runner.d), np.float32)}  # fmt: skip
        odds = {REMOVE: np.zeros((count, n)), ADD: np.zeros((count, m))}
        divergences = np.zeros((count, m), np.float32)
        rows = {REMOVE: harmful, ADD: [self.n + place for place in benign]}

        def prompt(job: _Job) -> int:
            return rows[ADD if job.kl else job.kind][job.row]

        def compute(jobs: list[_Job], layer: int, edits: list[Edits], prefix) -> None:
            where = list(map(prompt, jobs))
            found = self._run(layer, where, [job.edit for job in jobs], edits, prefix)
            for job, vector, log_odds, divergence in zip(jobs, *found, strict=True):
                if job.kl:
                    divergences[job.candidate, job.row] = divergence
                else:
                    vectors[job.kind][job.candidate, job.row] = vector
                    odds[job.kind][job.candidate, job.row] = log_odds
            if progress is not None:
                progress(len(jobs))

        lengths: list[int] = self.clean.lengths.tolist()
        edits_by_start: dict[int, list[tuple[int, str, Edits]]] = {}
        for c, candidate in enumerate(candidates):
            for kind in (REMOVE, ADD):
                start, edit = self.edit(candidate, kind)
                edits_by_start.setdefault(start, []).append((c, kind, edit))
        for layer, of_layer in sorted(edits_by_start.items()):
            for first in range(0, len(of_layer), TOGETHER):
                group = of_layer[first : first + TOGETHER]
                edits = [edit for _, _, edit in group]
                prefix = edited_prefix(self.runner, self.clean, layer, edits)
                jobs = [
                    _Job(c, place, row, kind, False)
                    for place, (c, kind, _) in enumerate(group)
                    for row in range(len(rows[kind]))
                ]
                jobs += [
                    _Job(c, place, int(row), kind, True)
                    for place, (c, kind, _) in enumerate(group)
                    if kind == REMOVE
                    for row in np.flatnonzero(answered)
                ]
                jobs.sort(key=lambda job: lengths[prompt(job)])
                depth = self.runner.n_layers - layer
                self.size.run(
                    lambda chunk, a=layer, b=edits, c=prefix: compute(chunk, a, b, c),
                    jobs,
                    lambda job, depth=depth: depth * lengths[prompt(job)],
                )
        return CandidateScores(
            layers=np.array([candidate.layer for candidate in candidates]),
            positions=np.array([candidate.position for candidate in candidates]),
            norm=np.array([float(candidate.vector.norm()) for candidate in candidates], np.float32),
            ablate_harmful=vectors[REMOVE],
            add_benign=vectors[ADD],
            kl=divergences,
            clean_harmful=self.clean_vectors[harmful],
            clean_benign=self.clean_vectors[rows[ADD]],
            n_layers=self.runner.n_layers,
            removed=odds[REMOVE],
            added=odds[ADD],
            log_odds_harmful=self.log_odds[harmful],
            log_odds_benign=self.log_odds[rows[ADD]],
            answered=answered.astype(np.uint8),
        )

    def _run(self, layer: int, where: list[int], which: list[int], edits: list[Edits], prefix) -> tuple:
        """Rows `where`, the b-th under edits[which[b]]: evaluation vectors [B, d], log-odds [B], KL [B]."""
        device = self.runner.device
        rows, place = torch.tensor(where, device=device), torch.tensor(which, device=device)
        last, lines = self.clean.lengths[rows] - 1, torch.arange(len(where), device=device)
        # Blocks below the first edit never see it: their outputs are the clean ones.
        vectors = {e: values[rows] for e, values in self.vectors.items() if e < layer}

        def tap(block: int, h: Tensor) -> None:
            if block - 1 in self.vectors and block > layer:
                vectors[block - 1] = self._evaluation(block, h[lines, last])

        h = restart(self.runner, self.clean, layer, rows, [edits[i] for i in which], prefix, place, None, tap)
        logits = self.runner.logits(h[lines, last])
        log_q, log_p = torch.log_softmax(logits, -1), self.log_p[rows]
        kl = (log_p.exp() * (log_p - log_q)).double().sum(-1)
        total = sum(vectors[e] for e in self.evaluated)
        return total.cpu().numpy(), self._log_odds(logits).cpu().numpy(), kl.cpu().numpy()

    @torch.inference_mode()
    def kl_everywhere(self, candidates: Sequence[Candidate], benign: Sequence[int]) -> np.ndarray:
        """Mean KL [C] on benign prompts of these places with each direction removed at every block input."""
        edits = [(Intervention("ablate", None, candidate.unit[None]),) for candidate in candidates]
        total, prefix = np.zeros(len(candidates)), edited_prefix(self.runner, self.clean, 0, edits)
        jobs = [(c, self.n + row) for row in benign for c in range(len(candidates))]

        def compute(chunk: list[tuple[int, int]]) -> None:
            which, where = zip(*chunk, strict=True)
            _, _, kl = self._run(0, list(where), list(which), edits, prefix)
            np.add.at(total, list(which), kl)

        self.size.run(compute, jobs)
        return total / max(len(benign), 1)


def score_candidates(
    runner: Runner,
    directions: Mapping[tuple[int, int], Tensor],
    harmful: Sequence[Rendered],
    benign: Sequence[Rendered],
    evaluation_layers: Sequence[int],
    coefficient: float = 1.0,
    batch_size: int | BatchSize = 96,
    share: int = 0,
    progress: Callable[[int], None] | None = None,
    refusal_ids: Sequence[int] | None = None,
) -> CandidateScores:
    """Score every candidate of `directions`, (layer, position) -> raw mean difference [d], on all prompts: `Scorer` in
    one go."""
    candidates = as_candidates(directions)
    layers = {candidate.layer for candidate in candidates}
    scorer = Scorer(
        runner, harmful, benign, layers, evaluation_layers, refusal_ids, None, coefficient, batch_size, share
    )
    return scorer.score(candidates, progress=progress)


def candidate_layers(layers: Sequence[int] | None, share: float | None, n_layers: int) -> list[int]:
    """`layers`, or without any the first `share` of all. Raises ValueError for one that the model does not have."""
    if layers is None:
        return list(range(int(share * n_layers)))
    if beyond := [layer for layer in layers if layer >= n_layers]:
        raise ValueError(f"layers {beyond} do not exist: the model has blocks 0 to {n_layers - 1}")
    return list(layers)


def candidate_directions(
    delta: Tensor, recorded: Sequence[Position], positions: Sequence[int], layers: Sequence[int]
) -> dict[tuple[int, int], Tensor]:
    """Raw directions [d] by (layer, position), of differences delta [P, L+1, d] at the `recorded` positions.

    A direction that is zero (layer 0 at a template token, the same for every prompt) is no candidate.
    """
    sites = [(layer, position) for layer in layers for position in positions]
    directions = {(layer, position): delta[list(recorded).index(position), layer] for layer, position in sites}
    return {site: direction for site, direction in directions.items() if direction.norm() > 0}
