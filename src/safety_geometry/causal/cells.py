"""The cells of a sweep's plan at one checkpoint: what each does to the model, and its rows of cells.csv.

The batches of a unit do not depend on other units, so that a sweep that is resumed or extended gives the same numbers
as one made in one go.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

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
from safety_geometry.causal.modes import Part, cosine, interventions, mode_parts, without
from safety_geometry.causal.names import OWN, SCAN, SCAN_CONTROLS
from safety_geometry.causal.plan import PlannedCell, PlannedUnit, Target
from safety_geometry.models.interventions import Intervention
from safety_geometry.settings.identity import Site

SAME = 0.999  # |cos| from which two interventions are one


@dataclass(frozen=True, eq=False)
class Cell:
    """id; what is done; `rows`: its rows of cells.csv, one per target it belongs to; kl: benign prompts are read
    too."""

    id: str
    interventions: tuple[Intervention, ...]
    rows: tuple[dict, ...]
    kl: bool = True
    generated: bool = False

    @property
    def digest(self) -> str:
        """Of what the cell does to the model."""
        edits = [
            [item.family, item.layer, item.strength, hashlib.sha256(item.basis.numpy().tobytes()).hexdigest()]
            for item in self.interventions
        ]
        return hashlib.sha256(json.dumps(edits).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Unit:
    """group: of its targets; units of one group give their answers together."""

    name: str
    cells: tuple[Cell, ...]
    group: str = ""

    @property
    def interventions(self) -> dict[str, tuple[Intervention, ...]]:
        """By cell."""
        return {cell.id: cell.interventions for cell in self.cells}

    @property
    def digests(self) -> dict[str, str]:
        """By cell."""
        return {cell.id: cell.digest for cell in self.cells}


@dataclass(frozen=True, eq=False)
class Carriers:
    """Carriers of one checkpoint as the sweep needs them, for one rank.

    h, r: orthonormal rows [k, d]; sources: where controls come from, by carrier; stream(layer) -> clean stream [M, d]
    at the input of a block, tokens after the template's prefix; scale: length of the added vector by carrier (H, R,
    HR); random_bases: what `norm_matched` keeps, which ranks share; max_matched: the largest |λ′| that a control of an
    ablation may need for the energy of its target; selected: winners of the null sets of R's choice, [d] with their
    sites. r is None where the checkpoint has no R.
    """

    h: np.ndarray
    r: np.ndarray | None
    sources: Mapping[str, Source]
    stream: Mapping[int, np.ndarray]
    scale: Mapping[str, float] = field(default_factory=lambda: {"H": 1.0, "R": 1.0, "HR": 1.0})
    random_bases: dict = field(default_factory=dict)
    max_matched: float = 3.0
    selected: Sequence[tuple[Site, np.ndarray]] = ()

    @property
    def layers(self) -> tuple[int | None, int | None]:
        return tuple(self.sources[name].site[1] if name in self.sources else None for name in ("H", "R"))

    def parts(self, target: Target) -> tuple[Part, ...]:
        return self.assemble(target, self.h, self.r)

    def has(self, target: Target) -> bool:
        """Whether the target exists here: H ⊥ R does not where both span the same directions, as subspaces of one layer
        do, and without R only H alone exists."""
        if self.r is None and target.mode != "h_only":
            return False
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

    def read_at(self, layer: int) -> "Carriers | None":
        """The carriers read at, and acting at, one layer, each at its own position; None where one has no direction
        there."""
        sources = {name: replace(source, site=(source.site[0], layer)) for name, source in self.sources.items()}
        h, r = (sources[name].directions(*sources[name].site) for name in ("H", "R"))
        return None if h is None or r is None else replace(self, h=h, r=r, sources=sources)

    def length(self, layer: int) -> float:
        """Mean ‖a‖ of the clean tokens at the input of a block."""
        return float(np.linalg.norm(self.stream[layer], axis=1).mean())


@dataclass(frozen=True, eq=False)
class Drawn:
    """Parts that act in a target's place, the controls that they were drawn as, and factors on the strength of each
    part; capped: a larger strength than is allowed would remove as much energy as the target."""

    parts: tuple[Part, ...]
    controls: Sequence[Control] = ()
    factors: Sequence[float] | None = None
    capped: bool = False


def make_unit(planned: PlannedUnit, carriers: Carriers, seed: int) -> Unit | None:
    """The planned cells that exist at a checkpoint; None where none does. `seed` of the controls."""
    target = planned.acts
    if target is not None and carriers.r is None and (target.mode != "h_only" or planned.name.endswith("/layer_scan")):
        return None  # a scan reads R at every layer
    if target is None:  # the model as it is
        row = {"control": "baseline", "number": 0, "primary": False, "capped": False}
        cells = [Cell(cell.id, (), (row,), cell.kl, cell.answers) for cell in planned.cells]
    elif planned.cells and planned.cells[0].layer is not None:
        cells = list(_scanned(planned, carriers, seed))
    else:
        cells = []
        for kind in dict.fromkeys(cell.kind for cell in planned.cells):
            drawn = _drawn(kind, target, carriers, planned.count(kind), seed)
            of_kind = [cell for cell in planned.cells if cell.kind == kind]
            speaking = _speaking(drawn, sum(cell.answers for cell in of_kind))
            for cell in of_kind:
                if cell.number in drawn:
                    answers = cell.number in speaking
                    made = replace(cell, answers=answers, kl=cell.kl or answers)
                    cells.append(_cell(made, target, drawn[cell.number], carriers))
    return Unit(planned.name, tuple(cells), planned.group) if cells else None


def answer_units(units: Sequence[Unit]) -> list[Unit]:
    """Units of answers: for each group of readout units the cells that answer, by id; groups without such a cell have
    none."""
    groups: dict[str, list[Cell]] = {}
    for unit in units:
        groups.setdefault(unit.group, []).extend(cell for cell in unit.cells if cell.generated)
    by_id = {group: sorted(cells, key=lambda cell: cell.id) for group, cells in groups.items() if cells}
    return [Unit(f"{group}/answers", tuple(cells), group) for group, cells in by_id.items()]


def _speaking(drawn: Mapping[int, Drawn], count: int) -> set[int]:
    """Numbers of the `count` controls of a kind that answer: the first, those of less energy than their target last."""
    return set(sorted(drawn, key=lambda number: (drawn[number].capped, number))[:count])


def _scanned(planned: PlannedUnit, carriers: Carriers, seed: int) -> Iterator[Cell]:
    """The mode with H and R both read at, and acting at, each layer, and controls there; layers without a direction are
    left out. The rows name the scan's cell as their target."""
    target = planned.acts
    for layer in dict.fromkeys(cell.layer for cell in planned.cells):
        here = carriers.read_at(layer)
        if here is None or not here.has(target):  # at one position the carriers are one vector
            continue
        at_layer = [cell for cell in planned.cells if cell.layer == layer]
        place = next(cell.id for cell in at_layer if cell.kind == SCAN)
        for kind in dict.fromkeys(cell.kind for cell in at_layer):
            of_kind = [cell for cell in at_layer if cell.kind == kind]
            if kind == SCAN:
                drawn = {layer: Drawn(here.parts(target))}
            else:
                drawn = _drawn(SCAN_CONTROLS[kind], target, here, len(of_kind), seed)
            for cell in of_kind:
                if cell.number in drawn:
                    made = _cell(cell, target, drawn[cell.number], here)
                    yield replace(made, rows=tuple(row | {"target": place} for row in made.rows))


