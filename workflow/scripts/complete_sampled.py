"""Sampled answers of a checkpoint to the direct requests, beside the greedy ones of complete.py.

params: model, suite, seed, answers (to each request), temperature, max_new_tokens, batch_size. Rows are those of
complete.py; `arm` is sample1, sample2, …
"""

from _job import Job
from _model import batch_size, load, progress, rendered

from safety_geometry.artefacts.prompts import read_suites
from safety_geometry.models.sampling import sampled_answers


def main() -> None:
    job = Job(__doc__, inputs=["model", "adapter?", "prompts"], outputs=["completions"])
    loaded, params, limit = load(job, job.adapter), job.params, job.params["max_new_tokens"]
    questions = read_suites({params["suite"]: None}, [job.prompts])
    prompts, n = rendered(loaded, [row for _, row in questions], limit), params["answers"]
    size, bar = batch_size(job, "sampled answers", params["batch_size"]), progress(n * len(questions), "answers")
    draw = {"n": n, "temperature": params["temperature"], "seed": params["seed"]}
    rows = sampled_answers(loaded, questions, prompts, limit, size, **draw, progress=bar)
    job.write_jsonl(rows, job.completions)


if __name__ == "__main__":
    main()
