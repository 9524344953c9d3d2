"""The table of judges: cross-validated rows of train_judges.py, agreement of judges that are models with what is
decided here and with each other, and agreement of all with hand labels of this run's own outputs.

--trained: table of train_judges.py. --judged: judged completions, --verdicts: tables of verdicts.py (several files).
--hand-labels: CSV with id and any of refusal, any_refusal, attack_success, degenerate, helpful, and digest (first 12
hex digits of the SHA-256 of the labelled answer); ids and labels only. A label whose digest is not that of this run's
answer is left out. --params: seed; prefixes and verdict_prefixes, one for each file of --judged and --verdicts, put
before its ids (they repeat between checkpoints).
"""

from pathlib import Path

import pandas as pd
from _job import Job, JobError, explained

from safety_geometry.artefacts.tables.checks import JUDGES
from safety_geometry.artefacts.tables.files import read_table
from safety_geometry.judges.agreement import agreement, fitting, read_hand_labels, with_prefixes
from safety_geometry.judges.model_agreement import model_agreement


def main() -> None:
    job = Job(__doc__, inputs=["trained?", "judged*", "verdicts*", "hand_labels?"], outputs=["table"])
    seed, labels = job.params.get("seed", 0), None
    tables = [pd.DataFrame(columns=JUDGES.names) if job.trained is None else read_table(job.trained)]
    judged = prefixed(job.judged, job.params.get("prefixes"))
    if job.hand_labels is not None:
        if judged is None:
            raise JobError("--hand-labels needs the judged completions of the same run in --judged")
        labels = fitting(read_hand_labels(job.hand_labels), judged)
        if len(labels):
            with explained(ValueError, of=job.hand_labels):
                tables.append(agreement(judged, labels, seed=seed))
    if job.verdicts:
        if judged is None:
            raise JobError("--verdicts needs the judged completions of the same answers in --judged")
        verdicts = prefixed(job.verdicts, job.params.get("verdict_prefixes"))
        tables.append(model_agreement(judged, verdicts, labels, seed=seed))
    filled = [table for table in tables if len(table)]
    job.write_table(pd.concat(filled, ignore_index=True) if filled else tables[0], job.table)


def prefixed(paths: list[Path], prefixes: list[str] | None) -> pd.DataFrame | None:
    """The tables in one, their ids behind a prefix of each; None without any."""
    pairs = list(zip(prefixes or [""] * len(paths), paths, strict=True))
    return with_prefixes([(prefix, read_table(path)) for prefix, path in pairs]) if pairs else None


if __name__ == "__main__":
    main()
