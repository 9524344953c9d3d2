"""Rows of the tables of geometry: a checkpoint's coupling and its companions, its field of differences and drift, its
profile."""

from collections.abc import Sequence

import pandas as pd

from safety_geometry.artefacts.tables.geometry import COUPLING_CONTROLS, NEEDING_R, PROFILE
from safety_geometry.artefacts.tables.specification import names
from safety_geometry.geometry.carriers import H_SCORES
from safety_geometry.geometry.checkpoint import GeometrySettings, SelectedCheckpoint
from safety_geometry.geometry.companions import QUANTITIES
from safety_geometry.geometry.coupling import SiteDrift, field_geometry, principal_angles, site_drift
from safety_geometry.geometry.measures import Measured, measure
from safety_geometry.settings.identity import Site

TABLES = ("coupling", "geometry", "controls", "profile")
CHOICE = ("s_total", "s_refuse", "s_comply", "kl")
STABILITY = ("s_total_lo", "s_total_hi", "site_share", "none_share")
OF_R = names(NEEDING_R)
FROZEN = ("hrci", "hrci_repr", "c_cos", "c_sub")


def regime_tables(
    checkpoints: Sequence[SelectedCheckpoint], reference: int, settings: GeometrySettings
) -> dict[str, pd.DataFrame]:
    """`TABLES` of a regime's checkpoints in order of steps; reference: step of the reference anchor."""
    anchor = next(each for each in checkpoints if each.checkpoint.step == reference)
    measured = [(each, measure(each, anchor, settings)) for each in checkpoints]
    controls = [row for pair in measured for row in companion_rows(*pair)]
    return {
        "coupling": pd.DataFrame([coupling_row(*pair) for pair in measured]),
        "controls": pd.DataFrame(controls, columns=COUPLING_CONTROLS.names),
        "geometry": pd.DataFrame(describe_geometry(checkpoints, anchor, settings)),
        "profile": pd.concat([profile(each, settings.h_score) for each in checkpoints]),
    }


def coupling_row(selected: SelectedCheckpoint, measured: Measured) -> dict:
    """A checkpoint's row of the coupling table."""
    h, r, choice = selected.carriers.h, selected.carriers.r, selected.choice
    row = selected.checkpoint.columns() | {"selection": selected.carriers.selection} | _sites(h.site, r and r.site)
    row |= dict.fromkeys(OF_R)
    if measured.coupling is not None:
        row |= {"admissible": r.admissible, "c_layer": measured.coupling.c_layer}
        for name in QUANTITIES:
            lo, hi = measured.intervals[name]
            row |= {name: getattr(measured.coupling, name), f"{name}_lo": lo, f"{name}_hi": hi}
        if choice is not None:
            row |= {name: choice.row[name] for name in CHOICE}
            row |= {name: getattr(choice.stability, name) for name in STABILITY}
    row |= {f"{name}_frozen": measured.frozen and getattr(measured.frozen, name) for name in FROZEN}
    return row | {"h_score": h.score, "n_harmful": selected.n_fit[0], "n_benign": selected.n_fit[1]}


def companion_rows(selected: SelectedCheckpoint, measured: Measured) -> list[dict]:
    """A checkpoint's rows of coupling_controls."""
    h, r = selected.carriers.h, selected.carriers.r
    rows = [(_sites(h.site, r.site), companion) for companion in measured.companions]
    for layer, companions in measured.fixed.items():
        sites = _sites((h.position, layer), (r.position, layer))
        rows += [(sites, companion) for companion in companions]
    identity = selected.checkpoint.columns()
    return [identity | {"companion": companion.companion} | sites | vars(companion) for sites, companion in rows]


def describe_geometry(
    checkpoints: Sequence[SelectedCheckpoint], reference: SelectedCheckpoint, settings: GeometrySettings
) -> list[dict]:
    """Spectrum of the mean-difference field over the candidate grid, and drift from the reference and the save
    before."""
    choice = next((each.choice for each in [reference, *checkpoints] if each.choice is not None), None)
    fields = {}
    if choice is not None:
        layers = sorted(set(choice.candidates.layer))
        for each in checkpoints:
            if each.contrasts.r is not None:
                positions = [each.contrasts.cache.index(position) for position in settings.positions]
                field = each.contrasts.r[positions][:, layers]
                fields[each.checkpoint.step] = field_geometry(field, settings.subspace_k)
    shape_of_reference = fields.get(reference.checkpoint.step)
    rows = []
    for previous, each in zip([None, *checkpoints], checkpoints, strict=False):
        shape = fields.get(each.checkpoint.step)
        row = each.checkpoint.columns()
        row |= {"selection": each.carriers.selection, "reference": reference.checkpoint.step}
        row |= {name: shape and getattr(shape, name) for name in ("erank", "pr", "k90", "k95")}
        angles = principal_angles(shape.basis, shape_of_reference.basis) if shape and shape_of_reference else []
        row |= {f"angle_{i + 1}": angles[i] if i < len(angles) else None for i in range(3)}
        for kind in "HR":
            carrier = each.carrier(kind)
            row[f"norm_{kind.lower()}"] = carrier and carrier.norm
            for label, other in (("ref", reference), ("prev", previous)):
                moved = _drift(kind, each, other) if other else None
                row[f"drift_{kind.lower()}_{label}"] = moved and moved.own_sites
                row[f"cos_fixed_{kind.lower()}_{label}"] = moved and moved.fixed
        for name in ("s_total", "s_refuse"):
            known = each.choice is not None and reference.choice is not None
            row[f"{name}_drift"] = each.choice.row[name] - reference.choice.row[name] if known else None
        rows.append(row)
    return rows


def profile(selected: SelectedCheckpoint, h_score: str) -> pd.DataFrame:
    """Tidy scores per candidate site: H's three validation scores per layer, R's scores per layer and position.
    h_score: the one that chose H's layer."""
    carrier, choice = selected.carriers.h, selected.choice
    h = selected.profile.melt("layer", list(H_SCORES), "quantity").assign(
        carrier="H", position=str(carrier.position), admissible=None
    )
    h["selected"] = (h.layer == carrier.layer) & (h.quantity == h_score)
    frames = [h]
    if choice is not None:
        r = choice.candidates.melt(["layer", "position", "admissible"], list(CHOICE), "quantity").assign(carrier="R")
        at_site = (r.layer == choice.row.layer) & (r.position == choice.row.position)
        r["selected"] = at_site & (r.quantity == "s_total")
        frames.append(r.assign(position=r.position.map(str), admissible=r.admissible.astype(object)))
    return pd.concat(frames, ignore_index=True).assign(**selected.checkpoint.columns())[PROFILE.names]


def _sites(h: Site, r: Site | None) -> dict:
    pos_r, layer_r = r or (None, None)
    return {"layer_h": h[1], "pos_h": str(h[0]), "layer_r": layer_r, "pos_r": pos_r}


def _drift(kind: str, each: SelectedCheckpoint, other: SelectedCheckpoint) -> SiteDrift | None:
    """Of one carrier between two checkpoints; None where one of them lacks it."""
    carrier, others = each.carrier(kind), other.carrier(kind)
    if carrier is None or others is None:
        return None
    fields = each.contrasts.field(kind), other.contrasts.field(kind)
    return site_drift(*fields, each.contrasts.index(carrier.site), other.contrasts.index(others.site))
