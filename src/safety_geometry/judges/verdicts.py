"""What judges that are models say of files of completions, kept apart from what a study makes of it: a judge is asked
once, whatever is changed in who decides."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from safety_geometry.artefacts.completions import digest, request
from safety_geometry.artefacts.errors import ArtefactError
from safety_geometry.artefacts.tables.working import VERDICTS
from safety_geometry.judges.thinking import answer_of

log = logging.getLogger(__name__)


def verdict_rows(judge, rows: Sequence[dict]) -> pd.DataFrame:
    """Table `VERDICTS` of a `ModelJudge` on rows of `artefacts.completions`; only what follows a thought is judged.
    Raises ValueError as the judge does."""
    if not rows:
        return pd.DataFrame(columns=VERDICTS.names)
    said = judge.verdicts([request(row) for row in rows], [answer_of(row["completion"]) for row in rows])
    about = {"id": [row["id"] for row in rows], "digest": [digest(row["completion"]) for row in rows]}
    about |= {"judge": judge.name, "reads": judge.reads}
    parts = [pd.DataFrame(about | {"target": target}).join(table) for target, table in said.items()]
    table = pd.concat(parts, ignore_index=True)[VERDICTS.names]
    if lost := int(table["label"].isna().sum()):
        log.warning("%s: %d of %d verdicts could not be read and are left out", judge.name, lost, len(table))
    return table


def contexts_of(rows: Sequence[dict]) -> dict[str, str]:
    """Context by request, of the rows that have one."""
    return {request(row): row["context"] for row in rows if row.get("context")}


@dataclass(frozen=True)
class Said:
    """A judge by what it has said of the very rows that are asked about."""

    name: str
    table: pd.DataFrame  # label, score
    needs_topic: bool = False

    def __call__(self, requests: Sequence[str], responses: Sequence[str]) -> pd.DataFrame:
        return self.table

    @classmethod
    def of(cls, verdicts: pd.DataFrame, rows: Sequence[Mapping], target: str, name: str) -> "Said":
        """From table `VERDICTS` of judge `name`. Raises ArtefactError where it does not say `target` of each row."""
        mine = verdicts[verdicts["target"] == target].reset_index(drop=True)
        answers = [(row["id"], digest(row["completion"])) for row in rows]
        if list(zip(mine["id"], mine["digest"], strict=True)) != answers:
            raise ArtefactError(f"judge {name} has not said {target} of these {len(rows)} answers; run it again")
        if mine["label"].isna().any():
            raise ArtefactError(f"judge {name} decides {target}, and some of its verdicts could not be read")
        reads = "both" if mine.empty else str(mine["reads"].iloc[0])
        return cls(name, mine[["label", "score"]].astype({"label": bool}), needs_topic=reads == "answer")
