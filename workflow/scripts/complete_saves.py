"""Greedy answers of the saves of one training segment that are no anchors: the base is loaded once for all of them.
Without --adapters, of the model itself.

--adapters and --completions come in the same order. params: model, suites {name: max_new_tokens} in order, prompts
{name: how many of the suite's first are asked, null for all}, arms (as for complete.py), batch_size. Rows are those
of complete.py.
"""

from _job import Job
from _model import batch_size, load, progress, rendered, saves

from safety_geometry.artefacts.prompts import read_suites
from safety_geometry.models.answers import answer_suites


def main() -> None:
    job = Job(__doc__, inputs=["model", "adapters*", "prompts*"], outputs=["completions*"])
    params, limits, base = job.params, job.params["suites"], load(job)
    first = {suite: params["prompts"][suite] for suite in limits}
    questions = read_suites(first, job.prompts, params.get("arms"))
    prompts = rendered(base, [row for _, row in questions], [limits[suite] for suite, _ in questions])
    size = batch_size(job, "completions", params["batch_size"])
    for part, loaded, path in saves(job, base, job.completions):
        bar = progress(len(questions), "completions")
        part.write_jsonl(answer_suites(loaded, questions, prompts, limits, size, progress=bar), path)


if __name__ == "__main__":
    main()
