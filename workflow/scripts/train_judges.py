"""Train the refusal and harm judges on human labels, cross-validated with folds grouped by request.

Only on answers to the requests of their role: the split took away what is near a prompt of another one.

--refusal-labels, --harm-labels: CSV files of the labelled sets, or JSON Lines with request, response, refusal and harm.
--judge-train: role file (JSON Lines with prompt); labelled answers to other requests are left out.
--params: refusal_dataset, harm_dataset (names in the table), n_folds, seed.
"""

import sys
from pathlib import Path

import pandas as pd
from _job import Job, JobError, read_jsonl

from safety_geometry.judges.labels import LabelError, combine, parse_labels, parse_labels_jsonl
from safety_geometry.judges.training import Trained, train_harm, train_refusal
from safety_geometry.prompts import normalise


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
        except (LabelError, ValueError, OSError) as error:
            raise JobError(f"{path}: no labelled set that can be read ({error})") from error
    return combine(frames)


def of_role(rows: pd.DataFrame, role: Path, option: str) -> pd.DataFrame:
    """Rows whose request is a prompt of the role, both normalised as prompt ids are. Says on stderr how many are left out.

    Raises JobError when none is left.
    """
    prompts = {normalise(row["prompt"]) for row in read_jsonl(role)}
    kept = rows[[normalise(request) in prompts for request in rows["request"]]].reset_index(drop=True)
    if kept.empty:
        raise JobError(
            f"{option}: none of the {len(rows)} labelled answers is to a prompt of role judge_train; give that role the set"
            " of these files (prompts.roles.judge_train.set)"
        )
    left = len(rows) - len(kept)
    print(f"{option}: {left} of {len(rows)} labelled answers left out, to no request of judge_train", file=sys.stderr)
    return kept


def artefact(trained: Trained) -> dict:
    return {name: model.to_dict() for name, model in trained.models.items()}


def main() -> None:
    job = Job(__doc__, inputs=["refusal_labels*", "harm_labels*", "judge_train"], outputs=["refusal", "harm", "table"])
    settings = {"n_folds": job.params.get("n_folds", 10), "seed": job.params.get("seed", 0)}
    refusals, harms = (
        of_role(read(paths, field, option), job.judge_train, option)
        for paths, field, option in (
            (job.refusal_labels, "refusal", "--refusal-labels"),
            (job.harm_labels, "harm", "--harm-labels"),
        )
    )
    refusal = train_refusal(refusals, job.params.get("refusal_dataset", "pyrit refusal"), **settings)
    harm = train_harm(harms, job.params.get("harm_dataset", "pyrit objective"), **settings)
    job.write_json(artefact(refusal), job.refusal)
    job.write_json(artefact(harm), job.harm)
    job.write_table(pd.concat([refusal.rows, harm.rows], ignore_index=True), job.table)


if __name__ == "__main__":
    main()
