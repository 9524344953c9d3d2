"""The question of reply inversion put to a model, as it is and with its carriers removed and added."""

from collections.abc import Sequence

import numpy as np

from safety_geometry.artefacts.carriers import Carrier, CarrierPair
from safety_geometry.causal.edits import ablate, steer
from safety_geometry.causal.inversion import at_chance, describe, over_r
from safety_geometry.causal.question import EDITS, HARM, HARMLESS, WORDINGS, Edit
from safety_geometry.causal.readout import clean_prompts, read_log_ratio
from safety_geometry.models.interventions import Intervention
from safety_geometry.models.language_model import LanguageModel
from safety_geometry.models.memory import BatchSize
from safety_geometry.models.openings import opening_ids


def asked(requests: Sequence[str]) -> list[str]:
    """The question about each request in each wording, all of a wording together."""
    return [wording.format(request=request) for wording in WORDINGS for request in requests]


def interventions_of(carrier: Carrier, edit: Edit) -> tuple[Intervention, ...]:
    """At the carrier's own layer; steering adds λ times its mean difference."""
    if edit.family == "ablate":
        return ablate(carrier, edit.strength)
    return steer(carrier, edit.strength * carrier.norm)


def harm_scores(
    model: LanguageModel,
    requests: Sequence[str],
    cells: Sequence[Sequence[Intervention]],
    batch_size: int | BatchSize,
) -> np.ndarray:
    """log P(harm's answer) − log P(the other) at the first answer token, mean over the wordings: [cells, requests].

    A cell without interventions is the model as it is. Raises ValueError where the two answers begin with one token, or
    an answer merges with the template; ContextError for a question that is too long.
    """
    questions = asked(requests)
    answers = [opening_ids(model.chat, [text], questions[:3])[0] for text in (HARM, HARMLESS)]
    if answers[0] == answers[1]:
        raise ValueError(f"{HARM!r} and {HARMLESS!r} begin with one token of this tokenizer: they cannot be told apart")
    size = BatchSize.of(batch_size, "reply inversion")
    prompts = [prompt.ids for prompt in model.render(questions, 1)]
    layers = sorted({item.layer for cell in cells for item in cell})
    clean = clean_prompts(model.runner, prompts, layers, model.chat.n_prefix, size)
    scores = read_log_ratio(model.runner, clean, cells, answers[0], answers[1], size)
    return scores.numpy().reshape(len(cells), len(WORDINGS), len(requests)).mean(1)


def inversion_rows(
    model: LanguageModel,
    harmful: Sequence[str],
    benign: Sequence[str],
    carriers: CarrierPair,
    batch_size: int | BatchSize,
    least_accuracy: float,
    draws: int,
    seed: int,
) -> list[dict]:
    """Rows of the table `reply_inversion` of one checkpoint: the model as it is, and each of `EDITS` of each carrier.

    A model that is at chance without edits has its first row only, which says so.
    """
    n = len(harmful)
    plain = harm_scores(model, [*harmful, *benign], [()], batch_size)[0]
    clean = {"harmful": plain[:n], "benign": plain[n:]}
    chance = at_chance(plain[:n], plain[n:], least_accuracy, draws, seed)
    cells = [] if chance else [(carrier, edit) for carrier in carriers.by_kind.values() for edit in EDITS]
    rows = [{"carrier": "none", "at_chance": chance} | describe(plain[:n], plain[n:], clean, draws, seed)]
    if not cells:
        return rows
    edits = [interventions_of(carrier, edit) for carrier, edit in cells]
    found = {}
    for (carrier, edit), scores in zip(cells, harm_scores(model, [*harmful, *benign], edits, batch_size), strict=True):
        found[carrier.kind, edit] = {"harmful": scores[:n], "benign": scores[n:]}
    for carrier, edit in cells:
        scores = found[carrier.kind, edit]
        row = {"carrier": carrier.kind, "family": edit.family, "lambda": edit.strength, "layer": carrier.layer}
        row |= {"at_chance": False} | describe(scores["harmful"], scores["benign"], clean, draws, seed)
        if carrier.kind == "H" and ("R", edit) in found:
            row |= over_r(scores, found["R", edit], draws, seed)
        rows.append(row)
    return rows
