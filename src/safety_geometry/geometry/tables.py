"""Rows of the tables of geometry: a checkpoint's coupling and its companions, its field of differences and drift, its
profile."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from safety_geometry.artefacts.tables.geometry import (
    COUPLING,
    COUPLING_CONTROLS,
    NEEDING_R,
    PROFILE,
    SELECTION_TABLE,
)
from safety_geometry.artefacts.tables.specification import names
from safety_geometry.geometry.carriers import H_SCORES, unit
from safety_geometry.geometry.checkpoint import GeometrySettings, SelectedCheckpoint
from safety_geometry.geometry.companions import QUANTITIES
from safety_geometry.geometry.coupling import SiteDrift, field_geometry, principal_angles, site_drift
from safety_geometry.geometry.measures import Measured, measure
from safety_geometry.geometry.paired_gain import Scored, fall
from safety_geometry.geometry.selection import Choice
from safety_geometry.geometry.separability import Scores, ruler_columns, separability_table
from safety_geometry.settings.identity import Site

TABLES = ("coupling", "geometry", "controls", "profile", "selection", "separability")
CHOICE = ("s_total", "s_refuse", "s_comply", "kl")
OF_R_SITE = ("effect", "cosmic", *CHOICE)
OF_R = names(NEEDING_R)
FROZEN = ("hrci", "hrci_repr", "c_cos", "c_sub")


def regime_tables(
    checkpoints: Sequence[SelectedCheckpoint],
    reference: int,
    settings: GeometrySettings,
    rulers: Mapping[str, Scores],
) -> dict[str, pd.DataFrame]:
    """`TABLES` of a regime's checkpoints in order of steps; reference: step of the reference anchor; rulers: what
    plain properties of the select prompts give away, by name."""
    anchor = next(each for each in checkpoints if each.checkpoint.step == reference)
    measured = [(each, measure(each, anchor, settings)) for each in checkpoints]
    controls = [row for pair in measured for row in companion_rows(*pair)]
    beside = ruler_columns(rulers)
    return {
        "coupling": pd.DataFrame([coupling_row(*pair) | beside for pair in measured])[COUPLING.names],
        "controls": pd.DataFrame(controls, columns=COUPLING_CONTROLS.names),
        "geometry": pd.DataFrame(describe_geometry(checkpoints, anchor, settings)),
        "profile": pd.concat([profile(each, settings.h_score, beside) for each in checkpoints]),
        "selection": selection_table(checkpoints, anchor, settings),
        "separability": separability_table(checkpoints, rulers, settings),
    }


def coupling_row(selected: SelectedCheckpoint, measured: Measured) -> dict:
    """A checkpoint's row of the coupling table."""
    h, r, choice = selected.carriers.h, selected.carriers.r, selected.choice
    row = selected.checkpoint.columns() | {"selection": selected.carriers.selection} | _status(selected)
    row |= _sites(h.site, r and r.site)
    row |= dict.fromkeys(OF_R)
    if measured.coupling is not None:
        row |= {"admissible": r.admissible, "c_layer": measured.coupling.c_layer}
        for name in QUANTITIES:
            lo, hi = measured.intervals[name]
            row |= {name: getattr(measured.coupling, name), f"{name}_lo": lo, f"{name}_hi": hi}
        if choice is not None:
            row |= {name: choice.row[name] for name in CHOICE}
            row |= dict(zip(("s_total_lo", "s_total_hi"), choice.s_total, strict=True))
            row |= {"site_share": choice.own.share, "none_share": choice.own.none_share}
    row |= {f"{name}_frozen": measured.frozen and getattr(measured.frozen, name) for name in FROZEN}
    return row | {"h_score": h.score, "n_harmful": selected.n_fit[0], "n_benign": selected.n_fit[1]}


def companion_rows(selected: SelectedCheckpoint, measured: Measured) -> list[dict]:
    """A checkpoint's rows of coupling_controls."""
    h, r = selected.carriers.h, selected.r_site
    rows = [(_sites(h.site, r), companion) for companion in measured.companions]
    for layer, companions in measured.fixed.items():
        sites = _sites((h.position, layer), (r[0], layer))
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
        row |= {"selection": each.carriers.selection} | _status(each) | {"reference": reference.checkpoint.step}
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


def profile(selected: SelectedCheckpoint, h_score: str, rulers: Mapping[str, float]) -> pd.DataFrame:
    """Tidy scores per candidate site: H's three validation scores per layer, R's scores per layer and position.
    h_score: the one that chose H's layer."""
    carrier, choice = selected.carriers.h, selected.choice
    h = selected.profile.melt("layer", list(H_SCORES), "quantity").assign(
        carrier="H", position=str(carrier.position), admissible=None
    )
    h["selected"] = (h.layer == carrier.layer) & (h.quantity == h_score)
    frames = [h]
    if choice is not None:
        r = choice.candidates.melt(["layer", "position", "admissible"], list(OF_R_SITE), "quantity").assign(carrier="R")
        at_site = (r.layer == choice.own.layer) & (r.position == choice.own.position)
        r["selected"] = at_site & (r.quantity == choice.selector)
        frames.append(r.assign(position=r.position.map(str), admissible=r.admissible.astype(object)))
    return pd.concat(frames, ignore_index=True).assign(**selected.checkpoint.columns(), **rulers)[PROFILE.names]


