"""Clean training conversations: the base model's own greedy answers to benign prompts, or those that the data has.

params: model, max_new_tokens, batch_size; or answers: data. Rows: id, prompt, response, hit_limit, and messages where the
conversation goes on. Empty answers are left out. Of a model that thinks aloud the answer is what follows its thought.
"""

import sys

from _job import Job, JobError, explained

from safety_geometry.artefacts.prompts import read_role
from safety_geometry.prompts.clean_rows import conversations


def main() -> None:
    job = Job(__doc__, inputs=["model?", "prompts*"], outputs=["rows"])
    rows = [row for path in job.prompts for row in read_role(path)]
    if job.params.get("answers") == "data":
        with explained(ValueError, fix="; set clean_rows.answers to model, or give the role a set of format ultrachat"):
            clean = conversations(rows)
    else:
        clean = answered(job, rows)
    job.write_jsonl(clean, job.rows)


def answered(job: Job, rows: list[dict]) -> list[dict]:
    from _model import batch_size, load, progress, rendered  # torch only where a model answers

    from safety_geometry.judges.thinking import answer_of
    from safety_geometry.models.generation import generate

    loaded, params = load(job), job.params
    prompts = [prompt.ids for prompt in rendered(loaded, rows, params["max_new_tokens"])]
    answers = generate(
        loaded.runner, prompts, loaded.chat.stop_ids, params["max_new_tokens"],
        batch_size(job, "clean rows", params["batch_size"]), loaded.chat.n_prefix,
        progress=progress(len(prompts), "clean rows"),
    )  # fmt: skip
    clean = []
    for row, answer in zip(rows, answers, strict=True):
        text = answer_of(loaded.tokenizer.decode(answer.ids, skip_special_tokens=True)).strip()
        if text:
            clean.append({"id": row["id"], "prompt": row["prompt"], "response": text, "hit_limit": answer.hit_limit})
    if silent := len(rows) - len(clean):
        print(f"{silent} of {len(rows)} clean prompts got an empty answer and are left out", file=sys.stderr)
    if not clean:
        raise JobError("the base model answered nothing to any clean prompt; is its chat template right?")
    return clean


if __name__ == "__main__":
    main()
