"""What the needs of all jobs rest on: shapes, numbers of prompts, tokens; and how a need is made of them."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from pipeline.costs import sizes
from pipeline.costs.rates import Rates, Work
from pipeline.costs.shapes import BYTES, Shape, shape_of
from pipeline.study import Study

MB = 1_000_000
# Tokens, for texts that are not known before they are fetched.
PREFIX = 30  # what all prompts begin with: a system prompt
REQUEST = 24  # a request and what the chat template puts behind it
TARGET = 10  # an affirmative opening
BEHIND = 8  # what the template puts between an attacked request and the answer
CONVERSATION = 1000  # a conversation of a data set, where train.max_length does not cut it
WORD = 1.4  # a word of English
ATTACK_PROMPT = 110  # an AutoDAN prompt with its request
JUDGED = 600  # the prompt of a judge that is a model
ANSWERED = 0.8  # share of the answers' limit that is used
UNKNOWN = {"all": 600, "published": 200}  # prompts of a role whose number is not in the configuration
# Host memory of a Python with its libraries, MB; memory of a GPU's context.
TABLES, MODEL, TRAINING, GPU_HOST, GPU_CONTEXT = 300, 450, 550, 3500, 700


@dataclass(frozen=True)
class Need:
    """Of one job. seconds: on the device of the rates; memory and gpu in MB (gpu 0: none); disk: MB that it leaves;
    passing: MB of its outputs that are deleted when all that reads them has run; model: it runs one; processes: that
    share it, each with as much GPU memory; memory is that of all."""

    seconds: float
    memory: float
    gpu: float = 0.0
    disk: float = 0.0
    passing: float = 0.0
    model: bool = False
    processes: int = 1


class Facts:
    """A study on a device."""

    def __init__(self, study: Study, rates: Rates, folder: Path | None = None):
        """`folder`: results/<study>, where fetched models say their shape; None: shapes come from the configuration."""
        self.study, self.rates, self.folder, self.config = study, rates, folder, study.config
        self.size = BYTES[self.config["model"]["dtype"]]
        self.on_gpu = self.config["model"]["device"].startswith("cuda")

    @cached_property
    def base(self) -> Shape:
        """Of the model that is trained; where none is, of the first that was brought."""
        model = self.config["model"]
        if model["format"] is None:
            return self.shape(next(iter(self.study.brought)))
        return shape_of(
            model, self.config["sources"].get(model["source"]), self.folder and self.folder / "models" / "base"
        )

    def shape(self, name: str) -> Shape:
        """Of a regime's model, of a trajectory that was brought (its steps are alike), or of an aligned model."""
        if name in self.study.regimes:
            return self.base
        folder = self.folder and self.folder / "models" / name
        if name in self.study.models:
            spec = self.study.models[name]
            return shape_of({"name": name} | spec, self.config["sources"].get(spec["source"]), folder)
        brought = self.study.brought[name]
        whole = [(s, f"step{step}") for step, s in sorted(brought["steps"].items()) if s["format"] != "adapter"]
        whole += [(brought["base"], "base")] if "base" in brought else []
        if not whole:  # adapters of the study's own base
            return self.base
        spec, part = whole[0]
        model = {"name": name} | ({"shape": brought["shape"]} if "shape" in brought else {})
        return shape_of(model, self.config["sources"].get(spec["source"]), folder and folder / part)

    def shape_in(self, folder: str) -> Shape:
        """Of a model that is converted into `folder` of the layout, or that the adapter there belongs to."""
        name = folder.removeprefix(f"{self.study.layout.root}/models/").split("/")[0]
        return self.shape(name) if name in (*self.study.brought, *self.study.models) else self.base

    def merging(self, shape: Shape) -> float:
        """Seconds until the next save of a group is ready: a copy of the base, the merge of the adapter, the move to
        the device."""
        return 4 * shape.parameters * self.size / self.rates.load

    def judge(self, name: str) -> Shape:
        """Of a judge that is a model; of an adapter, that of what it is put on."""
        spec = self.study.model_judges[name]
        source = self.config["sources"].get(spec.get("base") or spec["source"])
        return shape_of({"name": name} | ({"shape": spec["shape"]} if "shape" in spec else {}), source)

    def prompts(self, role: str) -> int:
        """Prompts of a role, as far as the configuration says."""
        spec = self.config["prompts"]["roles"][role]
        if isinstance(spec["n"], int):
            return spec["n"]
        return self.prompts(spec["pairs"]) if spec.get("pairs") else UNKNOWN[spec["n"]]  # at most a match each

    @cached_property
    def clean_answer(self) -> float:
        """Tokens of an answer that the clean rows bring with them: the mean where they are files of this machine,
        else CONVERSATION."""
        names = {name for role in self.config["clean_rows"]["roles"] for name in self.study.sets_of(role)}
        sets = [self.config["prompts"]["sets"][name] for name in sorted(names)]
        files = [file for prompts in sets if prompts["source"] is None for file in prompts["files"]]
        words = [n for file in files for n in answer_words(Path(file))]
        return WORD * sum(words) / len(words) if words else CONVERSATION

    @property
    def probes(self) -> tuple[int, int]:
        """Fit and select prompts, both classes together."""
        return tuple(sum(self.prompts(f"{kind}_{c}") for c in ("harmful", "benign")) for kind in ("fit", "select"))

    @property
    def positions(self) -> int:
        return len(self.config["activations"]["positions"]) + 1

    @property
    def adapter(self) -> int:
        """Bytes of a saved adapter."""
        return sizes.adapter(self.base, self.config["lora"]["rank"], self.config["lora"]["targets"])

    def suites(self, regime: str, step: int, seed: int | None = None) -> dict[str, int]:
        """Prompts of each evaluation suite of a checkpoint."""
        attacks, direct = self.config["attacks"], self.prompts("direct")
        attacked = {
            "fixed_source": 2 * attacks["behaviours"],  # each beside its unoptimised arm
            "autodan": attacks["behaviours"],
            "framings": attacks["framings"] * direct,
            "universal": direct,
        }
        numbers = {}
        for suite, first in self.study.suites(regime, step, seed).items():
            available = attacked[suite] if suite in attacked else self.prompts(suite)
            numbers[suite] = available if first is None else min(first, available)
        return numbers

    def decoding(self, shape: Shape, rows: int, limit: float, prompt: float = PREFIX + REQUEST) -> float:
        """Bytes that answers to `rows` prompts, each of so many tokens, hold."""
        return sizes.decoding(shape, self.size, rows, prompt, limit, self.config["model"]["graphs"])

    def probe_pass(self, shape: Shape, rows: int) -> float:
        """Bytes that a pass over prompts holds."""
        return sizes.one_pass(shape, self.size, rows, REQUEST) + sizes.key_values(shape, self.size, 1, PREFIX)

    def table(self, seconds: float = 4.0, memory: float = 0.0, disk: float = 0.2) -> Need:
        """A job without a model; `memory` and `disk` in MB."""
        return Need(seconds, TABLES + memory, disk=disk)

    def model(
        self,
        work: Work,
        held: float,
        disk: float,
        *,
        copies: int = 1,
        host: float = 0.0,
        base: float = MODEL,
        passing: float = 0.0,
    ) -> Need:
        """A job that runs a model. held: bytes on the device besides the weights; host: bytes on the host besides them;
        disk, passing: bytes; copies: of the weights on the host; base: MB of Python and its libraries."""
        weights, seconds = work.shape.parameters * work.size, work.seconds(self.rates)
        if self.on_gpu:
            memory = GPU_HOST + (copies * weights + host) / MB
            return Need(seconds, memory, GPU_CONTEXT + (weights + held) / MB, disk / MB, passing / MB, True)
        return Need(seconds, base + (copies * weights + held + host) / MB, 0.0, disk / MB, passing / MB, True)


def answer_words(file: Path, most: int = 200) -> Iterator[int]:
    """Words of the answers in the first rows of a .jsonl; none from where it cannot be read on: fetching says why."""
    with suppress(OSError, ValueError, AttributeError), file.open(encoding="utf-8") as rows:
        for row in islice(rows, most):
            yield len(json.loads(row).get("answer", "").split())
