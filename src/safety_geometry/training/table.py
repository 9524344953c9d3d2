"""The training table: the logs of all segments, with the refusals of the monitor's answers judged."""

from collections.abc import Sequence

import pandas as pd

from safety_geometry.artefacts.training_log import MonitorAnswer
from safety_geometry.judges.refusal import classify

REFUSALS = {"refusal_harmful": "monitor_harmful", "refusal_benign": "monitor_benign"}  # column: role


def with_refusals(log: pd.DataFrame, answers: Sequence[MonitorAnswer]) -> pd.DataFrame:
    """A segment's log with the share of its monitor prompts that were refused, in part or in full; NaN where none was
    asked."""
    judged = pd.DataFrame(
        [(answer.step, answer.role, float(classify(answer.text) != "none")) for answer in answers],
        columns=["step", "role", "refused"],
    )
    shares = {
        column: judged[judged["role"] == role].groupby("step")["refused"].mean() for column, role in REFUSALS.items()
    }
    return log.assign(**{column: log["step"].map(share).astype(float) for column, share in shares.items()})
