"""Attacks, their transfer, completions, and who judges them."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from safety_geometry.settings.kinds import (
    Count,
    FileName,
    FileNames,
    Natural,
    Positive,
    RegimeName,
    Settings,
    Sha256,
    Share,
    Step,
    Text,
    Weight,
    at_least,
    each_once,
    either,
    key,
    lacking,
    optional,
    refused,
)
from safety_geometry.settings.sources import Shape
from safety_geometry.settings.training import GCG

Anchors = dict[str, each_once(either(Literal["reference"], Step))]


class AttackSource(Settings):
    """Who the fixed-source attacks are made on."""

    regime: RegimeName = key("A regime, or checkpoints that were brought.")
    step: Natural = key("A step of it; table source_choice says which one the rule below picks.")
    max_direct_asr: Share = optional(
        "The rule: the earliest anchor whose attack success on bare requests is at most this, else that with the least;"
        " left out: 0.1."
    )


class AutoDAN(Settings):
    """Readable prompts around the request, by a genetic algorithm; its unoptimised seeds are an arm of their own."""

    form: Literal["ga", "hga"] = key("Plain, or hierarchical.")
    seeds: Count = key("How many of data/autodan_seeds.jsonl.")
    steps: Natural = key("Generations.")
    population: at_least(2) = key("Prompts of a generation.")
    elites: Share = optional("Share that survives unchanged, at least one; left out: 0.1.")
    crossover: Share = optional("Probability that two prompts are crossed; left out: 0.5.")
    points: Count = optional("Points at which they are cut; left out: 5.")
    mutation: Share = optional("Probability that an offspring is mutated; left out: 0.01.")
    batch_size: Count = key("Rows of a forward pass.")
    stop_loss: Weight = optional("End a case when its loss is so low; left out: 0.")
    max_prompt_tokens: Count = optional("Longer rendered prompts are dropped; left out: 512.")


class Universal(Settings):
    """One suffix for several requests, asked with every request of role direct; the rest of its settings are gcg's."""

    role: str = key("The role whose requests it is made on: the last of them that the source refuses.")
    behaviours: Count = key("So many of them.")
    steps: Natural = key("Steps of the search.")
    width: Count = key("Candidates of a step.")


class Attacks(Settings):
    """The fixed-source attacks."""

    source: AttackSource = key("Who they are made on.")
    behaviours: Count = key("So many of role direct, the first that the source refuses.")
    refusal_tokens: Count = key("Answer tokens on which that is decided.")
    require_refusal: bool = key("`false`: attack all, refused or not.")
    framings: Natural = key(
        "So many of the human templates of data/autodan_seeds.jsonl, unoptimised, asked with every request of role"
        " direct; 0: none."
    )
    gcg: GCG = key("GCG's settings. Its start must not be the pool's.")
    universal: Universal = optional("A universal suffix; left out: none.")
    autodan: AutoDAN = key("AutoDAN's settings.")


class Transfer(Settings):
    """Attacks made on each source, asked of each target; a source's own answers say whether they work."""

    sources: Anchors = key("Regime: anchors that attacks are made on.")
    targets: Anchors = key("Regime: anchors that are asked them.")
    methods: each_once(Literal["gcg", "autodan"], 1) = key("Each beside its unoptimised arm.")
    behaviours: Count = key("The first of those that the fixed source refuses.")
    max_new_tokens: Count = key("Longest answer.")
    batch_size: Count = key("Requests answered together.")


class Suites(Settings):
    """A number for each suite of evaluation prompts."""

    fixed_source: Count = key("GCG's fixed-source attacks.")
    autodan: Count = key("AutoDAN's on the fixed source, where it has them (transfer.sources and transfer.methods).")
    framings: Count = key("Direct requests within attacks.framings human templates.")
    universal: Count = key("Direct requests with the universal suffix.")
    direct: Count = key("Harmful requests as they are.")
    usefulness: Count = key("Other harmful requests.")
    lookalike: Count = key("Safe requests that look harmful.")
    counterpart: Count = optional("Harmful matches of the look-alikes (a role with `pairs: lookalike`).")
    utility: Count = key("Ordinary requests.")


class Sampled(Settings):
    """Answers drawn at a temperature, to the requests of suite `direct` at the anchors of full seeds; table sampled."""

    answers: Count = key("To each request.")
    temperature: Positive = key("What logits are divided by; 1: the model's own probabilities.")


class Completions(Settings):
    """Answers of checkpoints to the suites."""

    batch_size: Count = key("Requests answered together.")
    max_new_tokens: Suites = key("Longest answer, by suite.")
    every_save: dict[str, Count | None] = key(
        "Suite: how many of its first prompts the other saves are asked too; null: all. At anchors all suites run."
    )
    sampled: Sampled | None = optional(
        "Sampled answers to direct requests beside the greedy ones; null, or left out: none."
    )


class Labelled(Settings):
    """A set of human-labelled answers."""

    source: str | None = key("One of `sources`; null: files of this project.")
    files: FileNames = key("Files, or patterns within the source.")
    name: Text = key("For the table of judges.")


class TrainedJudges(Settings):
    """Labelled answers that train the judges, those to requests of role judge_train."""

    refusal: Labelled = key("Answers labelled by whether they refuse.")
    harm: Labelled = key("Answers labelled by whether they do what was asked.")
    severity: Labelled | None = optional(
        "Answers labelled by how harmful they are; the judge of harm learns from them too, and is not measured on them;"
        " or null."
    )
    folds: at_least(2) = key("Of the cross-validation; folds never split a request.")


