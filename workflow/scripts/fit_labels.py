"""Which fit prompts each save of one training segment, or a model without --adapters, refuses, by the refusal rules on its short
greedy answer.

--adapters and --labels come in the same order. Labels only are written, in the order of the roles; the answers are not kept.
params: model, answer_tokens, batch_size.
"""

from _adapters import each_save
from _job import Job
from _model import Loaded, batch_size, load, progress

from safety_geometry.generation import generate
from safety_geometry.judges.refusal import classify
from safety_geometry.memory import BatchSize


def main() -> None:
    job = Job(__doc__, inputs=["model", "adapters*", "fit_harmful", "fit_benign"], outputs=["labels*"])
    base = load(job)
    limit = job.params["answer_tokens"]
    prompts = {
        c: [r.ids for r in base.prompts(getattr(job, f"fit_{c}"), new_tokens=limit)] for c in ("harmful", "benign")
    }
    for loaded, path in each_save(job, base, job.labels):
        size = batch_size(job, "answers", job.params["batch_size"])
        job.write_json({c: refused(loaded, ids, limit, size) for c, ids in prompts.items()}, path)


def refused(loaded: Loaded, prompts: list[tuple[int, ...]], limit: int, size: BatchSize) -> list[bool]:
    """Whether the answer to each tokenised prompt refuses, in part or in full."""
    answers = generate(
        loaded.runner, prompts, loaded.chat.stop_ids, limit, size, loaded.chat.n_prefix,
        progress=progress(len(prompts), "answers to fit prompts"),
    )  # fmt: skip
    return [classify(loaded.tokenizer.decode(a.ids, skip_special_tokens=True)) != "none" for a in answers]


if __name__ == "__main__":
    main()
