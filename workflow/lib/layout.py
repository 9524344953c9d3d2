"""Where the files of a study stand. Harmful text stays below `private`."""

from study import Segment, Study


class Layout:
    """Paths below results/<study>/; `{seed}`, `{regime}` and `{step}` are left for Snakemake."""

    def __init__(self, study: Study):
        config = study.config
        self.study = study
        self.root = f"results/{config['study']}"
        self.private = f"{self.root}/private"
        self.seed = f"{self.root}/seed{{seed}}"
        self.private_seed = f"{self.private}/seed{{seed}}"
        self.base = f"{self.root}/models/base"

    def role(self, name: str) -> str:
        return f"{self.private}/prompts/{name}.jsonl"

    def checkpoint(self, regime: str, step: int) -> str:
        """Folder of a LoRA adapter."""
        return f"{self.seed}/checkpoints/{regime}/step{step}"

    def model(self, name: str, step: int) -> str:
        """Model folder of a checkpoint: its own, or the base that its adapter belongs to."""
        if name in self.study.models:
            return f"{self.root}/models/{name}"
        if name not in self.study.own:
            return self.base
        return self.own_base(name) if self.study.has_adapter(name, step) else self.own(name, step)

    def adapter(self, name: str, step: int) -> list[str]:
        """Folder of a checkpoint's adapter, where it has one."""
        if not self.study.has_adapter(name, step):
            return []
        return [self.own(name, step) if name in self.study.own else self.checkpoint(name, step)]

    def own(self, name: str, step: int) -> str:
        """Folder of a checkpoint that was not trained here: a model or an adapter."""
        return f"{self.root}/models/{name}/step{step}"

    def own_base(self, name: str) -> str:
        """What the adapters among such checkpoints belong to: a base of their own, or the regimes'."""
        return f"{self.root}/models/{name}/base" if "base" in self.study.own[name] else self.base

    def weights(self, name: str, step: int, seed: int) -> dict[str, str]:
        """Files of a checkpoint that is loaded: `model`, and `adapter` where it has one."""
        paths = [self.model(name, step), *self.adapter(name, step)]
        return {key: path.format(seed=seed) for key, path in zip(("model", "adapter"), paths, strict=False)}

    @property
    def layers(self) -> str:
        """Number of blocks of each of `models`."""
        return f"{self.root}/models/layers.json"

    def models(self) -> dict[str, str]:
        """Name -> folder of every model that layers are read of; of the steps of a trajectory, which are alike, the first one's."""
        study = self.study
        found = {"base": self.base} if study.regimes else {}
        return found | {name: self.model(name, study.steps(name)[0]) for name in [*study.own, *study.models]}

    def converted(self) -> dict[str, dict]:
        """Rule name -> {folder, format, files} of every folder that is made from a fetched model or adapter."""
        made, base = {}, self.study.config["model"]
        if base["format"] not in ("tiny", None):
            made["base_model"] = self._converted(base, self.base)
        for name, spec in self.study.models.items():
            made[f"model_{name}"] = self._converted(spec, self.model(name, 0))
        for name, trajectory in self.study.own.items():
            template, first = trajectory.get("chat_template"), self.study.steps(name)[0]
            if "base" in trajectory:
                made[f"base_of_{name}"] = self._converted(trajectory["base"], self.own_base(name), template)
            for step, spec in sorted(trajectory["steps"].items()):
                adapted = spec["format"] == "adapter"
                made[f"checkpoint_{name}_{step}"] = self._converted(
                    spec, self.own(name, step), None if adapted else template
                )
                files = made[f"checkpoint_{name}_{step}"]["files"]
                if adapted:
                    files["base"] = self.own_base(name)
                if self.model(name, step) != self.model(name, first):  # the steps of a trajectory are set side by side
                    files["like"] = self.model(name, first)
        return made

    def _converted(self, spec: dict, folder: str, template: str | None = None) -> dict:
        files, template = {"source": f"{self.private}/sources/{spec['source']}"}, template or spec.get("chat_template")
        return {
            "folder": folder,
            "format": spec["format"],
            "files": files | ({"template": template} if template else {}),
        }

    def swept(self, file: str, seed: int | None = None) -> list[str]:
        """A file of every swept checkpoint, of one seed or of all, in the order of study.swept."""
        return [f"{self.root}/seed{s}/sweep/{name}/step{step}/{file}"
                for s, name, step in self.study.swept() if seed in (None, s)]  # fmt: skip

    def state(self, regime: str, step: int) -> dict[str, str]:
        """Optimiser state and pool at a segment's end. The pool holds harmful text."""
        folder = f"{self.private_seed}/training/{regime}/{step}"
        return {"state": f"{folder}/state.safetensors", "progress": f"{folder}/progress.json"}

    def training_log(self, segment: Segment) -> str:
        return f"{self.private_seed}/training/{segment.regime}/{segment.stop}/training.csv"

    def suite(self, name: str) -> str:
        """Prompts of a suite: a role, or the fixed-source attacks."""
        regime, step = self.study.fixed_source
        fixed = f"{self.private_seed}/attacks/gcg/{regime}/step{step}.jsonl"
        return fixed if name == "fixed_source" else self.role(name)

    def fit_labels(self, regime: str, step: int | str) -> list[str]:
        """Which fit prompts a checkpoint refuses; needed where the refusal carrier contrasts behaviour."""
        return [f"{self.seed}/fit_labels/{regime}/step{step}.json"] if self.study.by_behaviour else []

    def table(self, name: str) -> str:
        return f"{self.root}/tables/{name}.csv"

    def judged_checkpoints(self) -> list[tuple[int, str, int]]:
        """(seed, regime, step) of every checkpoint with a suite, in the order of seeds, regimes and steps."""
        points = [point for point in self.study.checkpoints() if self.study.suites(*point)]
        return [(seed, *point) for seed in self.study.config["seeds"] for point in points]

    def completions(self, regime: str, step: int) -> str:
        """Answers of a checkpoint; the saves that are no anchors stand apart, since one job makes many of them."""
        apart = "" if self.study.anchor_name(regime, step) else "saves/"
        return f"{self.private_seed}/completions/{regime}/{apart}step{step}.jsonl"

    def judgement(self, regime: str, step: int) -> str:
        apart = "" if self.study.anchor_name(regime, step) else "saves/"
        return f"{self.seed}/judged/{regime}/{apart}step{step}/judged.csv"

    def judged(self) -> list[str]:
        return [
            self.judgement(regime, step).replace("{seed}", str(seed))
            for seed, regime, step in self.judged_checkpoints()
        ]

    def labelled_place(self, spec: dict) -> list[str]:
        """Folder of a labelled set's files: a source, or this project."""
        return [f"{self.private}/sources/{spec['source']}"] if spec["source"] else spec["files"]

    def labelled_files(self, spec: dict) -> tuple[list[str], list[str]]:
        """The files of a labelled set: by name, and by patterns within the source that has them."""
        if spec["source"] is None:
            return spec["files"], []
        return [], [f"{self.private}/sources/{spec['source']}/{pattern}" for pattern in spec["files"]]

    def published_judges(self, published: dict[str, dict]) -> dict[str, str]:
        """Options and files of the published judges: their model folders and the wordings of their prompts."""
        files = {}
        for name, spec in published.items():
            files[f"{name}_model"] = f"{self.private}/sources/{spec['source']}"
            if spec.get("base"):
                files[f"{name}_base"] = f"{self.private}/sources/{spec['base']}"
            for part in ("template", "contextual_template"):
                if given := spec.get(part):
                    files[f"{name}_{part}"] = given if isinstance(given, str) else self.judge_template(name, part)
        return files

    def judge_template(self, name: str, part: str) -> str:
        """A published wording that is taken out of a fetched file."""
        return f"{self.root}/judges/{name}_{part}.txt"
