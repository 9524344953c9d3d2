"""Greedy answers of a checkpoint to its evaluation suites.

params: model, suites {name: max_new_tokens} in order, arms {suite: those of its arms that are asked; left out: all},
batch_size. --prompts are the suites' files in that order; a suite of attacked requests has rows with `prompt` (what is
asked) and `request`. Rows: id, suite, prompt_id, prompt (the
bare request), completion, n_tokens, hit_limit and the fields that judges need (type, bucket, must, min_words, arm).
--activations: the prompts' activations at params.positions and all block inputs, in the order of the rows; they cost
nothing, since the prompts are run anyway.
"""

from _job import Job
from _model import batch_size, load, progress, rendered, reported

from safety_geometry.artefacts.prompt_activations import write_prompt_activations
from safety_geometry.artefacts.prompts import read_suites
from safety_geometry.models.answers import answer_suites
from safety_geometry.models.recording import PromptRecorder


def main() -> None:
    job = Job(__doc__, inputs=["model", "adapter?", "prompts*"], outputs=["completions", "activations"])
    loaded, params, limits = load(job, job.adapter), job.params, job.params["suites"]
    questions = read_suites(dict.fromkeys(limits), job.prompts, params.get("arms"))
    prompts = rendered(loaded, [row for _, row in questions], [limits[suite] for suite, _ in questions])
    with reported():
        recorder = PromptRecorder(loaded.runner, prompts, params["positions"], params["dtype"])
    size, bar = batch_size(job, "completions", params["batch_size"]), progress(len(questions), "completions")
    rows = answer_suites(loaded, questions, prompts, limits, size, observe=recorder.observe, progress=bar)
    job.write_jsonl(rows, job.completions)
    with reported():
        job.write(job.activations, write_prompt_activations, recorder.values, params["positions"])


if __name__ == "__main__":
    main()
