"""Rows of the tables of geometry: a checkpoint's coupling and its companions, its field of differences and drift, its profile.

`params` everywhere: seed, regime, reference (step), subspace_k, tau, bootstrap, splits, shuffles, fixed_layers, harmfulness {score}.
"""

import pandas as pd

from safety_geometry.carriers import H_SCORES
from safety_geometry.checkpoint import Checkpoint, Site
from safety_geometry.companions import (
    QUANTITIES,
    Companion,
    bootstrap_intervals,
    fixed_layer_companions,
    fixed_layer_only,
    own_site_companions,
    own_sites_only,
)
from safety_geometry.coupling import Coupling, SiteDrift, field_geometry, principal_angles, site_drift

CONTROLS = ["seed", "regime", "step", "anchor", "companion", "layer_h", "pos_h", "layer_r", "pos_r", "quantity", "value",
            "lo", "hi", "n"]  # fmt: skip
OF_R = ["admissible", "c_layer", *(f"{name}{end}" for name in QUANTITIES for end in ("", "_lo", "_hi")), "s_total", "s_refuse",
        "s_comply", "kl", "s_total_lo", "s_total_hi", "site_share", "none_share"]  # fmt: skip


def couple_one(c: Checkpoint, reference: Checkpoint, params: dict) -> tuple[dict, list[dict]]:
    """The checkpoint's row of the coupling table, and its rows of coupling_controls."""
    row = identity(c, params) | {"selection": c.selection} | sites(c.h_site, c.r_site if c.has_r else None)
    if not c.has_r:
        return row | dict.fromkeys(OF_R) | frozen(c, reference) | of_h(c), []
    observed = c.coupling()
    intervals, own, fixed = (resampled if c.activations.per_prompt else as_read)(c, observed, params)
    row |= {"admissible": c.carrier("R").admissible, "c_layer": observed.c_layer}
    for name in QUANTITIES:
        row |= {name: getattr(observed, name), f"{name}_lo": intervals[name][0], f"{name}_hi": intervals[name][1]}
    for name in ("s_total", "s_refuse", "s_comply", "kl"):
        row[name] = None if c.r_row is None else c.r_row[name]
    for name in ("s_total_lo", "s_total_hi", "site_share", "none_share"):
        row[name] = None if c.stability is None else getattr(c.stability, name)
    row |= frozen(c, reference) | of_h(c)

    here = [(sites(c.h_site, c.r_site), x) for x in own]
    for layer, found in fixed.items():
        here += [(sites((c.h_site[0], layer), (c.r_site[0], layer)), x) for x in found]
    return row, [identity(c, params) | {"companion": x.companion} | where | vars(x) for where, x in here]


def describe_geometry(checkpoints: list[Checkpoint], params: dict) -> list[dict]:
    """Spectrum of the mean-difference field over the candidate grid, and drift from the reference and the save before."""
    reference = next(c for c in checkpoints if c.step == params["reference"])
    grid = next((c.candidates for c in [reference, *checkpoints] if c.candidates is not None), None)
    fields = {} if grid is None else {
        c.step: field_geometry(
            c.r_delta[[c.index((p, 0))[0] for p in c.subspace_positions]][:, sorted(set(grid.layer))], params["subspace_k"]
        )
        for c in checkpoints
        if c.r_delta is not None
    }  # fmt: skip
    rows = []
    for previous, c in zip([None, *checkpoints], checkpoints, strict=False):
        shape, its = fields.get(c.step), fields.get(reference.step)
        row = identity(c, params) | {"selection": c.selection, "reference": reference.step}
        row |= {name: shape and getattr(shape, name) for name in ("erank", "pr", "k90", "k95")}
        angles = principal_angles(shape.basis, its.basis) if shape and its else []
        row |= {f"angle_{i + 1}": angles[i] if i < len(angles) else None for i in range(3)}
        for kind in "HR":
            row[f"norm_{kind.lower()}"] = c.carrier(kind).norm if kind == "H" or c.has_r else None
            for label, other in (("ref", reference), ("prev", previous)):
                moved = drift(kind, c, other) if other else None
                row[f"drift_{kind.lower()}_{label}"] = moved and moved.own
                row[f"cos_fixed_{kind.lower()}_{label}"] = moved and moved.fixed
        for name in ("s_total", "s_refuse"):
            known = c.r_row is not None and reference.r_row is not None
            row[f"{name}_drift"] = c.r_row[name] - reference.r_row[name] if known else None
        rows.append(row)
    return rows


