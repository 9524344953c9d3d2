"""The table of judges: cross-validated rows of train_judges.py, and agreement with hand labels of this run's own outputs.

--trained: table of train_judges.py. --judged: judged completions (several files). --hand-labels: CSV with id and any of
refusal, any_refusal, attack_success, degenerate, helpful, and digest (first 12 hex digits of the SHA-256 of the labelled
answer); ids and labels only. A label whose digest is not that of this run's answer is left out. Without hand labels, or
with none that fits, the table passes unchanged.
--params: seed; prefixes, one for each file of --judged, put before its ids (they repeat between checkpoints).
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from _job import Job, JobError
from _text import text_of

from safety_geometry.judges.agreement import HAND_TARGETS, agreement
from safety_geometry.text_files import TextFileError, table


def hand_labels(path: Path) -> pd.DataFrame:
    """Cells as texts, NaN where one is empty; lines that begin with # are comments. Raises JobError."""
    lines = [line for line in text_of(path).split("\n") if not line.startswith("#")]
    try:
        rows = list(table("\n".join(lines), ("id",), path.name))
    except TextFileError as error:
        raise JobError(f"{path}: {error}") from error
    if not rows:
        raise JobError(f"{path}: no label below the header; set judges.hand_labels to null")
    return pd.DataFrame(rows).replace("", np.nan)


def main() -> None:
    job = Job(__doc__, inputs=["trained", "judged*", "hand_labels?"], outputs=["table"])
    judges = pd.read_csv(job.trained)
    if job.hand_labels is not None:
        labels = hand_labels(job.hand_labels)
        extra = set(labels.columns) - {"id", "digest", *HAND_TARGETS}
        if "id" not in labels or extra:
            raise JobError(
                f"{job.hand_labels}: columns are id and any of {', '.join(HAND_TARGETS)}; remove {sorted(extra)}"
            )
        if not job.judged:
            raise JobError("--hand-labels needs the judged completions of the same run in --judged")
        prefixes = job.params.get("prefixes") or [""] * len(job.judged)
        frames = [pd.read_csv(path, dtype={"id": str}) for path in job.judged]
        judged = pd.concat(
            [frame.assign(id=prefix + frame["id"]) for prefix, frame in zip(prefixes, frames, strict=True)],
            ignore_index=True,
        )
        if "digest" in labels:
            fits = labels.merge(judged[["id", "digest"]], on=["id", "digest"])["id"]
            print(f"hand labels: {len(fits)} of {len(labels)} are of answers that this run gave", file=sys.stderr)
            labels = labels[labels["id"].isin(fits)].drop(columns="digest")
        if len(labels):
            try:
                own = agreement(judged, labels, seed=job.params.get("seed", 0))
            except ValueError as error:
                raise JobError(f"{job.hand_labels}: {error}") from error
            judges = pd.concat([judges, own], ignore_index=True)
    job.write_table(judges, job.table)


if __name__ == "__main__":
    main()
