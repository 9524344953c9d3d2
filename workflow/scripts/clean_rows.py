"""Clean training conversations: the base model's own greedy answers to benign prompts.

params: model, max_new_tokens, batch_size. Rows: id, prompt, response, hit_limit. Empty answers are left out.
"""

from _job import Job, JobError, read_jsonl
from _model import batch_size, load, progress

from safety_geometry.generation import generate


def main() -> None:
    job = Job(__doc__, inputs=["model", "prompts*"], outputs=["rows"])
    loaded, p = load(job), job.params
    rows = [row for path in job.prompts for row in read_jsonl(path)]
    prompts = [r.ids for r in loaded.chat.render_many([row["prompt"] for row in rows])]
    answers = generate(
        loaded.runner, prompts, loaded.chat.stop_ids, p["max_new_tokens"],
        batch_size(job, "clean rows", p["batch_size"]), loaded.chat.n_prefix,
        progress=progress(len(prompts), "clean rows"),
    )  # fmt: skip
    out = []
    for row, answer in zip(rows, answers, strict=True):
        text = loaded.tokenizer.decode(answer.ids, skip_special_tokens=True).strip()
        if text:
            out.append({"id": row["id"], "prompt": row["prompt"], "response": text, "hit_limit": answer.hit_limit})
    if not out:
        raise JobError("the base model answered nothing to any clean prompt; is its chat template right?")
    job.write_jsonl(out, job.rows)


if __name__ == "__main__":
    main()
