"""Train the refusal and harm judges on human labels, cross-validated with folds grouped by request.

--refusal-labels, --harm-labels: CSV files of the labelled sets, or JSON Lines with request, response, refusal and harm.
--params: refusal_dataset, harm_dataset (names in the table), n_folds, seed.
"""

from pathlib import Path

import pandas as pd
from _job import Job, JobError

from safety_geometry.judges.labels import LabelError, combine, parse_labels, parse_labels_jsonl
from safety_geometry.judges.training import Trained, train_harm, train_refusal


def read(paths: list[Path], field: str, option: str) -> pd.DataFrame:
    if not paths:
        raise JobError(f"{option}: give at least one file of labelled responses")
    frames = []
    for path in sorted(paths, key=lambda p: p.name):
        try:
            if path.suffix == ".jsonl":
                frames.append(parse_labels_jsonl(path.read_bytes(), field, name=path.name))
            else:
                frames.append(parse_labels(path.read_bytes(), name=path.name))
        except (LabelError, ValueError) as error:
            raise JobError(f"{path}: no labelled set that can be read ({error})") from error
    return combine(frames)


def artefact(trained: Trained) -> dict:
    return {name: model.to_dict() for name, model in trained.models.items()}


def main() -> None:
    job = Job(__doc__, inputs=["refusal_labels*", "harm_labels*"], outputs=["refusal", "harm", "table"])
    settings = {"n_folds": job.params.get("n_folds", 10), "seed": job.params.get("seed", 0)}
    refusal = train_refusal(
        read(job.refusal_labels, "refusal", "--refusal-labels"),
        job.params.get("refusal_dataset", "pyrit refusal"),
        **settings,
    )
    harm = train_harm(
        read(job.harm_labels, "harm", "--harm-labels"), job.params.get("harm_dataset", "pyrit objective"), **settings
    )
    job.write_json(artefact(refusal), job.refusal)
    job.write_json(artefact(harm), job.harm)
    job.write_table(pd.concat([refusal.rows, harm.rows], ignore_index=True), job.table)


if __name__ == "__main__":
    main()
