"""What the configuration means for the graph: checkpoints, anchors, segments, what is swept and attacked."""

import shlex
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property
from itertools import pairwise

from pipeline.identity import Group
from pipeline.layout import ATTACKED_SUITES, Layout
from safety_geometry.causal.plan import Target
from safety_geometry.settings.step_patterns import expanded

FETCHED_AHEAD = 2  # steps of a trajectory with keep: none that are fetched before they are read
LIGHT_SUITES = ("direct", "lookalike", "utility")  # what the checkpoints of a light seed are asked

DECIDED = ("refusal", "harm", "usefulness")  # what judges that are models may decide


class Study:
    """Read-only view of the configuration (see `combinations` for what is checked)."""

    def __init__(self, config: dict):
        self.config, self.source_keys = expanded(config)  # made source -> the key of the pattern that it comes from
        config = self.config
        self.regimes: dict[str, dict] = config["regimes"]
        self.brought: dict[str, dict] = config.get("checkpoints") or {}
        self.models: dict[str, dict] = config["aligned"]["models"]

    @cached_property
    def layout(self) -> Layout:
        """Where its files stand."""
        return Layout(self)

    @property
    def seeds(self) -> list[int]:
        """Those with everything."""
        return self.config["seeds"]

    @cached_property
    def light_seeds(self) -> list[int]:
        """Those that only train and answer `LIGHT_SUITES`; of a number, so many behind the last of `seeds`."""
        light = self.config["light_seeds"]
        return light if isinstance(light, list) else [max(self.seeds) + 1 + number for number in range(light)]

    @property
    def all_seeds(self) -> list[int]:
        return [*self.seeds, *self.light_seeds]

    @property
    def trajectories(self) -> list[str]:
        """What has rows in every table: the regimes that are trained here, then the checkpoints that were not."""
        return [*self.regimes, *self.brought]

    def steps(self, name: str) -> list[int]:
        """Steps of a trajectory; an aligned model has step 0 only."""
        if name in self.brought:
            return sorted(self.brought[name]["steps"])
        return [0] if name in self.models else sorted(self.regimes[name].get("saves", self.config["train"]["saves"]))

    def anchors(self, regime: str) -> dict[str, int]:
        """Anchor name -> step, in order; the reference first. Of checkpoints that were not trained here, all that are
        listed."""
        if regime in self.models:
            return {"model": 0}
        if regime in self.brought:
            settings = self.brought[regime]
            others = settings.get("anchors", [step for step in self.steps(regime) if step != settings["reference"]])
        else:
            settings = self.regimes[regime]
            others = settings.get("anchors", self.config["anchors"])
        return {"reference": settings["reference"], **{str(step): step for step in sorted(others)}}

    def anchor_steps(self, regime: str) -> list[int]:
        return sorted(set(self.anchors(regime).values()))

    def anchor_name(self, regime: str, step: int) -> str | None:
        return {s: name for name, s in self.anchors(regime).items()}.get(step)

    def has_adapter(self, name: str, step: int) -> bool:
        """A checkpoint is a model with an adapter on it, or a model of its own."""
        return name in self.regimes or (
            name in self.brought and self.brought[name]["steps"][step]["format"] == "adapter"
        )

    def identities(self, points: Iterable[tuple[int, str, int]]) -> list[dict]:
        """{seed, regime, step, anchor} of each (seed, regime, step): how tables name a checkpoint."""
        return [
            {"seed": seed, "regime": regime, "step": step, "anchor": self.anchor_name(regime, step)}
            for seed, regime, step in points
        ]

    def training_priority(self, regime: str) -> int:
        """Longest first: the dynamic regime, then the source of the attacks, which every completion waits for."""
        if self.regimes[regime].get("refresh"):
            return 100
        return 95 if regime == self.config["attacks"]["source"]["regime"] else 50

    def sweep_priority(self, regime: str) -> int:
        """Of a regime's way to its carriers: sweeps are the longest jobs, and what follows them waits for both.
        Without a sweep it still comes before the answers, which take less time."""
        return 80 if regime in self.config["sweep"]["checkpoints"] or regime in self.models else 10

    def segments(self, regime: str) -> list[Group]:
        """Segments end at the multiples of train.segment_length and at the last save; what is not trained here has
        none."""
        if regime not in self.regimes:
            return []
        saves, length = self.steps(regime), self.config["train"]["segment_length"]
        last = saves[-1]
        ends = [0, *range(length, last, length), last]
        return [
            Group(regime, stop, tuple(s for s in saves if start < s <= stop), start) for start, stop in pairwise(ends)
        ]

    def groups(self, name: str) -> list[Group]:
        """Steps that one job reads: those of a training segment, or a single one that was not trained here."""
        return self.segments(name) or [Group(name, step, (step,)) for step in self.steps(name)]

    def passing(self, regime: str, step: int) -> bool:
        """Whether the weights are deleted once everything that reads them has run: a save's adapter, or a step that was
        brought; its first one stays, as those that are added later are compared with it, too."""
        staying = self.steps(regime)[:1] if regime in self.brought else self.anchor_steps(regime)
        return self.weights_pass(regime) and step not in staying

    def weights_pass(self, name: str) -> bool:
        """Whether steps of a trajectory pass: of the regimes' those that are no anchors."""
        if name in self.regimes:
            return self.config["train"]["keep"] == "anchors"
        return name in self.brought and self.brought[name].get("keep") == "none"

    @cached_property
    def passing_sources(self) -> dict[str, tuple[str, int]]:
        """Source -> the first (trajectory, step) that is made of it, for the fetched files that are deleted with it."""
        found: dict[str, tuple[str, int]] = {}
        for name in self.brought:
            for step in (step for step in self.steps(name) if self.passing(name, step)):
                found.setdefault(self.brought[name]["steps"][step]["source"], (name, step))
        staying = {self.brought[name]["steps"][self.steps(name)[0]]["source"] for name in self.brought}
        return {source: point for source, point in found.items() if source not in staying}

    def read_before(self, name: str, step: int) -> list[tuple[str, int]]:
        """(trajectory, step) that is read before a step that passes is fetched, so that few are on the disk."""
        return [(name, other) for other in self.steps(name) if other < step][:-FETCHED_AHEAD][-1:]

    def waits(self, name: str, step: int) -> bool:
        """Whether the weights of a step that was brought are read when others have been: swept, attacked, or asked
        attacks."""
        config, attacked = self.config, {*ATTACKED_SUITES} & {*self.suites(name, step)}
        named = [config["sweep"]["checkpoints"], config["aligned"]["anchors"]]
        named += [config["transfer"]["sources"], config["transfer"]["targets"]]
        again = {point for anchors in named for point in self.at_anchors(anchors)} | {self.fixed_source}
        return bool(attacked) or (name, step) in again

    def probe_priority(self, name: str) -> int:
        """Of brought steps that pass, before more of them are fetched."""
        return 200 if name in self.brought and self.weights_pass(name) else self.sweep_priority(name)

    def completions_priority(self, name: str) -> int:
        """Of brought steps that pass, as for their probes."""
        return 200 if name in self.brought and self.weights_pass(name) else 0

    def saves_priority(self, regime: str, otherwise: int = 0) -> int:
        """Of what reads the saves between anchors: those that pass come before the next segment, so that few adapters
        wait."""
        return 200 if self.weights_pass(regime) else otherwise

    def checkpoints(self) -> list[tuple[str, int]]:
        return [(name, step) for name in self.trajectories for step in self.steps(name)]

    def judged_checkpoints(self) -> list[tuple[int, str, int]]:
        """(seed, regime, step) of every checkpoint with a suite, in the order of seeds, regimes and steps; light seeds
        last."""
        points = [(seed, *point) for seed in self.all_seeds for point in self.checkpoints()]
        return [(seed, *point) for seed, *point in points if self.suites(*point, seed)]

    def evaluated(self) -> list[tuple[int, str, int]]:
        """Those of them that are anchors and have activations of what they were asked: light seeds have none."""
        points = [(seed, *point) for seed, *point in self.judged_checkpoints() if self.anchor_name(*point)]
        return [point for point in points if point[0] not in self.light_seeds]

    @property
    def labelled(self) -> dict | None:
        """Sets of human labels that judges are trained on."""
        return self.config["judges"].get("labelled")

    @property
    def embeddings(self) -> dict | None:
        """Sentence embeddings for the trained judge of harm."""
        return self.config["judges"].get("embeddings") if self.labelled else None

    @property
    def model_judges(self) -> dict[str, dict]:
        """Judges that are models, by name."""
        return self.config["judges"]["models"]

    @property
    def deciding_models(self) -> dict[str, str]:
        """What a judge that is a model decides -> its name."""
        judges = self.config["judges"]
        return {place: judges[place] for place in DECIDED if judges.get(place)}

    @property
    def has_judges_table(self) -> bool:
        return bool(self.labelled or self.model_judges)

    def compared(self) -> list[tuple[int, str, int]]:
        """(seed, regime, step) of the anchors at which all judges that are models are asked."""
        return [point for point in self.judged_checkpoints() if self.anchor_name(*point[1:])]

    def in_agreement(self) -> list[tuple[int, str, int]]:
        """(seed, regime, step) whose answers the table of judges reads: all where people have labelled some, those that
        were shown to judges that are models, or none."""
        if self.config["judges"].get("hand_labels"):
            return self.judged_checkpoints()
        return self.compared() if self.model_judges else []

    def suites(self, regime: str, step: int, seed: int | None = None) -> dict[str, int | None]:
        """Evaluation suites of a checkpoint, in the order of the configuration: how many first prompts; None: all."""
        wanted = [suite for suite in self.config["completions"]["max_new_tokens"] if suite not in self.suites_left_out]
        light = seed in self.light_seeds
        if step in self.anchor_steps(regime):
            return dict.fromkeys(suite for suite in wanted if suite in LIGHT_SUITES or not light)
        if light:
            return {}
        every = self.config["completions"]["every_save"]
        return {s: every[s] for s in wanted if s in every}

    @property
    def suites_left_out(self) -> set[str]:
        """Suites of attacks that the study does not make."""
        attacks = self.config["attacks"]
        made = {
            "framings": attacks["framings"],
            "universal": attacks.get("universal"),
            "autodan": "autodan" in self.methods(*self.fixed_source),
        }
        return {suite for suite, there in made.items() if not there}

    def between_anchors(self, name: str) -> list[Group]:
        """Groups of the steps that are no anchors; those that would be empty are left out."""
        anchors = set(self.anchor_steps(name))
        groups = [replace(g, steps=tuple(s for s in g.steps if s not in anchors)) for g in self.groups(name)]
        return [group for group in groups if group.steps]

    def sets_of(self, role: str) -> list[str]:
        """Names of the prompt sets that a role is taken from."""
        names = self.config["prompts"]["roles"][role]["set"]
        return names if isinstance(names, list) else [names]

    def prompt_sources(self) -> list[str]:
        """Files and folders that the prompt sets are read from, each once."""
        sets = self.config["prompts"]["sets"].values()
        fetched = sorted(
            {s["source"] for s in sets if s["source"] is not None}
            | {s["targets"]["source"] for s in sets if "targets" in s}
        )
        own_files = sorted({file for s in sets if s["source"] is None for file in s["files"]})
        return [self.layout.source(name) for name in fetched] + own_files

    @property
    def judge_roles(self) -> list[str]:
        """Roles whose prompts are the study's and not a seed's."""
        return [name for name, role in self.config["prompts"]["roles"].items() if role["kind"] == "judge"]

    @property
    def answered(self) -> bool:
        """Clean rows are the conversations of the data, not the base model's answers."""
        return bool(self.regimes) and self.config["clean_rows"].get("answers") == "data"

    @property
    def processes(self) -> int:
        """Of a training job, unless the profile gives it several GPUs."""
        return self.config["train"].get("processes", 1) if self.regimes else 1

    @property
    def training_gpus(self) -> dict[str, int]:
        """What training jobs ask for where several processes need a GPU each; elsewhere the profile says it."""
        several = self.processes > 1 and self.config["model"]["device"].startswith("cuda")
        return {"gpu": self.processes} if several else {}

    def launcher(self, gpus: int, file: Callable[[str], str] = str) -> str:
        """What stands before the command of a training job that has so many GPUs (0: not stated): nothing for one
        process. file: where a file of the project stands for the job.

        It is no param that reruns jobs: another number of processes gives the same training but for rounding.
        """
        on_gpus = self.config["model"]["device"].startswith("cuda")
        several = on_gpus and isinstance(gpus, int) and gpus > 1  # a plan may not know it yet
        processes = gpus if several else self.processes
        if processes == 1:
            return ""
        sharded = "--use_fsdp " if self.config["train"].get("sharding", "none") == "full" else ""
        settings = shlex.quote(file("workflow/accelerate.yaml"))
        return f"accelerate launch --config_file {settings} --num_processes {processes} {sharded}--no_python "

    def answered_groups(self) -> list[Group]:
        """Groups of saves that are no anchors, where these are asked anything."""
        if not self.config["completions"]["every_save"]:
            return []
        return [group for name in self.trajectories for group in self.between_anchors(name)]

    @property
    def by_behaviour(self) -> bool:
        """R is the contrast of refused and other prompts."""
        return self.config["refusal"]["contrast"] == "behaviour"

    def carriers_elsewhere(self, regime: str) -> list[str]:
        """The regime whose reference site serves where another has no R: R2D2 without its refresh, if it is trained."""
        if regime not in self.regimes:
            return []
        frozen = [
            name for name, spec in self.regimes.items() if spec["kind"] == "r2d2" and not spec.get("refresh", True)
        ]
        return [name for name in frozen[:1] if name != regime]

    # ---------------------------------------------------------------------------------------------- causal sweep

    def swept(self) -> list[tuple[int, str, int]]:
        """(seed, trajectory or aligned model, step) of every swept checkpoint. An aligned model has no seed: the first
        stands."""
        points = self.at_anchors(self.config["sweep"]["checkpoints"])
        checkpoints = [(seed, *point) for seed in self.seeds for point in points]
        return checkpoints + [(self.seeds[0], name, 0) for name in self.models]

    def targets(self) -> list[Target]:
        """Every target of the sweep: family × λ × mode × scope × rank. Steering adds single directions only."""
        sweep = self.config["sweep"]
        return [
            Target(family, mode, strength, scope, rank)
            for family in ("ablate", "steer")
            for strength in sweep[family]
            for mode in sweep["modes"]
            for scope in sweep["scopes"]
            for rank in sweep["ranks"]
            if family == "ablate" or rank == 1
        ]

    def primary(self) -> list[tuple[int, tuple[str, str], Target]]:
        """(row of sweep.primary, (regime or model, anchor), target) of every cell with a permutation p: a row with
        several modes or λ has a cell for each."""
        return [
            (number, (row["regime"], str(row["anchor"])), Target.of(row | {"mode": mode, "lambda": strength}))
            for number, row in enumerate(self.config["sweep"]["primary"])
            for mode in (row["mode"] if isinstance(row["mode"], list) else [row["mode"]])
            for strength in (row["lambda"] if isinstance(row["lambda"], list) else [row["lambda"]])
        ]

    @property
    def directions(self) -> dict[str, dict]:
        """Directions that were brought in files, by name."""
        return self.config["sweep"].get("directions") or {}

    def generated(self) -> list[str]:
        """Ids of the targets that give answers."""
        return [Target.of(target).id for target in self.config["sweep"]["generate"]["cells"]]

    # --------------------------------------------------------------------------------------------------- attacks

    @property
    def fixed_source(self) -> tuple[str, int]:
        source = self.config["attacks"]["source"]
        return source["regime"], source["step"]

    def at_anchors(self, named: dict[str, list]) -> list[tuple[str, int]]:
        """(regime, step) of anchors that the configuration lists by regime."""
        return [(regime, self.anchors(regime)[str(a)]) for regime, anchors in named.items() for a in anchors]

    @property
    def attack_sources(self) -> list[tuple[str, int]]:
        """Checkpoints that attacks are made on, the fixed source first."""
        return list(dict.fromkeys([self.fixed_source, *self.at_anchors(self.config["transfer"]["sources"])]))

    def attacked(self) -> list[tuple[int, str, int]]:
        """(seed, regime, step) of every source."""
        return [(seed, *source) for seed in self.seeds for source in self.attack_sources]

    def methods(self, regime: str, step: int) -> list[str]:
        """Attacks made on a source: GCG on the fixed one, whatever transfer asks for."""
        transferred = (regime, step) in self.at_anchors(self.config["transfer"]["sources"])
        wanted = set(self.config["transfer"]["methods"] if transferred else [])
        return [m for m in ("gcg", "autodan") if m in wanted or (m == "gcg" and (regime, step) == self.fixed_source)]

    def common_attacks(self, regime: str, step: int) -> list[str]:
        """Attacks on a source that are one for all requests: the universal suffix, on the fixed source only."""
        return ["universal"] if self.config["attacks"].get("universal") and (regime, step) == self.fixed_source else []

    def attack_targets(self, regime: str, step: int) -> list[tuple[str, int]]:
        """Checkpoints that are asked the attacks of a source: itself first."""
        transfer = self.config["transfer"]
        others = self.at_anchors(transfer["targets"]) if (regime, step) in self.at_anchors(transfer["sources"]) else []
        return list(dict.fromkeys([(regime, step), *others]))
