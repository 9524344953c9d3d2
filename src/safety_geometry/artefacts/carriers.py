"""Carriers of every save of a regime: unit directions, the subspaces around them, and where they were read.

Tensors, float32: `stepN.h`, `stepN.r` [d] and `stepN.h_subspace`, `stepN.r_subspace` [d, k]; of anchors with null sets `stepN.selected`
[S, d]. Metadata, one entry, since several would be written in an order that changes from run to run: `carriers`, what is known of each by
step.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors.numpy import save_file

from safety_geometry.artefacts.errors import ArtefactError
from safety_geometry.artefacts.tensor_file import Tensors
from safety_geometry.settings.identity import Position, Site


@dataclass(frozen=True, eq=False)
class Carrier:
    """A unit direction with the site where it was read.

    `direction` [d] has norm 1; `norm` is the raw mean difference's norm; `score` is the validation score that chose
    the site (S_total for R), NaN where none was made; `admissible` is None where the KL was not measured; `subspace` [d, k]: leading
    directions of the same contrast at the layer.
    """

    kind: Literal["H", "R"]
    layer: int
    position: Position
    direction: np.ndarray
    norm: float
    score: float
    admissible: bool | None
    subspace: np.ndarray

    def __post_init__(self) -> None:
        if self.kind not in ("H", "R"):
            raise ValueError(f"a carrier is of kind H or R, not {self.kind!r}")
        length = float(np.linalg.norm(self.direction.astype(np.float64)))
        if self.direction.ndim != 1 or not np.isclose(length, 1.0, atol=1e-6):
            raise ValueError(
                f"{self.kind} carrier, layer {self.layer}: direction of shape {self.direction.shape}, norm {length:.6g}"
            )
        if self.subspace.ndim != 2 or len(self.subspace) != len(self.direction):
            raise ValueError(f"{self.kind} carrier, layer {self.layer}: subspace of shape {self.subspace.shape}")

    @property
    def site(self) -> Site:
        return self.position, self.layer

    def rows(self, rank: int) -> np.ndarray:
        """[rank, d]: the direction, or the first ones of the subspace. Raises ValueError when it has not as many."""
        rows = self.direction[None] if rank == 1 else self.subspace.T[:rank]
        if len(rows) < rank:
            raise ValueError(f"the {self.kind} subspace has {len(rows)} directions, rank {rank} was asked for")
        return rows


@dataclass(frozen=True, eq=False)
class CarrierPair:
    """Both carriers of a save. selection: `own` sites, or `frozen` ones of the anchor before; r is None where there is no refusal
    carrier, and `r_missing` says why.

    r_status: R is read at a site of the save's `own` (or of the anchor's before), for want of one at that of a `reference`
    anchor's R, for want of that at a `candidate` that is no R, or nowhere (`none`); r_site: there. selected [S, d], with their
    sites: winners of the null sets that R's choice was compared with.
    """

    anchor: str | None
    selection: Literal["own", "frozen"]
    h: Carrier
    r: Carrier | None
    r_missing: str = ""
    r_status: Literal["own", "reference", "candidate", "none"] = "own"
    r_site: Site | None = None
    selected: np.ndarray | None = None
    selected_sites: tuple[Site, ...] = ()

    @property
    def by_kind(self) -> dict[str, Carrier]:
        """H, and R where there is one."""
        return {carrier.kind: carrier for carrier in (self.h, self.r) if carrier is not None}


def write_carriers(path: Path, pairs: Mapping[int, CarrierPair]) -> None:
    """pairs: by step."""
    tensors, known = {}, {}
    for step, pair in pairs.items():
        known[str(step)] = {"anchor": pair.anchor or "", "selection": pair.selection, "r_status": pair.r_status}
        known[str(step)] |= {"r_missing": pair.r_missing, "r_site": pair.r_site, "selected_sites": pair.selected_sites}
        if pair.selected is not None:
            tensors[f"step{step}.selected"] = pair.selected.astype("float32", order="C")
        for key, carrier in (("h", pair.h), ("r", pair.r)):
            if carrier is None:
                known[str(step)][key] = {"missing": pair.r_missing}
                continue
            tensors[f"step{step}.{key}"] = carrier.direction.astype("float32")
            tensors[f"step{step}.{key}_subspace"] = carrier.subspace.astype("float32", order="C")
            known[str(step)][key] = {
                "layer": carrier.layer, "position": carrier.position, "norm": carrier.norm,
                "score": None if carrier.score != carrier.score else carrier.score, "admissible": carrier.admissible,
            }  # fmt: skip
    save_file(tensors, path, {"carriers": json.dumps(known, sort_keys=True)})


def read_carriers(path: Path, step: int) -> CarrierPair:
    """Those of one step, in float32. Raises ArtefactError when the file has none, or they are damaged."""
    file = Tensors(path)
    known = file.describe("carriers")
    if str(step) not in known:
        raise ArtefactError(f"{path} has no carriers of step {step}; it has {', '.join(known)}")
    try:
        facts = known[str(step)]
        carriers = {key: _carrier(file, step, key, facts[key]) for key in ("h", "r")}
        return CarrierPair(
            facts["anchor"] or None, facts["selection"], carriers["h"], carriers["r"], facts["r_missing"],
            facts["r_status"], tuple(facts["r_site"]) if facts["r_site"] else None,
            file.read(f"step{step}.selected") if facts["selected_sites"] else None,
            tuple((position, layer) for position, layer in facts["selected_sites"]),
        )  # fmt: skip
    except ArtefactError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{path}, step {step}: {error}; run its rule again") from error


def _carrier(file: Tensors, step: int, key: str, facts: dict) -> Carrier | None:
    if "missing" in facts:
        return None
    score = float("nan") if facts["score"] is None else facts["score"]
    return Carrier(
        key.upper(), facts["layer"], facts["position"], file.read(f"step{step}.{key}"), facts["norm"], score,
        facts["admissible"], file.read(f"step{step}.{key}_subspace"),
    )  # fmt: skip
