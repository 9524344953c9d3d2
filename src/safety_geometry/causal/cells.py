"""The cells of a sweep at one checkpoint: targets, their controls, and the layer scan, in units that are run together.

A *cell* is one intervention on all prompts. A *unit* is what is computed and kept as a whole. Of readouts: a target with the
controls of its own, or the shared controls of one kind at one carrier. Of answers: all cells that answer of the targets that
share controls, and of these, since they are to decode in the same batches. The batches of a unit do not depend on other
units, so that a sweep that is resumed or extended gives the same numbers as one made in one go.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from safety_geometry.causal.controls import (
    Control,
    Source,
    draw_shared,
    energy,
    norm_matched,
    wrong_layers,
    wrong_positions,
)
from safety_geometry.causal.modes import CARRIER, Part, cosine, interventions, mode_parts, without
from safety_geometry.causal.names import CLEAN, SHARED
from safety_geometry.interventions import Intervention

SAME = 0.999  # |cos| from which two interventions are one


@dataclass(frozen=True)
class Target:
    """A named intervention: family, mode, λ, scope and number of directions (rank 1, or k of a subspace).

    A primary target has its effect tested against many control directions.
    """

    family: str
    mode: str
    strength: float
    scope: str = "layer"
    rank: int = 1
    primary: bool = False

    @property
    def id(self) -> str:
        return f"{self.family}:{self.mode}:{self.strength:g}:{self.scope}:{self.rank}"

    @property
    def carrier(self) -> str:
        return CARRIER.get(self.mode, "HR")

    @property
    def group(self) -> str:
        """Targets of one group share their random, covariance and shuffled controls."""
        return f"{self.family}:{self.carrier}:{self.strength:g}:{self.scope}:{self.rank}"


@dataclass(frozen=True, eq=False)
class Cell:
    """id; what is done; `rows`: its rows of cells.csv, one per target it belongs to; kl: benign prompts are read too."""

    id: str
    interventions: tuple[Intervention, ...]
    rows: tuple[dict, ...]
    kl: bool = True
    generated: bool = False


@dataclass(frozen=True, eq=False)
class Unit:
    """group: of its targets; units of one group give their answers together."""

    name: str
    cells: tuple[Cell, ...]
    group: str = ""


@dataclass(frozen=True, eq=False)
class Carriers:
    """Carriers of one checkpoint as the sweep needs them, for one rank.

    h, r: orthonormal rows [k, d]; sources: where controls come from, by carrier; stream(layer) -> clean stream [M, d] at the
    input of a block, tokens after the template's prefix; scale: length of the added vector by carrier (H, R, HR).
    """

    h: np.ndarray
    r: np.ndarray
    sources: Mapping[str, Source]
    stream: Mapping[int, np.ndarray]
    scale: Mapping[str, float] = field(default_factory=lambda: {"H": 1.0, "R": 1.0, "HR": 1.0})

    @property
    def layers(self) -> tuple[int, int]:
        return self.sources["H"].site[1], self.sources["R"].site[1]

    def parts(self, target: Target) -> tuple[Part, ...]:
        return self.assemble(target, self.h, self.r)

    def has(self, target: Target) -> bool:
        """Whether the target exists here: H ⊥ R does not where both span the same directions, as subspaces of one layer do."""
        try:
            return bool(self.parts(target))
        except ValueError:
            return False

    def assemble(self, target: Target, h: np.ndarray, r: np.ndarray) -> tuple[Part, ...]:
        """The target's mode with h and r in the carriers' places. At every block both act as they do at one layer."""
        layer_h, layer_r = self.layers
        if target.scope == "all_layers" and target.mode == "h_plus_r":
            layer_r = layer_h
        return mode_parts(target.mode, h, r, layer_h, layer_r, target.family)


def clean_unit(generated: bool = False) -> Unit:
    """The model as it is, without an intervention: a cell and a group of its own."""
    cell = Cell(CLEAN, (), ({"control": "baseline", "number": 0, "primary": False},), generated=generated)
    return Unit(CLEAN, (cell,), CLEAN)


def target_unit(
    target: Target, at: Carriers, counts: Mapping[str, int], seed: int, generate: Mapping[str, int] | None = None
) -> Unit:  # fmt: skip
    """The target and the controls of its own: wrong_layer, wrong_position, norm_matched, counts[kind] of each.

    generate: None (no answers), or how many controls of each kind give answers beside the target.
    """
    parts = at.parts(target)
    cells = [_cell(target.id, target, parts, at, [(target, parts)], "target", generated=generate is not None)]
    for kind in ("wrong_layer", "wrong_position"):
        find = wrong_layers if kind == "wrong_layer" else wrong_positions
        found = [find(at.sources[c], counts.get(kind, 0), seed) for c in _carriers(target)]
        for controls in zip(*found, strict=False):
            replaced = _assemble(target, controls, at)
            if replaced is not None and cosine(replaced, parts) < SAME:  # H's and R's may be the target, swapped
                cells.append(_control(target, controls, replaced, at, parts, generate))
    drawn = [norm_matched(part, at.stream[part.layer], counts.get("norm_matched", 0), seed) for part in parts]
    for pairs in zip(*drawn, strict=False):
        controls = [control for control, _ in pairs]
        made = tuple(c.part for c in controls)
        factors = [factor if target.family == "ablate" else 1.0 for _, factor in pairs]
        if target.family == "steer":  # one random vector of the same length
            made = tuple(Part(part.carrier, part.layer, part.basis[:1]) for part in made)
        cells.append(_control(target, controls, made, at, parts, generate, factors))
    return Unit(target.id, tuple(cells), target.group)


def shared_units(
    targets: Sequence[Target], at: Carriers, counts: Mapping[str, int], seed: int, permutations: int = 0,
    generate: Mapping[str, int] | None = None,
) -> list[Unit]:  # fmt: skip
    """Units of the shared controls of `targets`, which are of one group; a unit per kind.

    With a primary target among them every kind has at least permutations / 3 directions. Those beyond counts[kind] serve
    primary targets only, and give log-odds only.
    """
    least = -(-permutations // len(SHARED)) if any(t.primary for t in targets) else 0
    first, units = targets[0], []
    for kind in SHARED:
        count = max(counts.get(kind, 0), least)
        drawn = [draw_shared(kind, at.sources[c], count, seed) for c in _carriers(first)]
        found = [{control.number: control for control in controls} for controls in drawn]
        cells = []
        for number in sorted(set.intersection(*(set(numbers) for numbers in found))):
            controls = [numbers[number] for numbers in found]
            made = _assemble(first, controls, at, project=False)
            if made is None:
                continue
            known = number < counts.get(kind, 0)
            of = [(t, at.parts(t)) for t in targets if known or t.primary]
            cells.append(
                _cell(
                    f"{first.group}/{kind}/{number}", first, made, at, of, kind, number, controls, kl=known,
                    generated=generate is not None and number < generate.get(kind, 0),
                )
            )  # fmt: skip
        if cells:
            units.append(Unit(f"{first.group}/{kind}", tuple(cells), first.group))
    return units


def answer_units(units: Sequence[Unit]) -> list[Unit]:
    """Units of answers: for each group of readout units the cells that answer, by id; groups without such a cell have none."""
    groups: dict[str, list[Cell]] = {}
    for unit in units:
        groups.setdefault(unit.group, []).extend(cell for cell in unit.cells if cell.generated)
    by_id = {group: sorted(cells, key=lambda cell: cell.id) for group, cells in groups.items() if cells}
    return [Unit(f"{group}/answers", tuple(cells), group) for group, cells in by_id.items()]


def scan_unit(mode: str, family: str, strength: float, layers: Sequence[int], at: Carriers) -> Unit | None:
    """The mode with H and R both read at, and acting at, each of `layers`; layers without a direction are left out."""
    h, r = at.sources["H"], at.sources["R"]
    cells = []
    for layer in layers:
        rows = h.directions(h.site[0], layer), r.directions(r.site[0], layer)
        if any(x is None for x in rows):
            continue
        try:
            parts = mode_parts(mode, *rows, layer, layer, family)
        except ValueError:  # one position: the carriers are one vector
            continue
        about = {
            "family": family, "mode": mode, "scope": "layer", "rank": 1, "lambda": strength, "control": "layer_scan",
            "number": layer, "layer_h": layer if mode != "r_only" else None, "layer_r": layer if mode != "h_only" else None,
            "abs_cos": None, "energy": _energy(parts, at, family, [strength] * len(parts)), "primary": False,
        }  # fmt: skip
        edits = interventions(parts, family, strength, at.scale)
        cells.append(Cell(f"{family}:{mode}:{strength:g}:layer:1/layer_scan/{layer}", edits, (about,)))
    return Unit(f"{family}:{mode}:{strength:g}/layer_scan", tuple(cells)) if cells else None


def _carriers(target: Target) -> tuple[str, ...]:
    return ("H", "R") if target.carrier == "HR" else (target.carrier,)


def _assemble(
    target: Target, controls: Sequence[Control], at: Carriers, project: bool = True
) -> tuple[Part, ...] | None:
    """Parts of the target's mode with the controls in the carriers' places; None where nothing is left of them."""
    rows = {c.part.carrier: c.part.basis for c in controls}
    try:
        if target.mode == "h_plus_r":
            if np.linalg.norm(rows["H"] @ rows["R"].T) > SAME * np.sqrt(len(rows["R"])):
                return None  # one position for both: there are no two directions
            return at.assemble(target, rows["H"], rows["R"])
        part = controls[0].part
        basis = part.basis
        if project and target.mode in ("h_perp_r", "r_perp_h"):
            basis = without(basis, at.r if target.mode == "h_perp_r" else at.h)
        return (Part(part.carrier, part.layer, basis),)
    except ValueError:
        return None


def _control(target, controls, made, at, parts, generate, factors=None) -> Cell:
    kind, number = controls[0].kind, controls[0].number
    generated = generate is not None and number < generate.get(kind, 0)
    return _cell(
        f"{target.id}/{kind}/{number}", target, made, at, [(target, parts)], kind, number, controls,
        generated=generated, factors=factors,
    )  # fmt: skip


def _cell(
    cell_id, target, parts, at, of, kind, number=0, controls=(), *, kl=True, generated=False, factors=None
) -> Cell:  # fmt: skip
    """A cell that acts as `target` does with `parts`; `of`: the targets that it belongs to, each with its own parts."""
    factors = factors or [1.0] * len(parts)
    strengths = [target.strength * f for f in factors]
    edits = tuple(
        edit
        for part, strength in zip(parts, strengths, strict=True)
        for edit in interventions((part,), target.family, strength, at.scale, target.scope)
    )
    drawn = _drawn(controls)
    acting = {c: part.layer for part in parts for c in part.carrier}
    rows = tuple(
        {
            "target": t.id, "family": t.family, "mode": t.mode, "scope": t.scope, "rank": t.rank, "lambda": t.strength,
            "control": kind, "number": number, "layer_h": acting.get("H"), "layer_r": acting.get("R"), **drawn,
            "abs_cos": 1.0 if kind == "target" else cosine(parts, theirs),
            "energy": _energy(parts, at, target.family, strengths),
            "primary": t.primary,
        }
        for t, theirs in of
    )  # fmt: skip
    return Cell(cell_id, edits, rows, kl, generated)


def _drawn(controls: Sequence[Control]) -> dict:
    """Seed, layer and position of the direction in H's place and of that in R's: a control of both carriers is two draws."""
    by_carrier = {carrier: control for control in controls for carrier in control.part.carrier}
    found = {}
    for carrier in "HR":
        control, end = by_carrier.get(carrier), carrier.lower()
        position, layer = (control and control.source) or (None, None)
        found |= {
            f"control_seed_{end}": control and control.seed, f"source_layer_{end}": layer,
            f"source_position_{end}": None if position is None else str(position),
        }  # fmt: skip
    return found


def _energy(parts: Sequence[Part], at: Carriers, family: str, strengths: Sequence[float]) -> float:
    """Share of the stream's energy that is removed or added, summed over the parts, each at its own layer."""
    total = 0.0
    for part, strength in zip(parts, strengths, strict=True):
        stream = at.stream[part.layer]
        if family == "ablate":
            total += strength**2 * energy(part.basis, stream)
        else:
            total += (strength * at.scale[part.carrier]) ** 2 * len(stream) / float(np.sum(stream**2))
    return total
