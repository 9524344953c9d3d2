"""Greedy answers of a checkpoint to its evaluation suites.

params: model, suites {name: max_new_tokens} in order, batch_size. --prompts are the suites' files in that order; a suite
of attacked requests has rows with `prompt` (what is asked) and `request`. Rows: id, suite, prompt_id, prompt (the bare
request), completion, n_tokens, hit_limit and the fields that judges need (type, bucket, must, min_words, arm).
"""

from _job import Job, read_jsonl
from _model import load, progress

from safety_geometry.generation import generate


def main() -> None:
    job = Job(__doc__, inputs=["model", "adapter?", "prompts*"], outputs=["completions"])
    loaded, p = load(job, job.adapter), job.params
    out = []
    for (suite, limit), path in zip(p["suites"].items(), job.prompts, strict=True):
        rows = read_jsonl(path)
        prompts = [r.ids for r in loaded.chat.render_many([row["prompt"] for row in rows])]
        answers = generate(
            loaded.runner, prompts, loaded.chat.stop_ids, limit, p["batch_size"], loaded.chat.n_prefix,
            progress=progress(len(rows), suite),
        )  # fmt: skip
        for row, answer in zip(rows, answers, strict=True):
            arm = row.get("arm")
            out.append({
                "id": ":".join(filter(None, (suite, arm, row["id"]))), "suite": suite, "prompt_id": row["id"],
                "prompt": row.get("request", row["prompt"]),
                "completion": loaded.tokenizer.decode(answer.ids, skip_special_tokens=True).strip(),
                "n_tokens": len(answer.ids), "hit_limit": answer.hit_limit,
                **{key: row[key] for key in ("arm", "type", "bucket", "must", "min_words") if key in row},
            })  # fmt: skip
    job.write_jsonl(out, job.completions)


if __name__ == "__main__":
    main()