def _drawn(kind: str, target: Target, carriers: Carriers, count: int, seed: int) -> dict[int, Drawn]:
    """The target itself, or its controls of a kind that exist, by number."""
    if kind == "target":
        return {0: Drawn(carriers.parts(target))}
    if kind == "norm_matched":
        return _norm_matched(target, carriers, count, seed)
    if kind == "selected":
        drawn = [[
            Control("selected", number, Part("R", site[1], direction[None]), None, site)
            for number, (site, direction) in enumerate(carriers.selected[:count])
        ]]  # fmt: skip
        return _placed(kind, target, carriers, drawn)
    sources = [carriers.sources[carrier] for carrier in target.carriers]
    if kind == "wrong_layer":
        drawn = [wrong_layers(source, count, seed) for source in sources]
    elif kind == "wrong_position":
        drawn = [wrong_positions(source, count, seed) for source in sources]
    else:
        drawn = [draw_shared(kind, source, count, seed) for source in sources]
    return _placed(kind, target, carriers, drawn)


def _placed(kind: str, target: Target, carriers: Carriers, drawn: Sequence[Sequence[Control]]) -> dict[int, Drawn]:
    """Controls of each carrier in the carriers' places, by number; those that are the target are left out."""
    by_number = [{control.number: control for control in controls} for controls in drawn]
    existing = {}
    for number in sorted(set.intersection(*(set(controls) for controls in by_number))):
        controls = [of_carrier[number] for of_carrier in by_number]
        parts = _assemble(target, controls, carriers, project=kind in OWN)
        if parts is None or (kind in OWN and cosine(parts, carriers.parts(target)) >= SAME):
            continue  # H's and R's own may be the target, swapped
        factor, capped = _energy_factor(target, parts, carriers)
        existing[number] = Drawn(parts, controls, [factor] * len(parts), capped)
    return existing


def _energy_factor(target: Target, parts: tuple[Part, ...], carriers: Carriers) -> tuple[float, bool]:
    """√(E/E′), E the energy that the target's ablation removes and E′ that of `parts` at the same λ, and whether it is
    capped, where |λ′| would exceed `max_matched` (or |λ|, if that is larger). Added vectors have one length: 1."""
    if target.family == "steer" or target.strength == 0:
        return 1.0, False
    wanted, found = (
        _energy(these, carriers, "ablate", [1.0] * len(these)) for these in (carriers.parts(target), parts)
    )
    most = max(carriers.max_matched / abs(target.strength), 1.0)
    factor = math.sqrt(wanted / found) if found > 0 else math.inf
    return min(factor, most), factor > most


