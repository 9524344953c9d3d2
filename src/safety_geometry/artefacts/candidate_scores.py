"""Candidate scores of refusal directions: what the model wrote for every candidate site, so that scores can be redone from it.

A file without tensors says that the checkpoint has no candidate. Metadata: `n_layers`.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from safety_geometry.artefacts.errors import ArtefactError
from safety_geometry.artefacts.tensor_file import Tensors


@dataclass(frozen=True, eq=False)
class CandidateScores:
    """C candidate sites × validation prompts (n harmful, m safe).

    layers, positions [C] int; norm [C] of the raw direction; ablate_harmful [C, n, d] and add_benign [C, m, d]: last-token
    block outputs summed over the evaluation layers, under ablation and under addition; kl [C, m] in nats (clean‖ablated, next token
    after the prompt), safe prompts; clean_harmful [n, d], clean_benign [m, d]; n_layers = L, the number of blocks.

    Raises ValueError when the shapes do not fit together, or there is no candidate.
    """

    layers: np.ndarray
    positions: np.ndarray
    norm: np.ndarray
    ablate_harmful: np.ndarray
    add_benign: np.ndarray
    kl: np.ndarray
    clean_harmful: np.ndarray
    clean_benign: np.ndarray
    n_layers: int

    def __post_init__(self) -> None:
        count, (n, d), m = len(self.layers), self.clean_harmful.shape, len(self.clean_benign)
        shapes = {
            "positions": (count,), "norm": (count,), "kl": (count, m), "clean_benign": (m, d),
            "ablate_harmful": (count, n, d), "add_benign": (count, m, d),
        }  # fmt: skip
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"candidate scores: {name} has shape {getattr(self, name).shape}, expected {shape}")
        if not count:
            raise ValueError("candidate scores hold no candidate")


TENSORS = tuple(field.name for field in fields(CandidateScores) if field.name != "n_layers")


def write_scores(path: Path, scores: CandidateScores | None, n_layers: int) -> None:
    """None: the checkpoint has no candidate."""
    tensors = {} if scores is None else {name: np.ascontiguousarray(getattr(scores, name)) for name in TENSORS}
    save_file(tensors, path, {"n_layers": str(n_layers)})


def read_scores(path: Path) -> CandidateScores | None:
    """None where there is no candidate. Raises ArtefactError when a tensor is missing, misshapen or not finite."""
    file = Tensors(path)
    if not any(True for _ in file):
        return None
    arrays = {name: file.read(name) for name in TENSORS}
    try:
        return CandidateScores(**arrays, n_layers=int(file.describe("n_layers")))
    except ArtefactError:
        raise
    except (ValueError, TypeError) as error:
        raise ArtefactError(f"{path}: {error}; run its rule again") from error
