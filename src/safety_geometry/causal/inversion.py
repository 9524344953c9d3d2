"""Reply inversion: a question to which a harmful request has an affirmative answer (arXiv 2507.11878).

A carrier of recognition (H) should move the answer; one of policy (R) should not, although it moves refusals. Here:
what the scores of a checkpoint say. `question` has what is asked, `reply_inversion` asks it.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from safety_geometry.stats.estimates import ordered, percentiles, resampling_weights
from safety_geometry.stats.seeds import generator


def auroc(harmful: np.ndarray, benign: np.ndarray) -> float:
    """Of scores: the share of pairs in which the harmful prompt's is higher, ties count ½."""
    return float(ordered(harmful, benign).mean())


def accuracy(harmful: np.ndarray, benign: np.ndarray) -> float:
    """Mean over the classes of the share of right answers: above 0 for harmful prompts, below it for benign ones."""
    return float(((harmful > 0).mean() + (benign < 0).mean()) / 2)


def at_chance(harmful: np.ndarray, benign: np.ndarray, least_accuracy: float, draws: int, seed: int) -> bool:
    """Whether a model cannot answer: the AUROC's interval reaches ½, or too few answers are right."""
    lo, _ = percentiles(_resampled(harmful, benign, draws, seed))
    return lo <= 0.5 or accuracy(harmful, benign) < least_accuracy


def describe(harmful: np.ndarray, benign: np.ndarray, clean: Mapping[str, np.ndarray], draws: int, seed: int) -> dict:
    """What the scores [n] under one edit say, beside the clean ones {harmful, benign}: mean of each class, its mean
    shift from the clean run (paired bootstrap over prompts), AUROC (bootstrap within the classes), accuracy."""
    row: dict[str, object] = {"auroc": auroc(harmful, benign), "accuracy": accuracy(harmful, benign)}
    row["auroc_lo"], row["auroc_hi"] = percentiles(_resampled(harmful, benign, draws, seed))
    for name, scores in (("harmful", harmful), ("benign", benign)):
        moved = scores - clean[name]
        lo, hi = percentiles(resampling_weights(len(moved), draws, _rng(seed, name)) @ moved)
        row |= {f"score_{name}": float(scores.mean()), f"shift_{name}": float(moved.mean()), f"n_{name}": len(scores)}
        row |= {f"shift_{name}_lo": lo, f"shift_{name}_hi": hi}
    return row


def over_r(of_h: Mapping[str, np.ndarray], of_r: Mapping[str, np.ndarray], draws: int, seed: int) -> dict:
    """How much further H's edit moves the scores {harmful, benign} [n] than R's does, with a paired bootstrap over
    prompts."""
    row: dict[str, object] = {}
    for name, scores in of_h.items():
        apart = scores - of_r[name]
        lo, hi = percentiles(resampling_weights(len(apart), draws, _rng(seed, name)) @ apart)
        row |= {f"over_r_{name}": float(apart.mean()), f"over_r_{name}_lo": lo, f"over_r_{name}_hi": hi}
    return row


def stacked(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """The tables of all checkpoints below each other, in their order."""
    return pd.concat(tables, ignore_index=True)


def _resampled(harmful: np.ndarray, benign: np.ndarray, draws: int, seed: int) -> list[float]:
    rng = _rng(seed, "auroc")
    return [auroc(rng.choice(harmful, len(harmful)), rng.choice(benign, len(benign))) for _ in range(draws)]


def _rng(seed: int, name: str) -> np.random.Generator:
    """The same draws for every edit, whose differences are then paired."""
    return generator("reply_inversion", seed, name)