def _norm_matched(target: Target, carriers: Carriers, count: int, seed: int) -> dict[int, Drawn]:
    """Of ablations: more directions, none removed more than the target's is."""
    drawn = [
        norm_matched(part, carriers.stream[part.layer], count, seed, carriers.random_bases)
        for part in carriers.parts(target)
    ]
    existing = {}
    for number, pairs in enumerate(zip(*drawn, strict=True)):
        controls = [control for control, _ in pairs]
        parts = tuple(control.part for control in controls)
        existing[number] = Drawn(parts, controls, [factor for _, factor in pairs])
    return existing


def _assemble(
    target: Target, controls: Sequence[Control], carriers: Carriers, project: bool
) -> tuple[Part, ...] | None:
    """Parts of the target's mode with the controls in the carriers' places; None where nothing is left of them."""
    rows = {control.part.carrier: control.part.basis for control in controls}
    try:
        if target.mode == "h_plus_r":
            if np.linalg.norm(rows["H"] @ rows["R"].T) > SAME * np.sqrt(len(rows["R"])):
                return None  # one position for both: there are no two directions
            return carriers.assemble(target, rows["H"], rows["R"])
        part = controls[0].part
        basis = part.basis
        if project and target.mode in ("h_perp_r", "r_perp_h"):
            basis = without(basis, carriers.r if target.mode == "h_perp_r" else carriers.h)
        return (Part(part.carrier, part.layer, basis),)
    except ValueError:
        return None


def _cell(planned: PlannedCell, target: Target, drawn: Drawn, carriers: Carriers) -> Cell:
    """A cell that acts as `target` does with the drawn parts, with a row for each target that it belongs to."""
    factors = drawn.factors or [1.0] * len(drawn.parts)
    strengths = [target.strength * factor for factor in factors]
    edits = tuple(
        edit
        for part, strength in zip(drawn.parts, strengths, strict=True)
        for edit in interventions((part,), target.family, strength, carriers.scale, target.scope)
    )
    acting = {carrier: part.layer for part in drawn.parts for carrier in part.carriers}
    read, spent = _origin(drawn.controls), _energy(drawn.parts, carriers, target.family, strengths)
    dose = _dose(drawn.parts, carriers, strengths) if target.family == "steer" else None
    rows = tuple(
        {
            "target": served.id,
            "family": served.family,
            "mode": served.mode,
            "scope": served.scope,
            "rank": served.rank,
            "lambda": served.strength,
            "control": planned.kind,
            "number": planned.number,
            "layer_h": acting.get("H"),
            "layer_r": acting.get("R"),
            **read,
            "abs_cos": 1.0 if planned.kind in ("target", SCAN) else cosine(drawn.parts, carriers.parts(served)),
            "energy": spent,
            "lambda_matched": strengths[0] if len(set(strengths)) == 1 else None,
            "capped": drawn.capped,
            "dose": dose,
            "primary": served.primary,
        }
        for served in planned.targets
    )
    return Cell(planned.id, edits, rows, planned.kl, planned.answers)


def _origin(controls: Sequence[Control]) -> dict:
    """Seed, layer and position of the direction in H's place and of that in R's: a control of both carriers is two
    draws."""
    by_carrier = {carrier: control for control in controls for carrier in control.part.carriers}
    columns = {}
    for carrier in ("H", "R"):
        control, end = by_carrier.get(carrier), carrier.lower()
        position, layer = (control and control.source) or (None, None)
        columns |= {
            f"control_seed_{end}": control and control.seed,
            f"source_layer_{end}": layer,
            f"source_position_{end}": None if position is None else str(position),
        }
    return columns


def _energy(parts: Sequence[Part], carriers: Carriers, family: str, strengths: Sequence[float]) -> float:
    """Share of the stream's energy that is removed or added, summed over the parts, each at its own layer."""
    total = 0.0
    for part, strength in zip(parts, strengths, strict=True):
        stream = carriers.stream[part.layer]
        if family == "ablate":
            total += strength**2 * energy(part.basis, stream)
        else:
            total += (strength * carriers.scale[part.carrier]) ** 2 * len(stream) / float(np.sum(stream**2))
    return total


def _dose(parts: Sequence[Part], carriers: Carriers, strengths: Sequence[float]) -> float:
    """‖λv‖ / mean ‖a‖ of steering, summed over the parts, each at its own layer."""
    return sum(
        abs(strength) * carriers.scale[part.carrier] / carriers.length(part.layer)
        for part, strength in zip(parts, strengths, strict=True)
    )
