"""The cells of a sweep at one checkpoint as data: targets, their controls and the layer scan, in units that are run
together.

A *cell* is one intervention on all prompts. A *unit* is what is computed and kept as a whole. Of readouts: a target
with the controls of its own, the shared controls of one kind at one carrier, or the layer scan of a mode. Of answers:
all cells that answer of the targets that share controls, and of these, since they are to decode in the same batches
(`cells.answer_units`).

Which of the planned cells exist is known only where the carriers are: `cells.Carriers.unit` makes those that do. No
torch here: the cost model counts the same plan.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from safety_geometry.causal.names import CARRIER, CLEAN, OWN, SCAN, SCAN_CONTROLS, SHARED


@dataclass(frozen=True)
class Target:
    """A named intervention: family, mode, λ, scope and number of directions (rank 1, or k of a subspace).

    A primary target has its effect tested against many control directions. As text `ablate:r_only:0.5:layer:1`.
    """

    family: str
    mode: str
    strength: float
    scope: str = "layer"
    rank: int = 1
    primary: bool = field(default=False, compare=False)

    @property
    def id(self) -> str:
        return f"{self.family}:{self.mode}:{number(self.strength)}:{self.scope}:{self.rank}"

    @classmethod
    def parse(cls, text: str, primary: bool = False) -> "Target":
        """From an id. Raises ValueError for what is none."""
        try:
            family, mode, strength, scope, rank = text.split(":")
            return cls(family, mode, float(strength), scope, int(rank), primary)
        except ValueError as error:
            raise ValueError(f"{text!r} is no target; it is written family:mode:λ:scope:rank") from error

    @classmethod
    def of(cls, settings: Mapping) -> "Target":
        """From {family, mode, lambda}, and scope and rank where they are not `layer` and 1."""
        scope, rank = settings.get("scope", "layer"), settings.get("rank", 1)
        return cls(settings["family"], settings["mode"], settings["lambda"], scope, int(rank))

    @property
    def carrier(self) -> str:
        return CARRIER.get(self.mode, "HR")

    @property
    def carriers(self) -> tuple[str, ...]:
        return tuple(self.carrier)

    @property
    def group(self) -> str:
        """Targets of one group share their random, covariance and shuffled controls.

        Controls of an ablation remove its own energy: they are one target's. Additions of one length along one carrier
        share theirs, of either sign: a drawn direction has none.
        """
        if self.family == "ablate":
            return self.id
        return f"{self.family}:{self.carrier}:{number(abs(self.strength))}:{self.scope}:{self.rank}"


def number(value: float) -> str:
    """The shortest text of six digits, or as many as it takes to tell the number from others."""
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))


@dataclass(frozen=True)
class PlannedCell:
    """id; kind: `target`, a kind of control (with its number), `layer_scan` (with its layer), a control of the scan or
    `baseline`; targets: that it belongs to; kl: benign prompts are read too; answers: it gives answers; layer: of the
    scan."""

    id: str
    kind: str
    number: int
    targets: tuple[Target, ...]
    kl: bool = True
    answers: bool = False
    layer: int | None = None


@dataclass(frozen=True)
class PlannedUnit:
    """group: of its targets; units of one group give their answers together. `acts`: the target whose operation its
    cells have."""

    name: str
    group: str
    cells: tuple[PlannedCell, ...]
    acts: Target | None = None

    def count(self, kind: str) -> int:
        """Cells of a kind."""
        return sum(cell.kind == kind for cell in self.cells)


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep is asked for.

    controls: how many of each kind; permutations: directions that primary targets are tested against, over the shared
    kinds; answering: ids of the targets that give answers, alone: of those beside which no control does, and
    answering_controls: how many controls of each kind do beside the others; scan_layers and scan_controls (of each
    kind, at each layer): of the layer scan, which has a unit for each of scan_targets.
    """

    targets: tuple[Target, ...]
    controls: Mapping[str, int]
    permutations: int = 0
    answering: frozenset[str] = frozenset()
    answering_controls: Mapping[str, int] = field(default_factory=dict)
    scan_layers: tuple[int, ...] = ()
    scan_targets: tuple[Target, ...] = ()
    scan_controls: Mapping[str, int] = field(default_factory=dict)
    alone: frozenset[str] = frozenset()

    @classmethod
    def of(cls, settings: Mapping) -> "SweepPlan":
        """From targets and primary (ids), controls, permutations, generate {cells, alone (ids), controls}, layer_scan
        {layers, modes, family, lambda (or several), controls} or None."""
        scan = settings["layer_scan"] or {"layers": (), "modes": (), "lambda": []}
        strengths = scan["lambda"] if isinstance(scan["lambda"], list) else [scan["lambda"]]
        return cls(
            tuple(Target.parse(text, primary=text in settings["primary"]) for text in settings["targets"]),
            settings["controls"],
            settings["permutations"],
            frozenset(settings["generate"]["cells"]),
            settings["generate"]["controls"],
            tuple(scan["layers"]),
            tuple(Target(scan["family"], mode, strength) for mode in scan["modes"] for strength in strengths),
            _counts(scan.get("controls")),
            frozenset(settings["generate"].get("alone", ())),
        )

    @property
    def ranks(self) -> list[int]:
        return sorted({1, *(target.rank for target in self.targets)})

    def units(self, exists: Callable[[Target], bool] = lambda target: True) -> Iterator[PlannedUnit]:
        """All units of readouts; those of the targets that exist here. The model as it is comes last."""
        groups: dict[str, list[Target]] = {}
        for target in filter(exists, self.targets):
            groups.setdefault(target.group, []).append(target)
        speaks = False
        for targets in groups.values():
            answering = [target for target in targets if target.id in self.answering]
            speaks |= bool(answering)
            for target in targets:
                yield target_unit(target, self.controls, self._beside(target) if target in answering else None)
            beside = next((counts for target in answering if (counts := self._beside(target))), None)
            yield from shared_units(targets, self.controls, self.permutations, beside)
        for target in self.scan_targets:
            yield scan_unit(target, self.scan_layers, self.scan_controls)
        yield clean_unit(speaks)

    def _beside(self, target: Target) -> Mapping[str, int]:
        """Controls that answer beside a target that does."""
        return {} if target.id in self.alone else self.answering_controls


