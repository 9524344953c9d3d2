"""The behaviours that are attacked: the first requests that the fixed source refuses when asked directly.

With --universal-requests also those that a universal suffix is made on (--universal): the last that it refuses of
these, so that of one role few are attacked twice. params: model, source, behaviours, universal (how many of each),
require_refusal (false: any; no model is needed), refusal_tokens, batch_size.
"""

from pathlib import Path

from _job import Job, JobError
from _model import batch_size, load, rendered

from safety_geometry.artefacts.prompts import read_role
from safety_geometry.judges.refusal import classify
from safety_geometry.models.answers import holds
from safety_geometry.models.language_model import LanguageModel


def main() -> None:
    job = Job(
        __doc__, inputs=["model?", "adapter?", "requests", "universal_requests?"], outputs=["behaviours", "universal?"]
    )
    params, loaded = job.params, None
    if params["require_refusal"]:
        if job.model is None:
            raise JobError(
                "--model: name the source, which says what is refused; or set params.require_refusal to false"
            )
        loaded = load(job, job.adapter)
    job.write_jsonl(refused(job, loaded, job.requests)[: params["behaviours"]], job.behaviours)
    if job.universal is not None:
        job.write_jsonl(refused(job, loaded, job.universal_requests)[-params["universal"] :], job.universal)


def refused(job: Job, loaded: LanguageModel | None, requests: Path) -> list[dict]:
    """The requests that the source refuses, by the refusal rules on a short greedy answer; without a model all."""
    params, rows = job.params, read_role(requests)
    if loaded is not None:
        limit, size = params["refusal_tokens"], batch_size(job, "answers", params["batch_size"])
        answers = holds(loaded, rendered(loaded, rows, limit), lambda text: classify(text) != "none", limit, size)
        asked, rows = len(rows), [row for row, refuses in zip(rows, answers, strict=True) if refuses]
        print(f"source {params['source']} refuses {len(rows)} of {asked} requests of {requests.name}", flush=True)
    if not rows:
        raise JobError(
            f"source {params['source']} refuses none of the requests of {requests.name} asked directly: no attack can"
            " be made on it; name another attacks.source, or set attacks.require_refusal to false"
        )
    return rows


if __name__ == "__main__":
    main()
