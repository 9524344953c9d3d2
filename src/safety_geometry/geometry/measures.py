"""What is measured of a checkpoint whose sites are chosen: its coupling, at frozen sites too, and what stands beside
it."""

from dataclasses import dataclass

import numpy as np

from safety_geometry.geometry.carriers import unit
from safety_geometry.geometry.checkpoint import Contrasts, GeometrySettings, SelectedCheckpoint
from safety_geometry.geometry.companions import (
    QUANTITIES,
    Companion,
    PairSites,
    bootstrap_intervals,
    fixed_layer_companions,
    fixed_layer_only,
    own_site_companions,
    own_sites_only,
)
from safety_geometry.geometry.coupling import Coupling, couple
from safety_geometry.settings.identity import Site

Intervals = dict[str, tuple[float, float]]


@dataclass(frozen=True, eq=False)
class Measured:
    """coupling: at the carriers' sites, with `intervals` (None and empty where there is no R of its own); frozen: at
    the sites of the reference anchor, R's wherever it is read there (`CarrierPair.r_status`); companions: at the
    carriers' sites; fixed: by common layer, R at the position where it is read."""

    coupling: Coupling | None
    frozen: Coupling | None
    intervals: Intervals
    companions: list[Companion]
    fixed: dict[int, list[Companion]]


def measure(checkpoint: SelectedCheckpoint, reference: SelectedCheckpoint, settings: GeometrySettings) -> Measured:
    h, r, contrasts = checkpoint.carriers.h, checkpoint.carriers.r, checkpoint.contrasts
    frozen = _frozen(contrasts, reference, settings)
    beside = _resampled if contrasts.cache.per_prompt else _as_read
    if r is None:
        if (site := checkpoint.r_site) is None:
            return Measured(None, frozen, {}, [], {})
        fixed = (_fixed if contrasts.cache.per_prompt else _fixed_as_read)(contrasts, h.site, site, settings)
        return Measured(None, frozen, {}, [], fixed)
    coupling = couple(h.direction, r.direction, h.subspace, r.subspace, h.layer, r.layer, settings.tau)
    return Measured(coupling, frozen, *beside(contrasts, h.site, r.site, coupling, settings))


def _frozen(contrasts: Contrasts, reference: SelectedCheckpoint, settings: GeometrySettings) -> Coupling | None:
    """Coupling with both carriers read where the reference anchor reads them: no change of site moves it."""
    h, r_site = reference.carriers.h, reference.r_site
    if r_site is None or contrasts.r is None:
        return None
    layer = r_site[1]
    directions = unit(contrasts.raw("H", h.site)), unit(contrasts.raw("R", r_site))
    subspaces = contrasts.subspace("H", h.layer, settings), contrasts.subspace("R", layer, settings)
    return couple(*directions, *subspaces, h.layer, layer, settings.tau)


Beside = tuple[Intervals, list[Companion], dict[int, list[Companion]]]


def _resampled(contrasts: Contrasts, h: Site, r: Site, coupling: Coupling, settings: GeometrySettings) -> Beside:
    """Intervals of the coupling terms, companions at the carriers' own sites, and companions by fixed layer."""
    k, tau, pair = settings.subspace_k, settings.tau, _pair(contrasts, h, r, settings)
    counts = {"bootstrap": settings.bootstrap, "splits": settings.splits, "rng": settings.rng, "k": k}
    intervals = bootstrap_intervals(pair, settings.bootstrap, settings.rng("bootstrap"), k, tau)
    companions = own_site_companions(pair, coupling, intervals, shuffles=settings.shuffles, tau=tau, **counts)
    return intervals, companions, _fixed(contrasts, h, r, settings)


def _fixed(contrasts: Contrasts, h: Site, r: Site, settings: GeometrySettings) -> dict[int, list[Companion]]:
    """Companions by fixed layer, H and R at the positions of these sites."""
    counts = {"bootstrap": settings.bootstrap, "splits": settings.splits, "rng": settings.rng, "k": settings.subspace_k}
    return {
        layer: fixed_layer_companions(_pair(contrasts, (h[0], layer), (r[0], layer), settings), **counts)
        for layer in settings.fixed_layers
    }


def _as_read(contrasts: Contrasts, h: Site, r: Site, coupling: Coupling, settings: GeometrySettings) -> Beside:
    """The same of a save that kept its means only: values without what needs resampling."""
    companions = own_sites_only(coupling, contrasts.h.shape[-1], h[1], r[1], settings.subspace_k, settings.tau)
    return dict.fromkeys(QUANTITIES, (float("nan"),) * 2), companions, _fixed_as_read(contrasts, h, r, settings)


def _fixed_as_read(contrasts: Contrasts, h: Site, r: Site, settings: GeometrySettings) -> dict[int, list[Companion]]:
    return {
        layer: fixed_layer_only(
            contrasts.raw("H", (h[0], layer)), contrasts.raw("R", (r[0], layer)), contrasts.scale(layer)
        )
        for layer in settings.fixed_layers
    }


def _pair(contrasts: Contrasts, h_site: Site, r_site: Site, settings: GeometrySettings) -> PairSites:
    """Fit activations at two sites. Only where they were kept per prompt."""
    cache, (h_layer, r_layer) = contrasts.cache, (h_site[1], r_site[1])
    h, n_harmful = cache.fit(*h_site)
    r, _ = cache.fit(*r_site)

    def rows(layer: int) -> np.ndarray:
        return np.stack([cache.fit(position, layer)[0] for position in settings.positions])

    h_rows = rows(h_layer)
    r_rows = h_rows if r_layer == h_layer else rows(r_layer)
    scales = contrasts.scale(h_layer), contrasts.scale(r_layer)
    return PairSites(h, r, h_rows, r_rows, n_harmful, h_layer, r_layer, *scales, cache.refused())
