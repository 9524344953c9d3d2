"""Tables within a run that others are made from.

Of a regime there are also its own `coupling`, `geometry`, `coupling_controls` and `profile`, of a seed its `training`
and `leakage`, and of the trained judges their `judges`: with the columns of the tables of these names.
"""

from dataclasses import replace

from safety_geometry.artefacts.tables.attacks import ATTACKS
from safety_geometry.artefacts.tables.causal import DESCRIPTION
from safety_geometry.artefacts.tables.families import (
    ATTACK_SUCCESS,
    DEGENERATE,
    DIGEST,
    HARM_SCORE,
    REFUSAL,
    REFUSAL_SCORE,
    SUCCESS_MEANS,
    UTILITY,
)
from safety_geometry.artefacts.tables.specification import Column, Table, flag, number, share, text, whole
from safety_geometry.artefacts.tables.training import TRAINING

JUDGED = Table(
    "judged",
    "What the judges say of each answer, in the order of the completions. Ids, digests and scores only.",
    (
        text("id", "id of the answer"),
        DIGEST,
        text("suite", "suite of its prompt"),
        text("prompt_id", "id of its prompt"),
        text("type", "kind of prompt that the suite names", missing=True),
        text(
            "arm",
            "arm of a suite that has several: an attack (gcg, gcg_init), a cell of a sweep, or attack@regime:step",
            missing=True,
        ),
        text("pair", "id of the prompt that its prompt is matched with, in a suite of matches", missing=True),
        REFUSAL,
        flag("any_refusal", "partial or full refusal"),
        REFUSAL_SCORE,
        HARM_SCORE,
        ATTACK_SUCCESS,
        SUCCESS_MEANS,
        share("usefulness", "(1 - refused) x the judge's score; 0 where the answer is broken", missing=True),
        DEGENERATE,
        flag("hit_limit", "whether the answer reached the length limit"),
        whole("n_tokens", "tokens of the answer", 0),
        flag("on_topic", "whether content words of the request occur in the answer"),
        text("language", "script of the answer; other: not judged, neither refusal nor success"),
        share("off_topic", "1: an answer to something else; empty without a judge of it", missing=True),
        UTILITY,
        text("judge_refusal", "judge of refusals; of several, joined by a plus sign, and the decision between them"),
        text("judge_harm", "judge of attack success"),
    ),
    key=("id",),
)


VERDICTS = Table(
    "verdicts",
    "What a judge that is a model says of each answer, in the order of the completions. Ids, digests and scores only.",
    (
        text("id", "id of the answer"),
        DIGEST,
        text("judge", "name of the judge"),
        text("reads", "what it was shown", ("request", "answer", "both")),
        text("target", "what its verdict is of", ("refusal", "harm")),
        flag("label", "the score is above the judge's threshold; empty where the verdict cannot be read", missing=True),
        share("score", "0: no, 1: yes", missing=True),
    ),
    key=("id", "target"),
    digits=9,
)


def _with_layer_scan(column: Column) -> Column:
    """`control` has more kinds than in causal_sweep: cells of the layer scan and their controls, which have a table of
    their own."""
    kinds = ("layer_scan", "scan_random", "scan_covariance", "scan_shuffled")
    return replace(column, values=(*column.values, *kinds)) if column.name == "control" else column


CELLS = Table(
    "cells",
    "What is done in each cell of a checkpoint's sweep; a cell that belongs to several targets has a row for each.",
    (
        text("cell", "id of the cell; clean: the one without an intervention"),
        text("digest", "SHA-256 of what the cell does"),
        *(_with_layer_scan(column) for column in DESCRIPTION),
        flag("generated", "whether the cell answers"),
        whole("carrier_layer_h", "layer of the harmfulness carrier", 0),
        whole("carrier_layer_r", "layer of the refusal carrier; empty where there is none", 0, missing=True),
    ),
    digits=9,
)

READOUT = Table(
    "readout",
    "Readouts of every cell of a checkpoint's sweep without an answer of its own, long.",
    (
        text("cell", "id of the cell"),
        text(
            "quantity",
            "log_odds: of a refusal, harmful prompts; kl: from the clean run, benign prompts, nats; kl_answer: the same"
            " over the clean answers, mean per token",
            ("log_odds", "kl", "kl_answer"),
        ),
        text("prompt_id", "id of the prompt"),
        number("value", "the readout"),
    ),
    key=("cell", "quantity", "prompt_id"),
    digits=9,
)

ATTACK_PARTS = Table(
    "attack_parts",
    "Attacks of one method on one source: the table attacks without what is known only when all are judged.",
    tuple(column for column in ATTACKS.columns if column.name not in ("id", "kind", "success", "success_start")),
    key=ATTACKS.key,
)

TRAINING_LOG = Table(
    "training_log",
    "A segment's lines of the table training, without what is known only when the monitor's answers are judged.",
    tuple(column for column in TRAINING.columns if column.name not in ("refusal_harmful", "refusal_benign")),
    key=TRAINING.key,
)

RULERS_OF_PROMPTS = Table(
    "rulers",
    "How much each select prompt looks like a harmful one by plain properties, by the tokenizer of a model.",
    (
        text("label", "class of the prompt, harmful ones first, in the order of their role", ("harmful", "benign")),
        number("length", "tokens, turned where harmful fit prompts are shorter"),
        number("words", "log-odds of naive Bayes over content words, learnt on the fit prompts"),
    ),
    digits=9,
)

TABLES = (RULERS_OF_PROMPTS, JUDGED, VERDICTS, CELLS, READOUT, ATTACK_PARTS, TRAINING_LOG)
