"""The behaviours that are attacked: the first requests that the fixed source refuses when asked directly.

params: model, source, behaviours (how many), require_refusal (false: the first ones; no model is needed), refusal_tokens,
batch_size.
"""

from _job import Job, JobError, read_jsonl
from _model import batch_size, load, rendered

from safety_geometry.generation import generate
from safety_geometry.judges.refusal import classify


def main() -> None:
    job = Job(__doc__, inputs=["model?", "adapter?", "requests"], outputs=["behaviours"])
    p, rows = job.params, read_jsonl(job.requests)
    if p["require_refusal"]:
        rows = refused(job, rows)
    if not rows:
        raise JobError(
            f"source {p['source']} refuses none of the requests asked directly: no attack can be made on it; name another"
            " attacks.source, or set attacks.require_refusal to false"
        )
    job.write_jsonl(rows[: p["behaviours"]], job.behaviours)


def refused(job: Job, rows: list[dict]) -> list[dict]:
    """The requests that the source refuses, by the refusal rules on a short greedy answer."""
    if job.model is None:
        raise JobError("--model: name the source, which says what is refused; or set params.require_refusal to false")
    loaded, p = load(job, job.adapter), job.params
    prompts = [r.ids for r in rendered(loaded, rows, p["refusal_tokens"])]
    answers = generate(
        loaded.runner,
        prompts,
        loaded.chat.stop_ids,
        p["refusal_tokens"],
        batch_size(job, "answers", p["batch_size"]),
        loaded.chat.n_prefix,
    )
    texts = [loaded.tokenizer.decode(a.ids, skip_special_tokens=True) for a in answers]
    kept = [row for row, text in zip(rows, texts, strict=True) if classify(text) != "none"]
    print(f"source {p['source']} refuses {len(kept)} of {len(rows)} requests", flush=True)
    return kept


if __name__ == "__main__":
    main()
