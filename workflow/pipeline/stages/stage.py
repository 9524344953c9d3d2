"""The record of a stage, and the parts of a rule that follow from it."""

import hashlib
import json
import shlex
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.costs.facts import Facts, Need
from pipeline.costs.resources import RESOURCES, stated
from pipeline.digests import code_digest
from pipeline.home import HERE, ONLINE, Home
from pipeline.identity import Group, Job
from pipeline.study import Study

LONGEST = 30_000  # bytes of options in a command; Linux takes 131,072 in one word, and the whole command is one to bash
LISTS = Path(".snakemake") / "options"  # of longer ones, by content
HELD = "env GPU_MEM_MB={resources.gpu_mem_mb} "  # what a job may take of a GPU that it shares; 0: it needs none
ONE_THREAD = "export OMP_NUM_THREADS=1; "  # tables: numpy's threads would fight over the cores


@dataclass(frozen=True)
class Stage:
    """What a rule is besides its files.

    script: of workflow/scripts; environment: of envs/; settings: what the script gets as --params, of which a change
    reruns the job; work: what a job costs; place: what tells its jobs apart (a part of its log's path, with wildcards);
    online: it may ask a hub.
    """

    script: str
    environment: str | Callable[[Study], str]
    settings: Callable[[Study, Job], dict] = lambda study, job: {}
    work: Callable[[Facts, Job], Need] = lambda facts, job: facts.table()  # it runs no model
    place: str = ""
    online: bool = False


@dataclass(frozen=True)
class Bound:
    """A stage of a study: the parts of its rule. `group`: the steps of a rule that is made for them alone; `share`: MB
    of GPU memory for each thread, where the jobs of a run share a GPU; `home`: where the project stands for them."""

    name: str
    stage: Stage
    study: Study
    facts: Facts
    root: Path
    group: Group | None = None
    share: int = 0
    home: Home = HERE

    @property
    def rule(self) -> str:
        return self.name if self.group is None else f"{self.name}__{self.group.name}"

    @property
    def log(self) -> str:
        return self._beside("logs", "log")

    @property
    def benchmark(self) -> str:
        return self._beside("benchmarks", "tsv")

    def _beside(self, kind: str, ending: str) -> str:
        layout, place = self.study.layout, self.stage.place
        folder = layout.root
        if place.startswith("seed"):
            folder, place = layout.seed, place.removeprefix("seed").removeprefix("/")
        if self.group is not None:
            place = "/".join(filter(None, [self.group.name, place]))
        return f"{folder}/{kind}/{self.name}{'/' if place else ''}{place}.{ending}"

    @property
    def environment(self) -> str:
        named = self.stage.environment
        return named if isinstance(named, str) else named(self.study)

    @property
    def conda(self) -> str:
        """From a file of workflow/rules."""
        return f"../../envs/{self.environment}.yaml"

    @property
    def threads(self) -> int:
        return self.study.config["model"]["threads"]

    @property
    def resources(self) -> dict:
        """What the jobs state; nothing reruns when it changes, and local runs are held back by their GPU memory
        alone."""
        share = self.share * self.threads

        def resource(key: str) -> Callable:
            return lambda wildcards, attempt: stated(self.need(wildcards), attempt, share)[key]

        return {key: resource(key) for key in RESOURCES}

    def need(self, wildcards: Mapping[str, str]) -> Need:
        return self.stage.work(self.facts, Job.of(wildcards, self.group))

    @property
    def params(self) -> dict:
        """`code` and `settings` rerun jobs; `files` are the named inputs and outputs as options of the script."""
        return {
            "code": code_digest(self.root, f"workflow/scripts/{self.stage.script}.py"),
            "files": lambda wildcards, input, output: briefly(options(input, GUARDS) + options(output)),
            "settings": lambda wildcards: briefly([self.settings(wildcards)]),
        }

    def settings(self, wildcards: Mapping[str, str]) -> str:
        """JSON in the order of the configuration: roles are served in it."""
        return json.dumps(self.stage.settings(self.study, Job.of(wildcards, self.group)))

    @property
    def command(self) -> str:
        before = ONE_THREAD if self.environment != "torch" else HELD if self.share else ""
        if self.stage.online and not self.home.imported:
            before = ONLINE + before
        script = self.home.command(f"workflow/scripts/{self.stage.script}.py", self.stage.online)
        return before + script + " {params.files} --params {params.settings} --code {params.code} > {log:q} 2>&1"


GUARDS = ("layers", "after")  # inputs that a job waits for and does not read


def options(files: Iterable, left_out: Iterable[str] = ()) -> list[str]:
    """`--name path …` of the named files of a job; names without a file are left out."""
    words = []
    for name, value in files.items():
        paths = [str(value)] if isinstance(value, str) else [str(path) for path in value]
        if paths and name not in left_out:
            words += [f"--{name.replace('_', '-')}", *paths]
    return words


def briefly(words: list[str]) -> str:
    """The words of a command, quoted; of many, the name of a file that holds one a line, which scripts read in their
    place."""
    command = shlex.join(words)
    if len(command.encode()) <= LONGEST:
        return command
    text = "\n".join(words) + "\n"
    return f"@{by_content(LISTS, text, 'txt')}"


def by_content(folder: Path, text: str, ending: str) -> Path:
    """A file that holds the text and is named by it."""
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.{ending}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(f".{uuid.uuid4().hex}")
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(path)
    return path
