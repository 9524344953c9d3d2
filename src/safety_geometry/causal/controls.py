"""Matched controls of the causal sweep: directions that are not the carrier, with everything else as it is.

A control acts at its target's layer(s), with its target's family, strength and number of directions. Seven kinds:

- `random`: isotropic, u = g / ‖g‖, g ~ N(0, I).
- `covariance`: as activations vary there, u = g / ‖g‖, g ~ N(0, Σ), Σ the covariance within the classes of the fit
  activations at that layer and position.
- `shuffled`: the carrier that the same extraction gives with the labels of the fit prompts permuted.
- `wrong_layer`: the carrier's direction read at a layer at least L/4 away (arXiv 2606.16349), applied at the target's
layer.
- `wrong_position`: the direction read at the same layer and another position (arXiv 2606.16349).
- `norm_matched`: a random subspace that takes away the same energy, or for steering a random vector of the same length.
- `selected`: in R's place the best of a set of label-shuffled directions, chosen as R was (`geometry.refusal_scores`),
at the layer where it was chosen.

The first three do not depend on the mode: they are drawn once per carrier and shared by the modes that act at its
layer.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from safety_geometry.causal.modes import Part, orthonormal
from safety_geometry.causal.names import SHARED
from safety_geometry.geometry.carriers import NEGLIGIBLE
from safety_geometry.geometry.coupling import position_subspace
from safety_geometry.settings.identity import Site
from safety_geometry.stats.seeds import derived_seed, generator

REDRAWS = 20


@dataclass(frozen=True, eq=False)
class Source:
    """Where controls of one carrier come from.

    site: of the carrier. fit(position, layer) -> activations [N, d] float64, harmful first, and how many are harmful.
    positions: those that were recorded; subspace_positions: the rows of a subspace. n_layers: L. rank: directions
    wanted.
    """

    carrier: str
    site: Site
    fit: Callable[[int | str, int], tuple[np.ndarray, int]]
    positions: Sequence[int | str]
    subspace_positions: Sequence[int]
    n_layers: int
    rank: int = 1
    _cache: dict = field(default_factory=dict, repr=False)

    def activations(self, position: int | str, layer: int) -> tuple[np.ndarray, int]:
        if (position, layer) not in self._cache:
            self._cache[position, layer] = self.fit(position, layer)
        return self._cache[position, layer]

    def directions(self, position: int | str, layer: int, order: np.ndarray | None = None) -> np.ndarray | None:
        """Carrier [1, d] or subspace [rank, d] that the extraction gives at a site, labels permuted by `order`; None
        where there are not as many directions (template tokens at layer 0 differ by nothing)."""
        if self.rank == 1:
            rows = self._difference(position, layer, order)[None]
        else:
            rows = np.stack([self._difference(p, layer, order) for p in self.subspace_positions])
            rows = position_subspace(rows, min(self.rank, len(rows))).T
        largest = np.abs(self.activations(position, layer)[0]).max()
        if len(rows) < self.rank or np.linalg.norm(rows) <= NEGLIGIBLE * largest:
            return None
        return orthonormal(rows)

    def _difference(self, position, layer, order) -> np.ndarray:
        values, n = self.activations(position, layer)
        values = values if order is None else values[order]
        return values[:n].mean(0) - values[n:].mean(0)


@dataclass(frozen=True, eq=False)
class Control:
    """One control part: `number` within its kind, the seed it was drawn with, and where its direction was read."""

    kind: str
    number: int
    part: Part
    seed: int | None = None
    source: Site | None = None


def draw_shared(kind: str, source: Source, count: int, seed: int) -> list[Control]:
    """`count` controls of a shared kind at the carrier's layer; the n-th is the same whatever the count.

    A permutation whose classes do not differ is drawn again, REDRAWS times at most; then this number is left out.
    """
    layer = source.site[1]
    values, n = source.activations(*source.site)
    controls = []
    for number in range(count):
        own_seed = derived_seed(seed, kind, source.carrier, number)
        rng = np.random.default_rng(own_seed)
        if kind == "random":
            rows = orthonormal(rng.standard_normal((source.rank, values.shape[1])))
        elif kind == "covariance":
            centred = np.concatenate([values[:n] - values[:n].mean(0), values[n:] - values[n:].mean(0)])
            rows = orthonormal(rng.standard_normal((source.rank, len(centred))) @ centred)
        elif kind == "shuffled":
            tries = (source.directions(*source.site, rng.permutation(len(values))) for _ in range(1 + REDRAWS))
            rows = next((rows for rows in tries if rows is not None), None)
        else:
            raise ValueError(f"{kind!r} is not a shared kind of control; these are {', '.join(SHARED)}")
        if rows is not None:
            read = source.site if kind == "shuffled" else None
            controls.append(Control(kind, number, Part(source.carrier, layer, rows), own_seed, read))
    return controls


def wrong_layers(source: Source, count: int, seed: int) -> list[Control]:
    """Directions of the same position read at least L/4 layers away; fewer where there are not as many such layers."""
    position, layer = source.site
    far = [ell for ell in range(source.n_layers) if abs(ell - layer) >= source.n_layers / 4]
    return _read(source, "wrong_layer", [(position, ell) for ell in far], count, seed)


def wrong_positions(source: Source, count: int, seed: int) -> list[Control]:
    """Directions of the same layer read at the other recorded positions. A subspace is made of all positions: none."""
    position, layer = source.site
    others = [p for p in source.positions if p != position] if source.rank == 1 else []
    return _read(source, "wrong_position", [(p, layer) for p in others], count, seed)


def _read(source: Source, kind: str, sites: list[Site], count: int, seed: int) -> list[Control]:
    order = generator(seed, kind, source.carrier).permutation(len(sites))
    controls: list[Control] = []
    for i in order:
        rows = source.directions(*sites[i])
        if rows is not None and len(controls) < count:
            controls.append(Control(kind, len(controls), Part(source.carrier, source.site[1], rows), None, sites[i]))
    return controls


def energy(basis: np.ndarray, stream: np.ndarray) -> float:
    """Share of the energy of the stream [M, d] that lies in the span of orthonormal rows [k, d]: Σ‖Qa‖² / Σ‖a‖²."""
    return float(np.sum((stream @ basis.T) ** 2) / np.sum(stream**2))


def norm_matched(
    part: Part, stream: np.ndarray, count: int, seed: int, bases: dict | None = None
) -> list[tuple[Control, float]]:
    """Random subspaces that take away as much energy of `stream` [M, d] as `part`, each with the factor on its
    strength.

    Random directions are added until they hold at least the target's energy; the strength is then lowered by
    √(target's / theirs), since the energy that is removed grows with λ². `bases` keeps the directions from call to
    call, each by its seed and the layer whose stream this is, and as many of its directions as a part needed.
    """
    wanted, bases, d = energy(part.basis, stream), {} if bases is None else bases, stream.shape[1]
    controls = []
    for number in range(count):
        own_seed = derived_seed(seed, "norm_matched", part.carrier, number)
        shares, basis = bases.get((part.layer, own_seed), (None, np.empty((d, 0))))
        k = 0 if shares is None else _fewest(shares, wanted)
        if shares is None or k > basis.shape[1]:  # of the d × d directions only those are kept that were needed
            basis, _ = np.linalg.qr(np.random.default_rng(own_seed).standard_normal((d, d)))
            shares = np.cumsum(np.sum((stream @ basis) ** 2, axis=0)) / np.sum(stream**2)
            k = _fewest(shares, wanted)
            bases[part.layer, own_seed] = shares, basis[:, :k].copy()
        factor = math.sqrt(min(wanted / shares[k - 1], 1.0))
        control = Control(
            "norm_matched", number, Part(part.carrier, part.layer, np.ascontiguousarray(basis.T[:k])), own_seed
        )
        controls.append((control, factor))
    return controls


def _fewest(shares: np.ndarray, wanted: float) -> int:
    """How many directions hold as much energy as is wanted, from what the first 1, 2 … of them hold."""
    return min(int(np.searchsorted(shares, wanted)) + 1, len(shares))
