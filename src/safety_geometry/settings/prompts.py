"""Sets of prompts, and who gets which of them."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from safety_geometry.settings.kinds import (
    Count,
    FileNames,
    Name,
    Natural,
    Part,
    Settings,
    at_least,
    each_once,
    either,
    key,
    lacking,
    optional,
)

ROLES = ("direct", "usefulness", "lookalike", "utility", "fit_harmful", "fit_benign", "select_harmful", "select_benign")
TRAINING_ROLES = ("monitor_harmful", "monitor_benign", "train_pool", "clean")


class Targets(Settings):
    """Published openings of answers, by the id of a behaviour (format harmbench_csv)."""

    source: str = key("One of `sources`.")
    files: FileNames = key("Files of it, or patterns.")


class PromptSet(Settings):
    """Prompts of one origin. docs/howto.md lists the formats."""

    source: str | None = key("One of `sources`; null: files of this project.")
    files: FileNames = key("Files, or patterns within the source.")
    format: Literal[
        "advbench_prompt",
        "advbench_csv",
        "lines",
        "donotanswer_jsonl",
        "jsonl",
        "harmbench_csv",
        "xstest_csv",
        "strongreject_csv",
        "cosmic_json",
        "ultrachat",
        "pyrit_labels",
        "labelled_jsonl",
    ] = key("How the files are read.")
    label: Literal["harmful", "benign"] = optional("Of all its prompts; left out: the file says it of each.")
    sample: Count = optional("So many prompts of a large file, drawn by hash.")
    targets: Targets = optional("Published openings of the answers.")


class Role(Settings):
    """The prompts that one purpose has to itself."""

    set: either(Name, each_once(Name, 1)) = key("The set, or the sets, that they are drawn from.")
    n: either(Count, Literal["all", "published"]) = key(
        "How many. `all`: all that no other role holds. `published`: the set as it stands, overlaps left to the leakage"
        " check."
    )
    kind: Literal["evaluation", "monitor", "probe", "train", "judge"] = key("Evaluation is served first.")
    balance: str = optional("A field of the prompts whose values take turns.")
    filter: dict[str, either(str, float, int, bool, list)] = optional(
        "Field: the value, or list of values, that its prompts have."
    )
    shares: str = optional("A role with which prompts may be shared.")
    pairs: Name = optional(
        "An earlier role whose prompts have their matches here (field `pair`: the match's id in its file): only matches"
        " of drawn prompts are drawn, and prompts with a match are drawn first."
    )


def _needed(roles: dict) -> dict:
    if lacks := [name for name in ROLES if name not in roles]:
        raise lacking(lacks)
    return roles


class Prompts(Settings):
    """Prompts of the study: their sets, and their roles."""

    seed: Natural = key("Of the draws.")
    per_seed: bool = key("Each of `seeds` draws prompts of its own; false: one draw for all of them.")
    near_duplicate: Part = key(
        "Jaccard of content words from which two prompts count as one; clusters stay in one role."
    )
    on_leak: Literal["fail", "drop"] = key("`drop`: drop the training side and report.")
    target_words: at_least(3) | None = key("Affirmative openings are cut after so many words; null: whole.")
    sets: dict[Name, PromptSet] = key("Sets of prompts, by name.")
    roles: Annotated[dict[Name, Role], AfterValidator(_needed)] = key(
        "Who gets which prompts. Roles are disjoint; the tables of a role hold exactly `n` prompts."
    )


class CleanRows(Settings):
    """Rows of ordinary training: requests of these roles, with answers."""

    roles: Annotated[list[Name], Field(min_length=1)] = key("Roles whose requests they are.")
    answers: Literal["model", "data"] = optional(
        "`model` (if left out): the base model's own. `data`: those that the sets have (format ultrachat)."
    )
    max_new_tokens: Count = optional("Longest answer of the model.")
    batch_size: Count = optional("Requests answered together.")

    @model_validator(mode="after")
    def _answered_by_something(self) -> "CleanRows":
        lacks = [name for name in ("max_new_tokens", "batch_size") if getattr(self, name) is None]
        if self.answers != "data" and lacks:
            raise lacking(lacks)
        return self
