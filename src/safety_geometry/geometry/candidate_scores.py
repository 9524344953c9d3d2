"""Candidate scores of refusal directions: the heavy half of COSMIC-style selection.

For every candidate (layer, position) the model is run with the direction ablated on harmful prompts, ablated on benign
prompts, and added on benign prompts, each at the candidate's own layer. What is stored per candidate and prompt is
enough for any threshold, weight or resampling of prompts afterwards (arXiv 2604.27019, Eq. 2).

Speed: a run starts at the candidate's layer from the stored clean input and ends with the last layer that is read; the
edited system prefix is run once per candidate and shared by all prompts; candidates of one layer share batches; logits
are computed at the last position only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from safety_geometry.artefacts.candidate_scores import CandidateScores
from safety_geometry.models.chat import Rendered
from safety_geometry.models.interventions import Intervention
from safety_geometry.models.memory import BatchSize
from safety_geometry.models.restart import CleanRun, clean_run, edited_prefix, restart
from safety_geometry.models.runner import Batch, KeyValues, Runner
from safety_geometry.settings.identity import Position


@dataclass(frozen=True)
class _Baseline:
    """Clean run of the validation prompts, with the evaluation vectors by layer [2n, d] and next-token log p [2n,
    V]."""

    run: CleanRun
    evaluation: dict[int, Tensor]
    log_p: Tensor


@torch.inference_mode()
def score_candidates(
    runner: Runner,
    directions: dict[tuple[int, int], Tensor],
    harmful: Sequence[Rendered],
    benign: Sequence[Rendered],
    evaluation_layers: Sequence[int],
    coefficient: float = 1.0,
    batch_size: int | BatchSize = 96,
    share: int = 0,
    progress: Callable[[int], None] | None = None,
) -> CandidateScores:
    """Score every candidate of `directions`: (layer, position) -> raw mean difference [d].

    Args:
        coefficient: multiple of the raw direction that is added on benign prompts.
        batch_size: rows (prompt × candidate × operation) of one forward pass.
        progress: gets the number of rows finished.
    """
    if len(harmful) != len(benign):
        raise ValueError(f"{len(harmful)} harmful and {len(benign)} benign validation prompts: must be as many")
    sites, size = sorted(directions), BatchSize.of(batch_size, "candidate scores")
    layers = sorted({layer for layer, _ in sites})
    n = len(harmful)
    clean = _baseline(runner, [p.ids for p in (*harmful, *benign)], layers, evaluation_layers, share, size)
    ablated = torch.zeros(len(sites), n, runner.d)
    added = torch.zeros(len(sites), n, runner.d)
    kl = torch.zeros(len(sites), n)

    for layer in layers:
        candidates = [(c, directions[site].float()) for c, site in enumerate(sites) if site[0] == layer]
        edits = []  # two edits a candidate: even rows ablate, odd rows add
        for _, vector in candidates:
            edits.append(Intervention("ablate", layer, (vector / vector.norm())[None]))
            edits.append(Intervention("steer", layer, vector[None], coefficient))
        prefix = edited_prefix(runner, clean.run, layer, edits)
        vectors = [(2 * k, row, ablated[c], row) for k, (c, _) in enumerate(candidates) for row in range(n)]
        vectors += [(2 * k + 1, n + row, added[c], row) for k, (c, _) in enumerate(candidates) for row in range(n)]
        divergences = [(2 * k, n + row, kl[c], row) for k, (c, _) in enumerate(candidates) for row in range(n)]
        # Rows that only give evaluation vectors end with the last evaluation layer.
        for jobs, stop in ((vectors, max(evaluation_layers) + 1), (divergences, runner.n_layers)):
            jobs.sort(key=lambda job: int(clean.run.lengths[job[1]]))

            def compute(chunk: list, layer=layer, stop=stop, edits=edits, prefix=prefix) -> None:
                _score_chunk(runner, layer, stop, chunk, edits, prefix, clean)
                if progress is not None:
                    progress(len(chunk))

            size.run(compute, jobs)
    total = sum(clean.evaluation[e] for e in evaluation_layers)
    return CandidateScores(
        layers=np.array([layer for layer, _ in sites]),
        positions=np.array([position for _, position in sites]),
        norm=torch.stack([directions[site].float().norm() for site in sites]).cpu().numpy(),
        ablate_harmful=ablated.numpy(),
        add_benign=added.numpy(),
        kl=kl.numpy(),
        clean_harmful=total[:n].cpu().numpy(),
        clean_benign=total[n:].cpu().numpy(),
        n_layers=runner.n_layers,
    )


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


def _baseline(runner: Runner, prompts, layers, evaluation_layers, share: int, size: BatchSize) -> _Baseline:
    def read(layer: int, h: Tensor, batch: Batch) -> Tensor | None:
        if layer - 1 not in evaluation_layers:
            return None
        return h[torch.arange(len(h), device=h.device), batch.last].float()

    run = clean_run(runner, prompts, layers, share, read, size)
    evaluation = {layer - 1: values for layer, values in run.read.items()}
    return _Baseline(run, evaluation, torch.log_softmax(runner.logits(run.final), -1))


def _score_chunk(runner: Runner, layer: int, stop: int, chunk, edits, prefix: KeyValues | None, clean: _Baseline):
    """Run rows of one kind from `layer` to `stop` and write what they give: evaluation vectors, or KL at the last
    block."""
    rows = torch.tensor([job[1] for job in chunk], device=runner.device)
    which = torch.tensor([job[0] for job in chunk], device=runner.device)
    last, lines = clean.run.lengths[rows] - 1, torch.arange(len(chunk), device=runner.device)
    # Blocks below the candidate's layer never see the edit: their outputs are the clean ones.
    vectors = {e: values[rows] for e, values in clean.evaluation.items() if e < layer}

    def tap(block: int, h: Tensor) -> None:
        if block - 1 in clean.evaluation and block > layer:
            vectors[block - 1] = h[lines, last].float()

    h = restart(runner, clean.run, layer, rows, [edits[job[0]] for job in chunk], prefix, which, stop, tap)
    if chunk[0][2].ndim == 2:
        values = sum(vectors[e] for e in clean.evaluation).cpu()
    else:
        log_q = torch.log_softmax(runner.logits(h[lines, last]), -1)
        log_p = clean.log_p[rows]
        values = (log_p.exp() * (log_p - log_q)).double().sum(-1).float().cpu()
    for (_, _, out, row), value in zip(chunk, values, strict=True):
        out[row] = value
