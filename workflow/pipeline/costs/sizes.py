"""Bytes: of the files that a study writes, and of what a model job holds in memory."""

from pipeline.costs.shapes import BYTES, Shape

FLOAT = 4
KEPT, SLOTS = 2, 32  # of decoding caches with model.graphs, as CACHES and SLOTS of safety_geometry.models.graphs
STATE_COPIES = 3  # a training state holds the adapter and AdamW's two moments, in float32 as the adapter


def adapter(shape: Shape, rank: int, targets: list[str]) -> int:
    """A saved LoRA adapter: float32, whatever the model."""
    return FLOAT * shape.lora(rank, targets)


def training_state(shape: Shape, rank: int, targets: list[str]) -> int:
    return STATE_COPIES * adapter(shape, rank, targets)


def cache(shape: Shape, positions: int, dtype: str, fit: int, select: int, whole: bool, behaviour: bool = False) -> int:
    """The tensors of an activation cache: `positions` with t_inst; `fit` and `select` prompts of both classes together.

    whole: with every prompt's activations at every site. Otherwise means at every site, and the select prompts at one
    position. behaviour: with the labels of the fit prompts and the means of refused and complied ones. The file adds a
    header of a kilobyte at the most.
    """
    site = positions * (shape.layers + 1) * shape.hidden
    means = FLOAT * site * (4 if behaviour else 2) + (fit if behaviour else 0)
    if whole:
        return means + BYTES[dtype] * (fit + select) * site
    return means + BYTES[dtype] * select * site // positions


def prompt_activations(shape: Shape, positions: int, dtype: str, prompts: int) -> int:
    """Of the evaluation suites' prompts, at all block inputs."""
    return BYTES[dtype] * prompts * positions * shape.layers * shape.hidden


def scores(shape: Shape, candidates: int, validation: int) -> int:
    """Candidate scores: two vectors, two log-odds (of 8 bytes) and a KL for each candidate and prompt, and the clean
    ones."""
    vectors = candidates * validation * (2 * shape.hidden + 5) + 2 * validation * (shape.hidden + 2)
    return FLOAT * (vectors + 5 * candidates) + validation


def carriers(shape: Shape, saves: int, directions: int) -> int:
    return FLOAT * saves * 2 * (1 + directions) * shape.hidden


# ------------------------------------------------------------------------------------------------------------- memory


def key_values(shape: Shape, size: int, rows: int, tokens: float) -> float:
    return rows * tokens * shape.layers * 2 * shape.kv_heads * shape.head_dim * size


def one_pass(shape: Shape, size: int, rows: float, tokens: float) -> float:
    """What a forward pass without gradients holds at its fullest block."""
    return rows * tokens * (6 * shape.hidden + 3 * shape.intermediate) * size


def decoding(shape: Shape, size: int, rows: int, prompt: float, limit: float, static: bool = False) -> float:
    """Greedy decoding: keys and values, once more in part when finished rows are dropped; the prompts' pass; logits.

    static: rows stay, and so do the caches of KEPT shapes, with slots up to a multiple of SLOTS (models/graphs.py).
    What captured passes hold besides is left out.
    """
    slots = SLOTS * -(-(prompt + limit) // SLOTS) if static else prompt + limit
    held = (KEPT if static else 1.75) * key_values(shape, size, rows, slots)
    return held + one_pass(shape, size, rows, prompt) + 2 * FLOAT * rows * shape.vocabulary


def backward(shape: Shape, size: int, tokens: float, labels: float) -> float:
    """What a training pass keeps for its backward pass, and the logits of its labels."""
    blocks = (8 * shape.hidden + 4 * shape.intermediate) * size * shape.layers
    return tokens * blocks + 3 * FLOAT * labels * shape.vocabulary


def optimiser(shape: Shape, rank: int, targets: list[str]) -> int:
    """The adapter, its gradient and AdamW's moments."""
    return 4 * adapter(shape, rank, targets)
