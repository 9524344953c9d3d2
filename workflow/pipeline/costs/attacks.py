"""Work and memory of GCG, in training and as an attack."""

from pipeline.costs import sizes
from pipeline.costs.facts import BEHIND, PREFIX, REQUEST, TARGET
from pipeline.costs.rates import Work


def search(work: Work, cases: int, steps: float, gcg: dict, processes: int = 1) -> None:
    """`steps` steps of GCG on `cases` cases together. Processes share the candidates; each makes all gradients."""
    behind = gcg["suffix_length"] + BEHIND + TARGET  # from the suffix on; a candidate starts half-way through it
    each = behind - gcg["suffix_length"] / 2
    candidates = cases * (gcg["width"] + gcg.get("echo", 0) + max(0, gcg.get("merge", 0) - 1) * 0.5) / processes
    work.train(steps * cases * behind, steps, steps * cases * TARGET)
    passes = max(2.0, candidates / gcg["batch_size"])
    work.forward(steps * candidates * each, steps * passes, logits=steps * candidates * TARGET)


def searching(work: Work, cases: int, gcg: dict) -> float:
    """Bytes that a step of GCG holds."""
    shape, size = work.shape, work.size
    width = gcg["suffix_length"] + BEHIND + TARGET
    rows, looked = min(gcg["batch_size"], cases * gcg["width"]), min(cases, max(1, gcg["batch_size"] // 4))
    scoring = sizes.one_pass(shape, size, rows, width) + 4 * sizes.FLOAT * rows * TARGET * shape.vocabulary
    looking = sizes.backward(shape, size, looked * width, looked * TARGET)
    kept = sizes.key_values(shape, size, 2 * cases + rows / shape.layers, PREFIX + REQUEST + width)
    if (gcg.get("probe") or {}).get("draft") == "bfloat16":
        kept += 2 * shape.parameters  # the draft is a copy of the model
    return max(scoring, looking) + kept + 2 * sizes.FLOAT * cases * gcg["suffix_length"] * shape.vocabulary
