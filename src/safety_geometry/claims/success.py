"""What attack success means in a study, and what follows for claims: where the judge of harm does not order answers, it
is no more than "not refused", claims on attacks say so, and usefulness decides nothing."""

import re
from collections.abc import Mapping

import pandas as pd

from safety_geometry.judges.ordering import NOT_REFUSED, orders_answers

ON_SUCCESS = re.compile(r"attack|transfer|\bASR\b|success", re.IGNORECASE)  # in the sentence of a claim


def only_not_refused(tables: Mapping[str, pd.DataFrame]) -> str | None:
    """Why attack success is no more than not refused: the judged answers say so (five_anchor.success_means), or the
    table `judges`, where the study has one, knows better; None where it is attack success."""
    anchors = tables.get("five_anchor", pd.DataFrame())
    if "success_means" in anchors and (anchors["success_means"] == NOT_REFUSED).any():
        return (
            "attack success is no more than not refused here: there is no judge of harm, or it does not order answers"
        )
    if "judges" in tables and not orders_answers(tables["judges"]):
        return (
            "the judge of harm does not order answers that are neither refused nor broken (orders_answers in judges),"
            " so attack success is no more than not refused; set judges.success to not_refused and judge again"
        )
    return None


def qualified(claim: str, reason: str, tables: Mapping[str, pd.DataFrame]) -> str:
    """The reason of a verdict, and where the claim is on attacks that do not succeed but are not refused, that."""
    if ON_SUCCESS.search(claim) and only_not_refused(tables):
        return f"{reason} (success: not refused)"
    return reason
