"""A draft model screens GCG's candidates, and the model itself scores those that are left.

Probe sampling (Zhao et al. 2024, arXiv 2403.01251): the draft is the first blocks of the same model, and what is read
from them is either the loss under the model's final norm and head (`head`), or a first-order estimate of the loss
(`gradient`, see `scoring.draft`), whose survivors go on from where the draft stopped. How far the draft is trusted is
measured in every step and for every case, on a probe set that both score.

`bfloat16`: the draft is the whole model in that dtype. It ranks the candidates nearly as the model does, so that there
is no probe set. It pays where the processor multiplies bfloat16 faster than the model's dtype.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from safety_geometry.attacks.gcg.batches import BatchSize
from safety_geometry.attacks.gcg.scoring import Current, Scored, draft, score
from safety_geometry.models.runner import Runner


@dataclass(frozen=True)
class Probe:
    """layers: blocks of the draft (None: all, and only of `bfloat16`); share: candidates for one of the probe set (the
    paper's 16); reduction: R, the least reduction of the rest (the paper's 8); draft: `head`, `gradient` or
    `bfloat16`."""

    layers: int | None = None
    share: int = 16
    reduction: float = 8.0
    draft: str = "head"

    def __post_init__(self) -> None:
        if self.draft not in ("head", "gradient", "bfloat16"):
            raise ValueError(f"probe.draft is {self.draft!r}; use 'head', 'gradient' or 'bfloat16'")
        if (self.layers is None) != (self.draft == "bfloat16"):
            raise ValueError(f"probe.draft {self.draft!r} {'needs' if self.layers is None else 'takes no'} layers")
        if min(self.share, self.reduction, *(() if self.layers is None else [self.layers])) < 1:
            raise ValueError(f"probe sampling needs layers, share and reduction of at least 1; got {self}")


Score = Callable[[Sequence[Current], Sequence[Tensor], BatchSize, float | None], list[Scored]]
"""(cases, candidates [W, n] of each, batch size, mellowmax's α) -> their objectives; +∞ where a draft left one out."""


def scorer(runner: Runner, probe: Probe | None, sharded: bool = False) -> Score:
    """How the candidates of a search are scored: all of them exactly, or those that a draft leaves.

    Raises:
        ValueError: a bfloat16 draft of a model that is in bfloat16 itself, or whose weights are sharded.
    """
    if probe is None:
        return lambda currents, candidates, batch, alpha: score(runner, currents, candidates, batch, alpha)
    if probe.draft != "bfloat16":
        return lambda currents, candidates, batch, alpha: screen(runner, currents, candidates, batch, alpha, probe)
    if runner.dtype == torch.bfloat16:
        raise ValueError(
            "probe.draft is 'bfloat16', and so is the model: nothing would be gained; score all (no probe)"
        )
    if sharded:
        raise ValueError("probe.draft is 'bfloat16', which needs a copy of the model, and its weights are sharded")
    half = Runner(copy.deepcopy(runner.model).to(torch.bfloat16))
    return lambda currents, candidates, batch, alpha: screen_in_half(
        runner, half, currents, candidates, batch, alpha, probe.reduction
    )


def screen_in_half(
    runner: Runner,
    half: Runner,
    currents: Sequence[Current],
    candidates: Sequence[Tensor],
    batch: BatchSize,
    alpha: float | None,
    reduction: float,
) -> list[Scored]:
    """`score`, exactly for the ⌈W / R⌉ best of each case's W candidates by the draft `half`; +∞ for the others."""
    drafts = score(half, [current.in_dtype(half.dtype) for current in currents], candidates, batch, alpha)
    best = [
        each.losses.argsort(stable=True)[: math.ceil(len(each.losses) / reduction)].sort().values for each in drafts
    ]
    exact = score(runner, currents, [rows[which] for rows, which in zip(candidates, best, strict=True)], batch, alpha)
    return [
        _together(len(each.losses), each.tokens, [(which, scored)])
        for each, which, scored in zip(drafts, best, exact, strict=True)
    ]


def _together(width: int, tokens: int, parts: Sequence[tuple[Tensor, Scored]]) -> Scored:
    """What was scored exactly, at its places among all candidates; tokens: of the draft."""
    whole = Scored(torch.full((width,), torch.inf), torch.zeros(width, dtype=torch.bool), tokens)
    for which, scored in parts:
        whole.losses[which], whole.exact[which] = scored.losses, scored.exact
        whole.tokens += scored.tokens
    return whole


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

    probed, kept = zip(sets, first, strict=True), zip(rest, second, strict=True)
    return [_together(w, guess.tokens, parts) for w, guess, *parts in zip(sizes, cheap, probed, kept, strict=True)]


def spearman(a: Tensor, b: Tensor) -> float:
    """Rank correlation of two vectors without regard to ties; 0 where it is not defined."""
    ranks = torch.stack([x.argsort(stable=True).argsort().double() for x in (a, b)])
    return float(torch.corrcoef(ranks).nan_to_num(0.0)[0, 1]) if len(a) > 1 else 0.0
