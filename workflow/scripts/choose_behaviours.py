"""The behaviours that are attacked: the first requests that the fixed source refuses when asked directly.

params: model, source, behaviours (how many), require_refusal (false: the first ones; no model is needed),
refusal_tokens, batch_size.
"""

from _job import Job, JobError
from _model import batch_size, load, rendered

from safety_geometry.artefacts.prompts import read_role
from safety_geometry.judges.refusal import classify
from safety_geometry.models.answers import holds


def main() -> None:
    job = Job(__doc__, inputs=["model?", "adapter?", "requests"], outputs=["behaviours"])
    params, rows = job.params, read_role(job.requests)
    if params["require_refusal"]:
        rows = refused(job, rows)
    if not rows:
        raise JobError(
            f"source {params['source']} refuses none of the requests asked directly: no attack can be made on it; name"
            " another attacks.source, or set attacks.require_refusal to false"
        )
    job.write_jsonl(rows[: params["behaviours"]], job.behaviours)


def refused(job: Job, rows: list[dict]) -> list[dict]:
    """The requests that the source refuses, by the refusal rules on a short greedy answer."""
    if job.model is None:
        raise JobError("--model: name the source, which says what is refused; or set params.require_refusal to false")
    loaded, params = load(job, job.adapter), job.params
    limit, size = params["refusal_tokens"], batch_size(job, "answers", params["batch_size"])
    answers = holds(loaded, rendered(loaded, rows, limit), lambda text: classify(text) != "none", limit, size)
    kept = [row for row, refuses in zip(rows, answers, strict=True) if refuses]
    print(f"source {params['source']} refuses {len(kept)} of {len(rows)} requests", flush=True)
    return kept


if __name__ == "__main__":
    main()
