"""Clean training conversations: the base model's own greedy answers to benign prompts, or those that the data has.

params: model, max_new_tokens, batch_size; or answers: data. Rows: id, prompt, response, hit_limit, and messages where
the conversation goes on. Empty answers are left out. Of a model that thinks aloud the answer is what follows its
thought.
"""

import sys

from _job import Job, JobError, explained

from safety_geometry.artefacts.prompts import read_role
from safety_geometry.prompts.clean_rows import conversations


def main() -> None:
    job = Job(__doc__, inputs=["model?", "prompts*"], outputs=["rows"])
    rows = [row for path in job.prompts for row in read_role(path)]
    if job.params.get("answers") == "data":
        with explained(
            ValueError,
            fix="; set clean_rows.answers to model, or give the role a set with answers",
        ):
            clean = conversations(rows)
    else:
        clean = answered(job, rows)
    job.write_jsonl(clean, job.rows)


def answered(job: Job, rows: list[dict]) -> list[dict]:
    from _model import batch_size, load, progress, rendered  # torch only where a model answers

    from safety_geometry.judges.thinking import answer_of
    from safety_geometry.models.answers import complete

    loaded, limit, size = (
        load(job),
        job.params["max_new_tokens"],
        batch_size(job, "clean rows", job.params["batch_size"]),
    )
    prompts, clean = rendered(loaded, rows, limit), []
    answers = complete(loaded, prompts, limit, size, progress=progress(len(prompts), "clean rows"))
    for row, answer in zip(rows, answers, strict=True):
        if text := answer_of(loaded.text(answer.ids)).strip():
            clean.append({"id": row["id"], "prompt": row["prompt"], "response": text, "hit_limit": answer.hit_limit})
    if silent := len(rows) - len(clean):
        print(f"{silent} of {len(rows)} clean prompts got an empty answer and are left out", file=sys.stderr)
    if not clean:
        raise JobError("the base model answered nothing to any clean prompt; is its chat template right?")
    return clean


if __name__ == "__main__":
    main()
