"""The table of judges: cross-validated rows of train_judges.py, and agreement with hand labels of this run's own
outputs.

--trained: table of train_judges.py. --judged: judged completions (several files). --hand-labels: CSV with id and any of
refusal, any_refusal, attack_success, degenerate, helpful, and digest (first 12 hex digits of the SHA-256 of the
labelled answer); ids and labels only. A label whose digest is not that of this run's answer is left out. Without hand
labels, or with none that fits, the table passes unchanged. --params: seed; prefixes, one for each file of --judged, put
before its ids (they repeat between checkpoints).
"""

import pandas as pd
from _job import Job, JobError, explained

from safety_geometry.artefacts.tables.files import read_table
from safety_geometry.judges.agreement import agreement, fitting, read_hand_labels, with_prefixes


def main() -> None:
    job = Job(__doc__, inputs=["trained", "judged*", "hand_labels?"], outputs=["table"])
    judges = read_table(job.trained)
    if job.hand_labels is not None:
        if not job.judged:
            raise JobError("--hand-labels needs the judged completions of the same run in --judged")
        prefixes = job.params.get("prefixes") or [""] * len(job.judged)
        judged = with_prefixes([(prefix, read_table(path)) for prefix, path in zip(prefixes, job.judged, strict=True)])
        labels = fitting(read_hand_labels(job.hand_labels), judged)
        if len(labels):
            with explained(ValueError, of=job.hand_labels):
                measured = agreement(judged, labels, seed=job.params.get("seed", 0))
            judges = pd.concat([judges, measured], ignore_index=True)
    job.write_table(judges, job.table)


if __name__ == "__main__":
    main()
