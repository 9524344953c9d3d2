"""Train the refusal and harm judges on human labels, cross-validated with folds grouped by request.

Only on answers to the requests of their role: the split took away what is near a prompt of another one.

--refusal-labels, --harm-labels: CSV files of the labelled sets, or JSON Lines with request, response, refusal and harm;
or a folder, whose files params.refusal_files and params.harm_files name by patterns. --judge-train: role file (JSON
Lines with prompt); labelled answers to other requests are left out. --severity-labels: answers that the judge of harm
only learns from (JSON Lines: severity). --embeddings: folder with its sentence-embedding model, in
params.embeddings_folder below it. --params: refusal_dataset, harm_dataset (names in the table), n_folds, seed.
"""

import sys

import pandas as pd
from _job import Job, explained

from safety_geometry.artefacts.jsonl import read_jsonl
from safety_geometry.judges.embeddings import SentenceEmbedder
from safety_geometry.judges.labels import LabelError, read_labels, to_prompts, with_further
from safety_geometry.judges.training import train_harm, train_refusal


def main() -> None:
    inputs = ["refusal_labels*", "harm_labels*", "severity_labels*", "judge_train", "embeddings?"]
    job = Job(__doc__, inputs=inputs, outputs=["refusal", "harm", "table"])
    params, requests = job.params, [row["prompt"] for row in read_jsonl(job.judge_train, ["prompt"])]
    labelled = {}
    for kind, paths in (("refusal", job.refusal_labels), ("harm", job.harm_labels), ("severity", job.severity_labels)):
        if kind == "severity" and not paths:
            continue
        option = f"--{kind}-labels"
        with explained(of=option, fix=" (judges.labelled in the configuration)"):
            rows = read_labels(paths, params.get(f"{kind}_files", []), kind)
        with explained(LabelError, of=option, fix=" (prompts.roles.judge_train.set)"):
            labelled[kind] = to_prompts(rows, requests)
        left = f"{len(rows) - len(labelled[kind])} of {len(rows)} labelled answers left out"
        print(f"{option}: {left}, to no request of judge_train", file=sys.stderr)
    settings = {"n_folds": params.get("n_folds", 10), "seed": params.get("seed", 0)}
    refusal = train_refusal(labelled["refusal"], params.get("refusal_dataset", "pyrit refusal"), **settings)
    embed = SentenceEmbedder(job.embeddings / params.get("embeddings_folder", ".")) if job.embeddings else None
    if "severity" in labelled:
        labelled["harm"] = with_further(labelled["harm"], labelled["severity"])
    harm = train_harm(labelled["harm"], params.get("harm_dataset", "pyrit objective"), embed=embed, **settings)
    job.write_json(refusal.to_dict(), job.refusal)
    job.write_json(harm.to_dict(), job.harm)
    job.write_table(pd.concat([refusal.rows, harm.rows], ignore_index=True), job.table)


if __name__ == "__main__":
    main()
