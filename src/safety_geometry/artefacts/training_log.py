"""What a segment of training leaves beside its adapters: a line for each step, and the monitor's answers, which are judged later.

The log is the working table `training_log`: `seed`, `regime` and the fields of `StepLog`. The answers are JSON Lines (private): the fields of `MonitorAnswer`.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from safety_geometry.artefacts.errors import ArtefactError
from safety_geometry.artefacts.text_files import TextFileError, json_lines, read_text


@dataclass
class StepLog:
    """One line of the training table; NaN or None where a regime has no such term.

    cases: ids of the behaviours that the step used, separated by spaces; updates_min, updates_max: the least and the largest
    number of updates that a case of the pool has had after the step."""

    step: int
    lr: float
    loss: float
    clean: float
    away: float = math.nan
    toward: float = math.nan
    pool_before: float = math.nan
    pool_after: float = math.nan
    rejected: int = 0
    attack_tokens: int = 0
    cases: str | None = None
    updates_min: int | None = None
    updates_max: int | None = None
    grad_norm: float = math.nan

    @property
    def summary(self) -> str:
        """What is a number and is there, for people."""
        return " ".join(f"{name} {x:.3f}" for name, x in vars(self).items() if isinstance(x, float) and x == x)


@dataclass(frozen=True)
class MonitorAnswer:
    """A short greedy answer to a monitor prompt after `step` steps; role: monitor_harmful or monitor_benign."""

    step: int
    role: str
    prompt_id: str
    text: str


def write_answers(path: Path, answers: Iterable[MonitorAnswer]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for answer in answers:
            file.write(json.dumps(asdict(answer), ensure_ascii=False) + "\n")


def read_answers(path: Path) -> list[MonitorAnswer]:
    """Raises ArtefactError, with the line, when a row is none."""
    try:
        return [MonitorAnswer(**row) for _, row in json_lines(read_text(path))]
    except (TextFileError, TypeError) as error:
        raise ArtefactError(f"{path}: not a monitor's answers ({error}); run its rule again") from error