class Embeddings(Settings):
    """A small model of sentence embeddings, for the trained judge of harm; run on the CPU."""

    source: str = key("One of `sources`.")
    folder: FileName = optional("Its folder within the source; left out: the source itself.")


class Template(Settings):
    """A judge's wording within a file of a source."""

    source: str = key("One of `sources`.")
    file: FileName = key("A .json or .py file in it.")
    at: Annotated[list[Text], Field(min_length=1)] = key("Keys, or names, that lead to the text.")
    sha256: Sha256 = optional("What the text's SHA-256 has to be.")
    fields: dict[str, Literal["behavior", "generation", "context"]] = optional(
        "The names of its gaps: what stands there."
    )


class JudgeVerdict(Settings):
    """How what a judge says becomes a number."""

    scores: Annotated[dict[Text, Share], Field(min_length=1)] = key(
        "Its label (kind classifier; those that are left out count 0), its word (next_word), or what stands on its line"
        " (guard): 0 for no, 1 for yes, between them what is neither. Quote Yes, No and numbers."
    )
    threshold: Share = optional("Yes is a score above it; left out: 0.5.")
    line: Text = optional("Of a guard: what stands before the colon of the line; left out: its first line.")


class ModelJudge(Settings):
    """A judge that is a model."""

    kind: Literal["classifier", "next_word", "guard"] = key(
        "`classifier`: a sequence classifier of transformers. `next_word`: a causal model that is asked for one word,"
        " whose probabilities are the score. `guard`: one that writes its verdict."
    )
    source: str = key("One of `sources`.")
    base: str | None = optional("A source: what it is put on, where the judge is an adapter.")
    reads: Literal["request", "answer", "both"] = key("What it is shown.")
    template: either(FileName, Template) | None = optional(
        "Its wording: a text file, or where it stands in a source, with the fields {behavior} and {generation} of what"
        " it reads. Left out: a classifier gets the text, or request and answer as a pair; a guard its tokenizer's chat"
        " template, the request as the user's turn and the answer as the assistant's."
    )
    contextual_template: either(FileName, Template) | None = optional(
        "Its wording for behaviours with a {context}; left out: the same."
    )
    says: Annotated[dict[Literal["refusal", "harm"], JudgeVerdict], Field(min_length=1)] = key(
        "What its verdict is of; a guard may say both."
    )
    clip: Count = optional("Tokens of an answer that it is shown; left out: all.")
    max_length: Count = optional(
        "Tokens of its prompt; longer ones are cut on the left, a classifier's on the right, and those of a chat"
        " template refused. Left out: no limit but a classifier's own."
    )
    max_new_tokens: Count = optional("Longest verdict of a guard; left out: 32.")
    unread: Literal["fail", "leave_out"] = optional(
        "Verdicts of a guard that cannot be read: `fail` (if left out), or leave these answers out, where it decides"
        " nothing."
    )
    shape: Shape = optional("Its sizes, where its name does not tell them.")

    @model_validator(mode="after")
    def _fits_its_kind(self) -> "ModelJudge":
        if self.template is None and self.kind == "next_word":
            raise lacking(["template"])
        if self.template is None and self.kind == "guard" and self.reads == "answer":
            raise refused(
                "reads", self.reads, "a chat template shows an answer with its request; set both, or a template"
            )
        if self.template is None and self.contextual_template is not None:
            raise lacking(["template"])
        for name in ("max_new_tokens", "unread"):
            if getattr(self, name) is not None and self.kind != "guard":
                raise refused(
                    name, getattr(self, name), f"goes with kind guard, and this is a {self.kind}; take it out"
                )
        lines = [verdict.line for verdict in self.says.values() if verdict.line is not None]
        if lines and self.kind != "guard":
            raise refused("says", lines, f"a line goes with kind guard, and this is a {self.kind}; take it out")
        return self


class Judges(Settings):
    """Who says what an answer is."""

    decision: Literal["rules", "either", "trained"] = optional(
        "Who says that an answer refuses: `rules` (if left out), `trained` (or the model of `refusal`), or `either` of"
        " them."
    )
    labelled: TrainedJudges | None = key(
        "What the trained judges learn from; null: rules only, and no table of judges."
    )
    embeddings: Embeddings | None = optional(
        "Sentence embeddings that the trained judge of harm sees besides words and features; null: without them."
    )
    success: Literal["attack_success", "not_refused"] = optional(
        "What attack success is at most: `attack_success` (if left out), which falls to `not_refused` by itself where"
        " the trained judge of harm does not order answers of labelled files that it was not trained on; `not_refused`,"
        " once hand labels deny it."
    )
    hand_labels: FileName | None = optional(
        "CSV with id (seed:regime:step:id of the judged table) and labels of this study's own outputs; or null."
    )
    models: dict[RegimeName, ModelJudge] = key(
        "Judges that are models, by name (docs/howto.md). Each is asked of the suites at anchors, and the table of"
        " judges says how far it agrees with what the study decides and with the others."
    )
    refusal: RegimeName | None = optional(
        "One of `models` that takes the trained judge of refusals' place in `decision`; or null."
    )
    harm: RegimeName | None = optional("One of `models` that says what attack success is; null: the trained judge.")
    usefulness: RegimeName | None = optional(
        "One of `models` whose score of harm is the usefulness; null: the one of attack success."
    )
