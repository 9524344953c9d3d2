"""Where the files of a study stand: every path of the graph. Harmful text stays below `private`.

`{seed}`, `{regime}`, `{step}` and other wildcards are left for Snakemake; `filled(path, …)` fills them in.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pipeline.identity import Group

if TYPE_CHECKING:
    from pipeline.study import Study

PROBES = ("fit_harmful", "fit_benign", "select_harmful", "select_benign")  # roles that activations are cached of
CHECKPOINT = "{regime}/step{step}"
TRAINED_JUDGES = ("refusal", "harm")
LABELLED = (*TRAINED_JUDGES, "severity")  # what they learn from
TEMPLATES = ("template", "contextual_template")
# Suite -> attack on the fixed source.
ATTACKED_SUITES = {"fixed_source": "gcg", "autodan": "autodan", "universal": "universal"}


def filled(path: str, seed: int | str = "{seed}", regime: str = "{regime}", step: int | str = "{step}") -> str:
    """`path` with its wildcards filled in; those that are not given stay."""
    return path.replace("{seed}", str(seed)).replace("{regime}", regime).replace("{step}", str(step))


class Layout:
    """Paths below results/<study>/."""

    def __init__(self, study: Study):
        self.study = study
        self.root = f"results/{study.config['study']}"
        self.private = f"{self.root}/private"
        self.seed = f"{self.root}/seed{{seed}}"
        self.private_seed = f"{self.private}/seed{{seed}}"

        self.base = f"{self.root}/models/base"
        self.layers = f"{self.root}/models/layers.json"  # number of blocks of each of `models`
        self.probes = {name: self.role(name) for name in PROBES}  # prompts that activations are cached of, by role
        self.clean_rows = f"{self.private_seed}/clean_rows.jsonl"
        self.leakage = f"{self.seed}/leakage.csv"
        self.training_table = f"{self.seed}/training.csv"
        self.anchor_activations = f"{self.seed}/activations/{CHECKPOINT}.safetensors"
        self.anchor_completions = f"{self.private_seed}/completions/{CHECKPOINT}.jsonl"
        self.sampled_answers = f"{self.private_seed}/sampled/{CHECKPOINT}.jsonl"
        self.sampled_judged = f"{self.seed}/sampled/{CHECKPOINT}/judged.csv"
        self.anchor_judged = f"{self.seed}/judged/{CHECKPOINT}/judged.csv"
        self.scores = f"{self.seed}/scores/{CHECKPOINT}.safetensors"
        self.rulers = f"{self.seed}/rulers/{{model}}/rulers.csv"
        self.carriers = f"{self.seed}/carriers/{{regime}}/carriers.safetensors"
        self.prompt_activations = f"{self.seed}/completions/{CHECKPOINT}.safetensors"
        self.cells = f"{self.seed}/sweep/{CHECKPOINT}/cells.csv"
        self.readout = f"{self.seed}/sweep/{CHECKPOINT}/readout.csv"
        self.reply_inversion = f"{self.seed}/sweep/{CHECKPOINT}/reply_inversion.csv"
        self.directions = f"{self.seed}/sweep/{CHECKPOINT}/directions.csv"
        self.sweep_answers = f"{self.private_seed}/sweep/{CHECKPOINT}/completions.jsonl"
        self.sweep_judged = f"{self.seed}/sweep/{CHECKPOINT}/sweep/judged.csv"
        self.follow_up_choice = f"{self.seed}/sweep/choice.json"
        self.follow_up_answers = f"{self.private_seed}/sweep/{CHECKPOINT}/follow_up.jsonl"
        self.follow_up_judged = f"{self.seed}/sweep/{CHECKPOINT}/follow_up/judged.csv"
        self.quadrant_texts = f"{self.private}/quadrants.jsonl"
        self.behaviours = f"{self.private_seed}/attacks/behaviours.jsonl"
        self.universal_behaviours = f"{self.private_seed}/attacks/universal_behaviours.jsonl"
        self.framings = f"{self.private_seed}/attacks/framings.jsonl"
        self.transfer_answers = f"{self.private_seed}/transfer/{CHECKPOINT}.jsonl"
        self.transfer_judged = f"{self.seed}/transfer/{CHECKPOINT}/judged.csv"
        self.judges_table = f"{self.root}/judges/judges.csv"

    # ------------------------------------------------------------------------------------------- sources and models

    def source(self, name: str = "{name}") -> str:
        return f"{self.private}/sources/{name}"

    def download(self, name: str) -> str:
        """What stands for the hub's cache, where a fetched source is deleted."""
        return f"{self.private}/sources/.{name}.download"

    def read_before(self, source: str) -> list[str]:
        """Files that are made of an earlier step before a source that passes is fetched."""
        study, files = self.study, []
        for name, step in study.read_before(*study.passing_sources[source]):
            files += [filled(self.activations(name, step), seed) for seed in study.seeds]
            if not study.waits(name, step):
                asked = [seed for seed in study.all_seeds if study.suites(name, step, seed)]
                files += [filled(self.completions(name, step), seed) for seed in asked]
        return files

    def passing(self) -> list[str]:
        """Folders of models and adapters that were brought and are deleted when they have been read."""
        passing = self.study.passing
        return [
            self.brought(name, s) for name in self.study.brought for s in self.study.steps(name) if passing(name, s)
        ]

    def role(self, name: str) -> str:
        """Prompts of a role: a seed's, but for those that train the judges of all seeds."""
        folder = self.private if name in self.study.judge_roles else self.private_seed
        return f"{folder}/prompts/{name}.jsonl"

    def roles(self, judges: bool) -> list[str]:
        """Files of the roles of judges, or of all others."""
        names = self.study.config["prompts"]["roles"]
        return [self.role(name) for name in names if (name in self.study.judge_roles) == judges]

    def model(self, name: str, step: int) -> str:
        """Model folder of a checkpoint: its own, or the base that its adapter belongs to."""
        if name in self.study.models:
            return f"{self.root}/models/{name}"
        if name not in self.study.brought:
            return self.base
        return self.brought_base(name) if self.study.has_adapter(name, step) else self.brought(name, step)

    def brought(self, name: str, step: int) -> str:
        """Folder of a checkpoint that was not trained here: a model or an adapter."""
        return f"{self.root}/models/{name}/step{step}"

    def brought_base(self, name: str) -> str:
        """What the adapters among such checkpoints belong to: a base of their own, or the regimes'."""
        return f"{self.root}/models/{name}/base" if "base" in self.study.brought[name] else self.base

    def checkpoint(self, regime: str, step: int) -> str:
        """Folder of a LoRA adapter that is trained here."""
        return f"{self.seed}/checkpoints/{regime}/step{step}"

    def adapter(self, name: str, step: int) -> list[str]:
        """Folder of a checkpoint's adapter, where it has one."""
        if not self.study.has_adapter(name, step):
            return []
        return [self.brought(name, step) if name in self.study.brought else self.checkpoint(name, step)]

    def weights(self, name: str, step: int, seed: int | str) -> dict[str, str]:
        """Files of a checkpoint that is loaded: `model`, and `adapter` where it has one."""
        paths = [self.model(name, step), *self.adapter(name, step)]
        return {key: filled(path, seed) for key, path in zip(("model", "adapter"), paths, strict=False)}

    def group_weights(self, group: Group) -> dict[str, str | list[str]]:
        """Files of the checkpoints that one job loads one after the other."""
        adapters = [adapter for step in group.steps for adapter in self.adapter(group.regime, step)]
        return {"model": self.model(group.regime, group.steps[0]), "adapters": adapters}

    def models(self) -> dict[str, str]:
        """Name -> folder of every model that layers are read of; of the steps of a trajectory, which are alike, the
        first one's."""
        study = self.study
        bases = {"base": self.base} if study.regimes else {}
        return bases | {name: self.model(name, study.steps(name)[0]) for name in [*study.brought, *study.models]}

    def converted(self) -> dict[str, tuple[dict, dict[str, str]]]:
        """Folder -> (entry of the configuration, files) of every model or adapter that is made from a fetched one.

        Files: `source`, and where there is one the `template`, the `base` of an adapter, and the model that it has to
        be `like`.
        """
        made, base = {}, self.study.config["model"]
        if base["format"] not in ("tiny", None):
            made[self.base] = base, self._fetched(base)
        for name, spec in self.study.models.items():
            made[self.model(name, 0)] = spec, self._fetched(spec)
        for name, trajectory in self.study.brought.items():
            template, first = trajectory.get("chat_template"), self.study.steps(name)[0]
            if "base" in trajectory:
                made[self.brought_base(name)] = trajectory["base"], self._fetched(trajectory["base"], template)
            for step, spec in sorted(trajectory["steps"].items()):
                adapted = spec["format"] == "adapter"
                files = self._fetched(spec, None if adapted else template)
                if adapted:
                    files["base"] = self.brought_base(name)
                if self.model(name, step) != self.model(name, first):  # the steps of a trajectory are set side by side
                    files["like"] = self.model(name, first)
                made[self.brought(name, step)] = spec, files
        return made

    def _fetched(self, spec: dict, template: str | None = None) -> dict[str, str]:
        template = template or spec.get("chat_template")
        return {"source": self.source(spec["source"])} | ({"template": template} if template else {})

    # --------------------------------------------------------------------------------------------------- training

    def state(self, group: Group, start: bool = False) -> dict[str, str]:
        """Optimiser state and pool at a segment's end, or start. The pool holds harmful text."""
        folder = f"{self.private_seed}/training/{group.regime}/{group.start if start else group.stop}"
        return {"state": f"{folder}/state.safetensors", "progress": f"{folder}/progress.json"}

    def training_log(self, group: Group) -> str:
        return f"{self.private_seed}/training/{group.regime}/{group.stop}/training_log.csv"

    def monitor_answers(self, group: Group) -> str:
        return f"{self.private_seed}/training/{group.regime}/{group.stop}/monitor.jsonl"

    # --------------------------------------------------------------------------------- what a checkpoint is asked

    def _apart(self, regime: str, step: int) -> str:
        """The saves that are no anchors stand apart, since one job makes many of them."""
        return f"{regime}/step{step}" if self.study.anchor_name(regime, step) else f"{regime}/saves/step{step}"

    def activations(self, regime: str, step: int) -> str:
        return f"{self.seed}/activations/{self._apart(regime, step)}.safetensors"

    def fit_labels(self, regime: str, step: int | str) -> list[str]:
        """Which fit prompts a checkpoint refuses; needed where the refusal carrier contrasts behaviour."""
        return [f"{self.seed}/fit_labels/{regime}/step{step}.json"] if self.study.by_behaviour else []

    def regime_table(self, name: str) -> str:
        """Of a regime's carriers: coupling, geometry, coupling_controls, profile, selection, separability."""
        return f"{self.seed}/carriers/{{regime}}/{name}.csv"

    def rulers_of(self, regime: str) -> str:
        """Rulers of the probe prompts by the tokenizer that a trajectory has: the regimes share the base's."""
        return self.rulers.replace("{model}", "base" if regime in self.study.regimes else regime)

    def completions(self, regime: str, step: int) -> str:
        return f"{self.private_seed}/completions/{self._apart(regime, step)}.jsonl"

    def judged(self, regime: str, step: int) -> str:
        return f"{self.seed}/judged/{self._apart(regime, step)}/judged.csv"

    def all_judged(self, points: Iterable[tuple[int, str, int]]) -> list[str]:
        """Judged answers of each (seed, regime, step)."""
        return [filled(self.judged(regime, step), seed) for seed, regime, step in points]

    def suite(self, name: str) -> str:
        """Prompts of a suite: a role, or attacks on requests of role direct."""
        if name == "framings":
            return self.framings
        if name in ATTACKED_SUITES:
            regime, step = self.study.fixed_source
            return filled(self.attacks(ATTACKED_SUITES[name]), regime=regime, step=step)
        return self.role(name)

    def suites(self, regime: str, step: int, seed: int | None = None) -> list[str]:
        return [self.suite(name) for name in self.study.suites(regime, step, seed)]

    # ------------------------------------------------------------------------------------------ attacks and sweeps

    def attacks(self, method: str) -> str:
        return f"{self.private_seed}/attacks/{method}/{CHECKPOINT}.jsonl"

    def attack_parts(self, method: str) -> str:
        """Rows of the table `attacks` that one job makes."""
        return f"{self.seed}/attacks/{method}/{CHECKPOINT}.csv"

    def each(self, path: str, points: Iterable[tuple[int, str, int]]) -> list[str]:
        """A file of each (seed, regime, step)."""
        return [filled(path, *point) for point in points]

    def swept(self, path: str, seed: int | None = None) -> list[str]:
        """A file of every swept checkpoint, of one seed or of all, in the order of study.swept."""
        return self.each(path, [point for point in self.study.swept() if seed in (None, point[0])])

    def direction_files(self) -> list[str]:
        return [spec["file"] for spec in self.study.directions.values()]

    # ---------------------------------------------------------------------------------------------------- judges

    def trained_judge(self, kind: str) -> str:
        """Trained judges hold words of harmful answers: private."""
        return f"{self.private}/judges/{kind}.json"

    def judge_template(self, judge: str = "{judge}", part: str = "{part}") -> str:
        """A published wording that is taken out of a fetched file."""
        return f"{self.root}/judges/{judge}/{part}.txt"

    def judge_model(self, judge: str) -> dict[str, str]:
        """Of a judge that is a model: its folder, that of what it is an adapter of, the wordings of its prompts."""
        spec = self.study.model_judges[judge]
        files = {"model": self.source(spec["source"])}
        if spec.get("base"):
            files["base"] = self.source(spec["base"])
        for part in TEMPLATES:
            if wording := spec.get(part):
                files[part] = wording if isinstance(wording, str) else self.judge_template(judge, part)
        return files

    def verdicts(self, judge: str, asked: str, place: str = CHECKPOINT) -> str:
        """What a judge that is a model says of answers to: suites, saves (suites there), sampled, sweep, follow_up or
        transfer."""
        return f"{self.seed}/verdicts/{judge}/{asked}/{place}/verdicts.csv"

    def answers(self, asked: str) -> str:
        """The answers themselves, of all but the saves between anchors."""
        return {
            "suites": self.anchor_completions,
            "sweep": self.sweep_answers,
            "follow_up": self.follow_up_answers,
            "transfer": self.transfer_answers,
            "sampled": self.sampled_answers,
        }[asked]

    def compared_verdicts(self) -> list[str]:
        """Of every judge that is a model at every anchor."""
        points = self.study.compared()
        return [path for judge in self.study.model_judges for path in self.each(self.verdicts(judge, "suites"), points)]

    def judges(self, asked: str, places: Iterable[str] = (CHECKPOINT,)) -> dict[str, str | list[str]]:
        """What decides on answers: files of the trained judges, and verdicts of models; `places`: regime and step of
        each file of answers."""
        trained = {kind: self.trained_judge(kind) for kind in TRAINED_JUDGES if self.study.labelled}
        models = {
            f"{decided}_verdicts": [self.verdicts(judge, asked, place) for place in places]
            for decided, judge in self.study.deciding_models.items()
        }
        return trained | self.embeddings() | models

    def embeddings(self) -> dict[str, str]:
        """The source of the sentence embeddings that the trained judge of harm sees, where it does."""
        spec = self.study.embeddings
        return {"embeddings": self.source(spec["source"])} if spec else {}

    def labelled_kinds(self) -> list[str]:
        """Sets of labelled answers that the study has."""
        return [kind for kind in LABELLED if self.study.labelled.get(kind)]

    def labelled(self, kind: str) -> list[str]:
        """Folder of a labelled set's files: a source, or this project."""
        spec = self.study.labelled[kind]
        return [self.source(spec["source"])] if spec["source"] else spec["files"]

    # --------------------------------------------------------------------------------------------- what comes out

    def table(self, name: str) -> str:
        return f"{self.root}/tables/{name}.csv"

    def figure(self, name: str, kind: str) -> str:
        return f"{self.root}/figures/{name}.{kind}"
