"""Probe sampling: a draft model screens GCG's candidates, and the model itself scores those that are left.

Zhao et al. 2024 (arXiv 2403.01251). The draft is the first blocks of the same model, and what is read from them is
either the loss under the model's final norm and head (`head`), or a first-order estimate of the loss (`gradient`, see
`gcg_scoring.draft`), whose survivors go on from where the draft stopped. How far the draft is trusted is measured in
every step and for every case, on a probe set that both score.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from safety_geometry.attacks.gcg.batches import BatchSize
from safety_geometry.attacks.gcg.scoring import Current, Scored, draft, score
from safety_geometry.models.runner import Runner


@dataclass(frozen=True)
class Probe:
    """layers: blocks of the draft; share: candidates for one of the probe set (the paper's 16); reduction: R, the least
    reduction of the rest (the paper's 8); draft: `head` or `gradient`."""

    layers: int
    share: int = 16
    reduction: float = 8.0
    draft: str = "head"

    def __post_init__(self) -> None:
        if self.layers < 1 or self.share < 1 or self.reduction < 1:
            raise ValueError(f"probe sampling needs layers, share and reduction of at least 1; got {self}")
        if self.draft not in ("head", "gradient"):
            raise ValueError(f"probe.draft is {self.draft!r}; use 'head' or 'gradient'")


def screen(
    runner: Runner,
    currents: Sequence[Current],
    candidates: Sequence[Tensor],
    batch: BatchSize,
    alpha: float | None,
    probe: Probe,
) -> list[Scored]:
    """`score`, exactly for the probe set and for the draft's best; the losses of the others are +∞.

    With W candidates and the rank correlation ρ of draft and model on the probe set, max(1, ⌊(1 − (1 + ρ)/2) W / R⌋ of
    the draft's best are scored: the better the draft, the fewer.

    Raises:
        ValueError: the draft has as many blocks as the model.
    """
    if probe.layers >= runner.n_layers:
        raise ValueError(
            f"probe.layers is {probe.layers} and the model has {runner.n_layers} blocks: the draft must be shorter"
        )
    if probe.draft == "gradient":
        cheap = draft(runner, currents, candidates, batch, probe.layers)
    else:
        cheap = score(runner, currents, candidates, batch, alpha, probe.layers)

    def exactly(chosen: Sequence[Tensor]) -> list[Scored]:
        rows = [all_rows[which] for all_rows, which in zip(candidates, chosen, strict=True)]
        if probe.draft == "head":
            return score(runner, currents, rows, batch, alpha)
        streams = [scored.streams[which.to(scored.streams.device)] for scored, which in zip(cheap, chosen, strict=True)]
        return score(runner, currents, rows, batch, alpha, start=probe.layers, streams=streams)

    sizes = [len(rows) for rows in candidates]
    # Evenly spread over the candidates, and so over the positions.
    sets = [torch.arange(m := min(w, max(2, w // probe.share))) * w // max(m, 1) for w in sizes]
    first = exactly(sets)
    rest = []
    for probe_set, guess, exact, w in zip(sets, cheap, first, sizes, strict=True):
        rho = spearman(guess.losses[probe_set], exact.losses)
        keep = max(1, int((1 - (1 + rho) / 2) * w / probe.reduction)) if w else 0
        order = guess.losses.argsort(stable=True)
        rest.append(order[~torch.isin(order, probe_set)][:keep])
    second = exactly(rest)

    out = []
    for w, guess, *parts in zip(
        sizes, cheap, zip(sets, first, strict=True), zip(rest, second, strict=True), strict=True
    ):
        whole = Scored(torch.full((w,), torch.inf), torch.zeros(w, dtype=torch.bool), guess.tokens)
        for which, scored in parts:
            whole.losses[which], whole.exact[which] = scored.losses, scored.exact
            whole.tokens += scored.tokens
        out.append(whole)
    return out


def spearman(a: Tensor, b: Tensor) -> float:
    """Rank correlation of two vectors without regard to ties; 0 where it is not defined."""
    ranks = torch.stack([x.argsort(stable=True).argsort().double() for x in (a, b)])
    return float(torch.corrcoef(ranks).nan_to_num(0.0)[0, 1]) if len(a) > 1 else 0.0
