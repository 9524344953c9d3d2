"""What attack success means in a study, and what follows for claims: where the judge of harm does not order answers, it
is no more than "not refused", claims that rest on it say so, and usefulness decides nothing."""

from collections.abc import Mapping

import pandas as pd

from safety_geometry.judges.ordering import ATTACK_SUCCESS, NOT_REFUSED, orders_answers

# Quantities, beside those that end in _asr, which are made of attacks that succeed; a claim on a time series ends in
# the name of its outcome.
OF_SUCCESS = ("follow_broken", "rho_transfer", "rho_tie")
OF_USEFULNESS = ("usefulness", "follow_usefulness")
SAYING = ("five_anchor", "transfer", "control_normalised", "follow_up", "aligned_anchors")  # tables with success_means


def only_not_refused(tables: Mapping[str, pd.DataFrame]) -> str | None:
    """Why attack success is no more than not refused: the judged answers say so (success_means of `SAYING`), or the
    table `judges`, where the study has one, knows better; None where it is attack success."""
    said = (frame for name in SAYING if "success_means" in (frame := tables.get(name, pd.DataFrame())))
    if any((frame["success_means"] == NOT_REFUSED).any() for frame in said):
        return (
            "attack success is no more than not refused here: there is no judge of harm, or it does not order answers"
        )
    if "judges" in tables and not orders_answers(tables["judges"]):
        return (
            "the judge of harm does not order answers that are neither refused nor broken (orders_answers in judges),"
            " so attack success is no more than not refused; set judges.success to not_refused and judge again"
        )
    return None


def rests_on_success(claim_id: str, quantity: str) -> bool:
    return quantity.endswith("_asr") or claim_id.endswith("_asr") or quantity in OF_SUCCESS


def rests_on_usefulness(claim_id: str, quantity: str) -> bool:
    return quantity in OF_USEFULNESS or claim_id.endswith("_usefulness")


def meaning(claim_id: str, quantity: str, tables: Mapping[str, pd.DataFrame]) -> str | None:
    """What success is in a claim; None where the claim does not rest on it."""
    if not rests_on_success(claim_id, quantity):
        return None
    return NOT_REFUSED if only_not_refused(tables) else ATTACK_SUCCESS


def worded(sentence: str, means: str | None) -> str:
    """The sentence of a claim, and where success is no more than not refused, that."""
    return f"{sentence.removesuffix('.')} (success: not refused)." if means == NOT_REFUSED else sentence
