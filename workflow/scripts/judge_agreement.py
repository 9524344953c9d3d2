"""The table of judges: cross-validated rows of train_judges.py, and agreement with hand labels of this run's own outputs.

--trained: table of train_judges.py. --judged: judged completions (several files). --hand-labels: CSV with id and any of
refusal, any_refusal, attack_success, degenerate, helpful; ids and labels only. Without it the table passes unchanged.
--params: seed; prefixes, one for each file of --judged, put before its ids (they repeat between checkpoints).
"""

import pandas as pd
from _job import Job, JobError

from safety_geometry.judges.agreement import HAND_TARGETS, agreement


def main() -> None:
    job = Job(__doc__, inputs=["trained", "judged*", "hand_labels?"], outputs=["table"])
    table = pd.read_csv(job.trained)
    if job.hand_labels is not None:
        labels = pd.read_csv(job.hand_labels, comment="#", dtype={"id": str})
        extra = set(labels.columns) - {"id", *HAND_TARGETS}
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
        try:
            own = agreement(judged, labels, seed=job.params.get("seed", 0))
        except ValueError as error:
            raise JobError(f"{job.hand_labels}: {error}") from error
        table = pd.concat([table, own], ignore_index=True)
    job.write_table(table, job.table)


if __name__ == "__main__":
    main()
