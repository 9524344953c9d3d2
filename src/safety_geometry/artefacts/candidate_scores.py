"""Candidate scores of refusal directions: what the model wrote for every candidate site, so that a choice can be redone from it.

A file without tensors says that the checkpoint has no candidate. Metadata, one entry: `scores`, what is known beside the tensors.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from safety_geometry.artefacts.errors import ArtefactError
from safety_geometry.artefacts.tensor_file import Tensors

SELECTORS = ("effect", "cosmic")


@dataclass(frozen=True, eq=False)
class CandidateScores:
    """C candidate sites × validation prompts (n harmful, m safe).

    layers, positions [C] int; norm [C] of the raw direction; ablate_harmful [C, n, d] and add_benign [C, m, d]: last-token
    block outputs summed over the evaluation layers, under ablation and under addition; kl [C, m] in nats (clean‖ablated, next token
    after the prompt), safe prompts; clean_harmful [n, d], clean_benign [m, d]; n_layers = L, the number of blocks.

    Refusal log-odds of the first answer token: removed [C, n] and added [C, m] under the same edits, log_odds_harmful [n] and
    log_odds_benign [m] clean; 0 where none were read. answered [m]: safe prompts that the model answers, and the KL counts on (left
    out: all).

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
    removed: np.ndarray | None = None
    added: np.ndarray | None = None
    log_odds_harmful: np.ndarray | None = None
    log_odds_benign: np.ndarray | None = None
    answered: np.ndarray | None = None

    def __post_init__(self) -> None:
        count, (n, d), m = len(self.layers), self.clean_harmful.shape, len(self.clean_benign)
        shapes = {
            "positions": (count,), "norm": (count,), "kl": (count, m), "clean_benign": (m, d),
            "ablate_harmful": (count, n, d), "add_benign": (count, m, d), "removed": (count, n), "added": (count, m),
            "log_odds_harmful": (n,), "log_odds_benign": (m,), "answered": (m,),
        }  # fmt: skip
        for name, shape in shapes.items():
            if getattr(self, name) is None:
                filled = np.ones(shape, np.uint8) if name == "answered" else np.zeros(shape)
                object.__setattr__(self, name, filled)
            if getattr(self, name).shape != shape:
                raise ValueError(f"candidate scores: {name} has shape {getattr(self, name).shape}, expected {shape}")
        if not count:
            raise ValueError("candidate scores hold no candidate")


@dataclass(frozen=True)
class Openings:
    """How the refusals of the selection prompts begin, and how well that tells them apart.

    n_refused of n_answers short greedy answers refuse by the rules, n_answered safe prompts do not; own: the openings are the first
    tokens of those refusals, n_tokens of them, else the configured ones. auroc: of the clean log-odds against refused answers, with the
    openings in use, and auroc_configured with those of the configuration; None where no answer, or every answer, is a refusal.
    """

    n_answers: int
    n_refused: int
    n_answered: int
    own: bool
    n_tokens: int
    auroc: float | None
    auroc_configured: float | None


@dataclass(frozen=True, eq=False)
class NullSets:
    """The choice made among S sets of label-shuffled directions.

    gains: by selector, [S]; layers, positions [S] and directions [S, d] (unit): the winner of each set by the selector in charge;
    n_sites: directions of a set.
    """

    gains: dict[str, np.ndarray]
    layers: np.ndarray
    positions: np.ndarray
    directions: np.ndarray
    n_sites: int

    @property
    def count(self) -> int:
        return len(self.layers)


@dataclass(frozen=True, eq=False)
class RefusalScores:
    """All that a checkpoint's R is chosen from.

    screen: every candidate on few prompts; finals: the best of them on all, of which the first `n_screen` of each class are those of
    the screen; kl_everywhere [F]: mean KL of the finalists removed at every block input; null: None where no set was needed;
    benign_order [m]: where each benign prompt stands in its role, since those that the checkpoint answers come first, and the role may
    hold more (left out: as they stand).
    """

    screen: CandidateScores
    finals: CandidateScores
    n_screen: int
    kl_everywhere: np.ndarray
    openings: Openings
    null: NullSets | None
    benign_order: np.ndarray | None = None

    def __post_init__(self) -> None:
        count = len(self.finals.clean_benign)
        if self.benign_order is None:
            object.__setattr__(self, "benign_order", np.arange(count))
        if len(self.benign_order) != count or len({*self.benign_order}) != count or min(self.benign_order) < 0:
            raise ValueError(f"candidate scores: benign_order is no order of {count} prompts")

    @property
    def n_layers(self) -> int:
        return self.screen.n_layers


TENSORS = tuple(field.name for field in fields(CandidateScores) if field.name != "n_layers")


def write_scores(path: Path, scores: RefusalScores | None, n_layers: int) -> None:
    """None: the checkpoint has no candidate."""
    tensors, about = {}, {"n_layers": n_layers}
    if scores is not None:
        for stage in ("screen", "finals"):
            part = getattr(scores, stage)
            tensors |= {f"{stage}.{name}": np.ascontiguousarray(getattr(part, name)) for name in TENSORS}
        tensors["kl_everywhere"] = np.ascontiguousarray(scores.kl_everywhere)
        tensors["benign_order"] = np.ascontiguousarray(scores.benign_order)
        about |= {"n_screen": scores.n_screen, "openings": asdict(scores.openings), "null_sites": None}
        if scores.null is not None:
            about["null_sites"] = scores.null.n_sites
            tensors |= {f"null.gains.{name}": np.ascontiguousarray(scores.null.gains[name]) for name in SELECTORS}
            for name in ("layers", "positions", "directions"):
                tensors[f"null.{name}"] = np.ascontiguousarray(getattr(scores.null, name))
    save_file(tensors, path, {"scores": json.dumps(about, sort_keys=True)})


def read_scores(path: Path) -> RefusalScores | None:
    """None where there is no candidate. Raises ArtefactError when a tensor is missing, misshapen or not finite."""
    file = Tensors(path)
    if not any(True for _ in file):
        return None
    try:
        about = file.describe("scores")
        screen, finals = (
            CandidateScores(**{name: file.read(f"{stage}.{name}") for name in TENSORS}, n_layers=int(about["n_layers"]))
            for stage in ("screen", "finals")
        )
        null = None
        if about["null_sites"] is not None:
            gains = {name: file.read(f"null.gains.{name}") for name in SELECTORS}
            rest = (file.read(f"null.{name}") for name in ("layers", "positions", "directions"))
            null = NullSets(gains, *rest, about["null_sites"])
        kl, order = file.read("kl_everywhere"), file.read("benign_order")
        return RefusalScores(screen, finals, about["n_screen"], kl, Openings(**about["openings"]), null, order)
    except ArtefactError:
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise ArtefactError(f"{path}: {error}; run its rule again") from error