def profile(c: Checkpoint, params: dict) -> pd.DataFrame:
    """Tidy scores per candidate site: H's three validation scores per layer, R's scores per layer and position."""
    h = c.profile.melt("layer", list(H_SCORES), "quantity").assign(
        carrier="H", position=str(c.h_site[0]), admissible=None
    )
    h["selected"] = (h.layer == c.h_site[1]) & (h.quantity == params["harmfulness"]["score"])
    frames = [h]
    if c.candidates is not None:
        quantities = ["s_total", "s_refuse", "s_comply", "kl"]
        r = c.candidates.melt(["layer", "position", "admissible"], quantities, "quantity").assign(carrier="R")
        r["selected"] = (r.layer == c.r_site[1]) & (r.position == c.r_site[0]) & (r.quantity == "s_total")
        frames.append(r.assign(position=r.position.map(str), admissible=r.admissible.astype(object)))
    frame = pd.concat(frames, ignore_index=True).assign(**identity(c, params))
    columns = ["carrier", "layer", "position", "quantity", "value", "admissible", "selected"]
    return frame[[*identity(c, params), *columns]]


def identity(c: Checkpoint, params: dict) -> dict:
    return {"seed": params["seed"], "regime": params["regime"], "step": c.step, "anchor": c.anchor}


def sites(h: Site, r: Site | None) -> dict:
    pos_r, layer_r = r or (None, None)
    return {"layer_h": h[1], "pos_h": str(h[0]), "layer_r": layer_r, "pos_r": pos_r}


def frozen(c: Checkpoint, reference: Checkpoint) -> dict:
    """Coupling with both carriers read where the reference anchor reads them: no change of site moves it."""
    sites = reference.h_site, reference.r_site
    found = c.coupling(sites) if reference.r_site is not None and c.r_delta is not None else None
    return {f"{name}_frozen": found and getattr(found, name) for name in ("hrci", "hrci_repr", "c_cos", "c_sub")}


def of_h(c: Checkpoint) -> dict:
    return {"h_score": c.carrier("H").score, "n_harmful": c.n_fit[0], "n_benign": c.n_fit[1]}


Found = tuple[dict[str, tuple[float, float]], list[Companion], dict[int, list[Companion]]]


def resampled(c: Checkpoint, observed: Coupling, params: dict) -> Found:
    """Intervals of the coupling terms, companions at the carriers' own sites, and companions by fixed layer."""
    k, tau, pair = params["subspace_k"], params["tau"], c.pair()
    counts = {"bootstrap": params["bootstrap"], "splits": params["splits"], "rng": c.rng, "k": k}
    intervals = bootstrap_intervals(pair, params["bootstrap"], c.rng("bootstrap"), k, tau)
    own = own_site_companions(pair, observed, intervals, shuffles=params["shuffles"], tau=tau, **counts)
    return intervals, own, {ell: fixed_layer_companions(c.pair(ell), **counts) for ell in params["fixed_layers"]}


def as_read(c: Checkpoint, observed: Coupling, params: dict) -> Found:
    """The same of a save that kept its means only: values without what needs resampling."""
    k, tau, d, layers = params["subspace_k"], params["tau"], c.delta.shape[-1], (c.h_site[1], c.r_site[1])
    fixed = {ell: fixed_layer_only(*c.read_at(ell), c.scale(ell)) for ell in params["fixed_layers"]}
    return dict.fromkeys(QUANTITIES, (float("nan"),) * 2), own_sites_only(observed, d, *layers, k, tau), fixed


def drift(kind: str, c: Checkpoint, other: Checkpoint) -> SiteDrift | None:
    """Of one carrier between two checkpoints; None where one of them lacks it."""
    if kind == "H":
        return site_drift(c.delta, other.delta, c.index(c.h_site), other.index(other.h_site))
    if not (c.has_r and other.has_r):
        return None
    return site_drift(c.r_delta, other.r_delta, c.index(c.r_site), other.index(other.r_site))
