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
    asked = [
        (suite, limit, row)
        for (suite, limit), path in zip(p["suites"].items(), job.prompts, strict=True)
        for row in read_jsonl(path)
    ]
    prompts = [r.ids for r in loaded.chat.render_many([row["prompt"] for _, _, row in asked])]
    answers = generate(  # all suites in the same batches: wide batches decode several times faster
        loaded.runner, prompts, loaded.chat.stop_ids, [limit for _, limit, _ in asked], p["batch_size"],
        loaded.chat.n_prefix, progress=progress(len(asked), "completions"),
    )  # fmt: skip
    out = []
    for (suite, _, row), answer in zip(asked, answers, strict=True):
        out.append({
            "id": ":".join(filter(None, (suite, row.get("arm"), row["id"]))), "suite": suite, "prompt_id": row["id"],
            "prompt": row.get("request", row["prompt"]),
            "completion": loaded.tokenizer.decode(answer.ids, skip_special_tokens=True).strip(),
            "n_tokens": len(answer.ids), "hit_limit": answer.hit_limit,
            **{key: row[key] for key in ("arm", "type", "bucket", "must", "min_words", "context") if key in row},
        })  # fmt: skip
    job.write_jsonl(out, job.completions)


if __name__ == "__main__":
    main()