def _counts(controls: Mapping[str, int] | None) -> dict[str, int]:
    """Controls by kind, without kinds that are left out."""
    return {kind: count for kind, count in (controls or {}).items() if count}


def clean_unit(answers: bool = False) -> PlannedUnit:
    """The model as it is, without an intervention: a cell and a group of its own."""
    return PlannedUnit(CLEAN, CLEAN, (PlannedCell(CLEAN, "baseline", 0, (), answers=answers),))


def target_unit(target: Target, counts: Mapping[str, int], answering: Mapping[str, int] | None = None) -> PlannedUnit:
    """The target and counts[kind] controls of each kind of its own. A subspace is made of all positions: none is a
    wrong one. A random vector of the length that is added is a `random` control already: steering has no
    `norm_matched`.

    answering: None (no answers), or how many controls of each kind give answers beside the target.
    """
    cells = [PlannedCell(target.id, "target", 0, (target,), answers=answering is not None)]
    for kind in OWN:
        idle = (kind == "wrong_position" and target.rank > 1) or (kind == "norm_matched" and target.family == "steer")
        idle |= kind == "selected" and (target.carrier != "R" or target.rank > 1)  # they were chosen as R was
        count = 0 if idle else counts.get(kind, 0)
        speaking = 0 if answering is None else answering.get(kind, 0)
        cells += [
            PlannedCell(f"{target.id}/{kind}/{n}", kind, n, (target,), answers=n < speaking) for n in range(count)
        ]
    return PlannedUnit(target.id, target.group, tuple(cells), target)


def shared_units(
    targets: Sequence[Target],
    counts: Mapping[str, int],
    permutations: int = 0,
    answering: Mapping[str, int] | None = None,
) -> Iterator[PlannedUnit]:
    """Units of the shared controls of `targets`, which are of one group; a unit per kind.

    With a primary target among them every kind has at least permutations / 3 directions. Those beyond counts[kind]
    serve primary targets only, and give log-odds only. Additions act with |λ|, for targets of either sign.
    """
    least = -(-permutations // len(SHARED)) if any(target.primary for target in targets) else 0
    group, primary = targets[0].group, tuple(target for target in targets if target.primary)
    for kind in SHARED:
        known, speaking = counts.get(kind, 0), 0 if answering is None else answering.get(kind, 0)
        cells = tuple(
            PlannedCell(
                f"{group}/{kind}/{n}", kind, n, tuple(targets) if n < known else primary, n < known, n < speaking
            )
            for n in range(max(known, least))
        )
        if cells:
            acts = targets[0]
            if acts.family == "steer":
                acts = replace(acts, strength=abs(acts.strength))
            yield PlannedUnit(f"{group}/{kind}", group, cells, acts)


def scan_unit(target: Target, layers: Sequence[int], controls: Mapping[str, int] | None = None) -> PlannedUnit:
    """The target's mode with H and R both read at, and acting at, each of `layers`, and controls[kind] controls there,
    which give log-odds only."""
    cells = []
    for layer in layers:
        place = f"{target.id}/{SCAN}/{layer}"
        cells.append(PlannedCell(place, SCAN, layer, (target,), layer=layer))
        cells += [
            PlannedCell(f"{place}/{kind}/{n}", name, n, (target,), kl=False, layer=layer)
            for name, kind in SCAN_CONTROLS.items()
            for n in range((controls or {}).get(kind, 0))
        ]
    name = f"{target.family}:{target.mode}:{number(target.strength)}/{SCAN}"
    return PlannedUnit(name, "", tuple(cells), target)


def answering_together(chosen: Sequence[Mapping], checkpoint: Mapping) -> dict[str, dict[str, str]]:
    """Cells chosen at a checkpoint ({regime, step}) and their digests, by id, of each group of targets; the baseline is
    a group of its own."""
    groups: dict[str, dict[str, str]] = {}
    for row in chosen:
        if all(row[name] == value for name, value in checkpoint.items()):
            group = CLEAN if row["role"] == "baseline" else Target.of(row).group
            groups.setdefault(group, {})[row["cell"]] = row["digest"]
    return {group: dict(sorted(cells.items())) for group, cells in groups.items()}
