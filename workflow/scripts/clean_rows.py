"""Clean training conversations: the base model's own greedy answers to benign prompts, or those that the data has.

params: model, max_new_tokens, batch_size; or answers: data. Rows: id, prompt, response, hit_limit, and messages where the
conversation goes on. Empty answers are left out. Of a model that thinks aloud the answer is what follows its thought.
"""

import sys

from _job import Job, JobError, read_jsonl


def main() -> None:
    job = Job(__doc__, inputs=["model?", "prompts*"], outputs=["rows"])
    rows = [row for path in job.prompts for row in read_jsonl(path)]
    out = conversations(rows) if job.params.get("answers") == "data" else answered(job, rows)
    job.write_jsonl(out, job.rows)


def answered(job: Job, rows: list[dict]) -> list[dict]:
    from _model import batch_size, load, progress, rendered  # torch only where a model answers

    from safety_geometry.generation import generate
    from safety_geometry.thinking import answer_of

    loaded, p = load(job), job.params
    prompts = [r.ids for r in rendered(loaded, rows, p["max_new_tokens"])]
    answers = generate(
        loaded.runner, prompts, loaded.chat.stop_ids, p["max_new_tokens"],
        batch_size(job, "clean rows", p["batch_size"]), loaded.chat.n_prefix,
        progress=progress(len(prompts), "clean rows"),
    )  # fmt: skip
    out = []
    for row, answer in zip(rows, answers, strict=True):
        text = answer_of(loaded.tokenizer.decode(answer.ids, skip_special_tokens=True)).strip()
        if text:
            out.append({"id": row["id"], "prompt": row["prompt"], "response": text, "hit_limit": answer.hit_limit})
    if silent := len(rows) - len(out):
        print(f"{silent} of {len(rows)} clean prompts got an empty answer and are left out", file=sys.stderr)
    if not out:
        raise JobError("the base model answered nothing to any clean prompt; is its chat template right?")
    return out


def conversations(rows: list[dict]) -> list[dict]:
    """The conversations that the prompts open, as their files have them."""
    out = []
    for row in rows:
        if "messages" not in row:
            raise JobError(
                f"clean prompt {row['id']} has no answer in its file; set clean_rows.answers to model, or give the role a set "
                "of format ultrachat"
            )
        first = {
            "id": row["id"],
            "prompt": row["prompt"],
            "response": row["messages"][1]["content"],
            "hit_limit": False,
        }
        out.append(first | ({"messages": row["messages"]} if len(row["messages"]) > 2 else {}))
    return out


if __name__ == "__main__":
    main()
