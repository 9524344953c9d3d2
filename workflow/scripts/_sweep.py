"""One checkpoint of the causal sweep: its carriers, the prompts that are read, and the units of cells that follow from them."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from _activations import Activations, Tensors
from _job import Job, JobError, read_jsonl
from _model import Loaded, batch_size, rendered

from safety_geometry.causal.cells import Carriers, Target, Unit, scan_unit, shared_units, target_unit
from safety_geometry.causal.controls import Source
from safety_geometry.causal.modes import orthonormal
from safety_geometry.causal.readout import clean_prompts, tokens_of
from safety_geometry.runner import Runner


class Stream(dict):
    """Clean tokens [M, d] by layer, made when they are asked for."""

    def __init__(self, clean):
        self.clean = clean

    def __missing__(self, layer: int) -> np.ndarray:
        self[layer] = tokens_of(self.clean, layer).numpy()
        return self[layer]


@dataclass(eq=False)
class Sweep:
    """params: step, seed, subspace_positions, targets [{family, mode, lambda, scope, rank}], controls, primary (target ids),
    permutations, generate {cells: target ids, controls}, layer_scan {layers, modes, family, lambda} or None, steer_scale.
    """

    job: Job
    loaded: Loaded
    activations: Activations = field(init=False)
    facts: dict = field(init=False)

    def __post_init__(self) -> None:
        self.activations = Activations(self.job.activations)
        self.carriers = Tensors(self.job.carriers)
        steps = self.carriers.describe("carriers")
        if (step := str(self.p["step"])) not in steps:
            raise JobError(f"{self.job.carriers} has no carriers of step {step}; it has {', '.join(steps)}")
        self.facts = steps[step]
        layers, scan = self.activations.n_layers, self.p["layer_scan"]
        if beyond := [ell for ell in (scan["layers"] if scan else []) if ell >= layers]:
            raise JobError(f"sweep.layer_scan.layers {beyond} do not exist: the model has blocks 0 to {layers - 1}")

    @property
    def p(self) -> dict:
        return self.job.params

    @property
    def sites(self) -> dict[str, tuple[int | str, int]]:
        return {kind: (self.facts[kind.lower()]["position"], self.facts[kind.lower()]["layer"]) for kind in "HR"}

    @property
    def layers(self) -> list[int]:
        """Layers at which a cell may start."""
        scan = self.p["layer_scan"]
        everywhere = [0] if any(t["scope"] == "all_layers" for t in self.p["targets"]) else []
        return sorted({*(site[1] for site in self.sites.values()), *(scan["layers"] if scan else []), *everywhere})

    def prompts(self, path: Path, limit: int) -> tuple[list[str], list[tuple[int, ...]]]:
        """Ids and tokens of the first `limit` prompts of a role."""
        rows = read_jsonl(path)[:limit]
        return [row["id"] for row in rows], [r.ids for r in rendered(self.loaded, rows)]

    @property
    def requests(self) -> list[str]:
        """A few of the harmful prompts, as texts."""
        return [row["prompt"] for row in read_jsonl(self.job.harmful)[:3]]

    def clean(self, tokens: list):
        size = batch_size(self.job, "readout", self.p["batch_size"])
        return clean_prompts(self.runner, tokens, self.layers, self.loaded.chat.n_prefix, size)

    @property
    def runner(self) -> Runner:
        return self.loaded.runner

    @cached_property
    def harmful(self) -> tuple[list[str], list]:
        return self.prompts(self.job.harmful, self.p["prompts"]["harmful"])

    @cached_property
    def clean_harmful(self):
        return self.clean(self.harmful[1])

    @cached_property
    def stream(self) -> Stream:
        return Stream(self.clean_harmful)

    def at(self, rank: int) -> Carriers:
        """Carriers (rank 1) or subspaces of `rank` directions, and where their controls come from."""
        found, sources = {}, {}
        for kind in "HR":
            name = f"step{self.p['step']}.{kind.lower()}"
            rows = self.carriers.read(name)[None] if rank == 1 else self.carriers.read(f"{name}_subspace").T[:rank]
            if len(rows) < rank:
                raise JobError(
                    f"{self.job.carriers}: the {kind} subspace has {len(rows)} directions, rank {rank} was asked for"
                )
            found[kind] = orthonormal(rows)
            sources[kind] = Source(
                kind, self.sites[kind], self.activations.fit, self.activations.positions, self.p["subspace_positions"],
                self.activations.n_layers, rank,
            )  # fmt: skip
        return Carriers(found["H"], found["R"], sources, self.stream, self.scale)

    @cached_property
    def scale(self) -> dict[str, float]:
        """Length of the vector that steering adds at λ = 1."""
        if self.p["steer_scale"] == "unit":
            sizes = {"H": 1.0, "R": 1.0}
        elif self.p["steer_scale"] == "difference_norm":
            sizes = {kind: self.facts[kind.lower()]["norm"] for kind in "HR"}
        else:  # activation_norm
            sizes = {k: float(np.linalg.norm(self.stream[site[1]], axis=1).mean()) for k, site in self.sites.items()}
        return sizes | {"HR": (sizes["H"] + sizes["R"]) / 2}

    def units(self) -> Iterable[Unit]:
        p, seed, counts, generate = self.p, self.p["seed"], self.p["controls"], self.p["generate"]
        groups: dict[str, list[Target]] = {}
        ranks = {rank: self.at(rank) for rank in sorted({1, *(t["rank"] for t in p["targets"])})}
        for target in self.targets():
            if ranks[target.rank].has(target):
                groups.setdefault(target.group, []).append(target)
            else:
                print(f"{target.id} is left out: H and R span the same directions here", file=sys.stderr, flush=True)
        for targets in groups.values():
            at, asked = ranks[targets[0].rank], [t for t in targets if t.id in generate["cells"]]
            for target in targets:
                yield target_unit(target, at, counts, seed, generate["controls"] if target in asked else None)
            yield from shared_units(
                targets, at, counts, seed, p["permutations"], generate["controls"] if asked else None
            )
        if scan := p["layer_scan"]:
            for mode in scan["modes"]:
                unit = scan_unit(mode, scan["family"], scan["lambda"], scan["layers"], ranks[1])
                if unit is not None:
                    yield unit

    def targets(self) -> list[Target]:
        found = [Target(t["family"], t["mode"], t["lambda"], t["scope"], t["rank"]) for t in self.p["targets"]]
        return [replace(target, primary=target.id in self.p["primary"]) for target in found]