def _sites(h: Site, r: Site | None) -> dict:
    pos_r, layer_r = r or (None, None)
    return {"layer_h": h[1], "pos_h": str(h[0]), "layer_r": layer_r, "pos_r": pos_r}


def _status(selected: SelectedCheckpoint) -> dict:
    return {"r_status": selected.carriers.r_status, "r_reason": selected.carriers.r_missing or None}


def _drift(kind: str, each: SelectedCheckpoint, other: SelectedCheckpoint) -> SiteDrift | None:
    """Of one carrier between two checkpoints, R at the sites where it is read; None where one of them has none, and no
    drift of own sites where one of them is not its own."""
    sites = [some.carriers.h.site if kind == "H" else some.r_site for some in (each, other)]
    if None in sites:
        return None
    fields = each.contrasts.field(kind), other.contrasts.field(kind)
    drift = site_drift(*fields, each.contrasts.index(sites[0]), other.contrasts.index(sites[1]))
    own = each.carrier(kind) is not None and other.carrier(kind) is not None
    return drift if own else SiteDrift(None, drift.fixed)


def selection_table(
    checkpoints: Sequence[SelectedCheckpoint], reference: SelectedCheckpoint, settings: GeometrySettings
) -> pd.DataFrame:
    """What each selector chooses at each anchor, beside doing nothing, the next best site, the null, and its gain at
    the reference anchor."""
    rows = [
        each.checkpoint.columns() | selection_row(each, found, settings) | fall_row(each, found, reference, settings)
        for each in checkpoints
        if each.choice is not None
        for found in each.choice.choices.values()
    ]
    return pd.DataFrame(rows, columns=SELECTION_TABLE.names)


def selection_row(selected: SelectedCheckpoint, found: Choice, settings: GeometrySettings) -> dict:
    scores, finals, second = selected.choice.scores, found.finals, found.runner_up
    openings, status = scores.openings, "none" if found.reason else "own"
    if found.in_charge:
        status = selected.carriers.r_status
    row = {
        "selector": found.selector, "in_charge": found.in_charge, "status": status, "reason": found.reason or None,
        "layer": found.layer, "position": found.position, "admissible": found.admissible, "gain": found.held_out.gain,
        "gain_lo": found.held_out.lo, "gain_hi": found.held_out.hi, "gain_all": found.own_gain, "no_op": found.no_op,
        "null_95": found.null, "null_sets": found.n_null, "null_sites": scores.null and scores.null.n_sites,
        "null_cos": null_cosine(selected), "min_gain": settings.min_gain[found.selector],
        "margin": found.margin, "ties": found.ties, "site_share": found.share, "none_share": found.none_share,
    }  # fmt: skip
    row["runner_up_layer"] = None if second is None else int(finals.layers[second])
    row["runner_up_position"] = None if second is None else int(finals.positions[second])
    at = selected.choice.candidates.set_index(["layer", "position"]).loc[(found.layer, found.position)]
    row |= {"kl": at.kl, "kl_all_layers": float(scores.kl_everywhere[found.site]), "inverted": found.inverted}
    row |= {"openings": "own" if openings.own else "configured", "opening_tokens": openings.n_tokens}
    row |= {name: getattr(openings, name) for name in ("auroc", "auroc_configured", "n_refused", "n_answered")}
    counts = {"n_harmful": len(finals.clean_harmful), "n_benign": len(finals.clean_benign), "n_screen": scores.n_screen}
    return row | counts


def fall_row(
    selected: SelectedCheckpoint, found: Choice, reference: SelectedCheckpoint, settings: GeometrySettings
) -> dict:
    """Gain at the reference anchor less the gain here; empty at the reference and where it has no scores."""
    if reference.choice is None or selected.checkpoint.step == reference.checkpoint.step:
        return {}
    before = Scored(reference.choice.scores, reference.choice.choices[found.selector])
    rule = settings.rule(selected.choice.scores.n_layers)
    lost = fall(before, Scored(selected.choice.scores, found), rule, settings.bootstrap, settings.rng("fall"))
    return {"fall": lost.value, "fall_lo": lost.lo, "fall_hi": lost.hi, "fall_n": lost.n}


def null_cosine(selected: SelectedCheckpoint) -> float | None:
    """Mean |cos| of the null sets' winners with the candidate at their site; None without null sets."""
    null = selected.choice.scores.null
    if null is None:
        return None
    sites = zip(map(int, null.positions), map(int, null.layers), strict=True)
    real = np.stack([unit(selected.contrasts.raw("R", site)) for site in sites])
    return float(np.abs((real * unit(null.directions)).sum(1)).mean())
