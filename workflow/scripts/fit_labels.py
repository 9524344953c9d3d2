"""Which fit prompts each save of one training segment, or a model without --adapters, refuses, by the refusal rules on
its short greedy answer.

--adapters and --labels come in the same order. Labels only are written, in the order of the roles; the answers are not
kept. params: model, answer_tokens, batch_size.
"""

from _job import Job
from _model import batch_size, load, progress, rendered, saves

from safety_geometry.artefacts.fit_labels import CLASSES, write_fit_labels
from safety_geometry.artefacts.jsonl import read_jsonl
from safety_geometry.judges.refusal import classify
from safety_geometry.models.answers import holds


def main() -> None:
    job = Job(__doc__, inputs=["model", "adapters*", "fit_harmful", "fit_benign"], outputs=["labels*"])
    base, limit = load(job), job.params["answer_tokens"]
    prompts = {label: rendered(base, read_jsonl(getattr(job, f"fit_{label}")), limit) for label in CLASSES}
    for part, loaded, path in saves(job, base, job.labels):
        size, refused = batch_size(job, "answers", job.params["batch_size"]), {}
        for label, rows in prompts.items():
            bar = progress(len(rows), "answers to fit prompts")
            refused[label] = holds(loaded, rows, lambda text: classify(text) != "none", limit, size, progress=bar)
        part.write(path, write_fit_labels, refused)


if __name__ == "__main__":
    main()
