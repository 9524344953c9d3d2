"""How well a carrier tells held-out harmful prompts from benign ones beside plain properties of the same prompts.

A carrier's score of a prompt is the projection of its activation at the carrier's site. Two AUROCs on the same prompts
are compared with a bootstrap within the classes that draws each prompt with both of its scores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from safety_geometry.artefacts.activations import CLASSES
from safety_geometry.artefacts.carriers import Carrier
from safety_geometry.artefacts.tables.geometry import SEPARABILITY
from safety_geometry.geometry.checkpoint import GeometrySettings, SelectedCheckpoint
from safety_geometry.stats.estimates import ordered, percentiles, resampling_weights

RULERS = ("length", "words")


@dataclass(frozen=True, eq=False)
class Scores:
    """Of harmful [n] and benign prompts [m]; higher: more like a harmful one."""

    harmful: np.ndarray
    benign: np.ndarray

    def ordered(self) -> np.ndarray:
        """[n, m]: 1 where the harmful prompt's score is higher, ½ where they are equal."""
        return ordered(self.harmful, self.benign)

    def auroc(self) -> float:
        return float(self.ordered().mean())


def ruler_scores(table: pd.DataFrame) -> dict[str, Scores]:
    """Of each ruler from the table `rulers`."""
    sides = [table[table["label"] == label] for label in CLASSES]
    return {ruler: Scores(*(side[ruler].to_numpy(np.float64) for side in sides)) for ruler in RULERS}


def ruler_columns(rulers: Mapping[str, Scores]) -> dict[str, float]:
    """AUROC of each ruler by column (`families.RULERS`)."""
    return {f"ruler_{name}_auroc": scores.auroc() for name, scores in rulers.items()}


def beyond(carrier: Scores, ruler: Scores, draws: int, rng: np.random.Generator) -> dict:
    """AUROC of a carrier, that of a ruler on the same prompts, their difference with its 95 % bootstrap interval, and
    `changed`: prompts that the two place differently among those of the other class. Raises ValueError for other
    prompts."""
    ours, theirs = carrier.ordered(), ruler.ordered()
    if ours.shape != theirs.shape:
        raise ValueError(f"a ruler has scores of {theirs.shape} select prompts, the carrier of {ours.shape}")
    difference = ours - theirs
    n, m = difference.shape
    w, v = resampling_weights(n, draws, rng), resampling_weights(m, draws, rng)
    lo, hi = percentiles(((w @ difference) * v).sum(axis=1))
    moved = [int((np.abs(difference.mean(axis=axis)) > 1e-12).sum()) for axis in (0, 1)]
    values = {"auroc": ours.mean(), "ruler_auroc": theirs.mean(), "difference": difference.mean()}
    return values | {"difference_lo": lo, "difference_hi": hi, "changed": sum(moved), "n_harmful": n, "n_benign": m}


def projections(selected: SelectedCheckpoint, carrier: Carrier) -> Scores:
    """Of the select prompts on a carrier at its site."""
    u = np.asarray(carrier.direction, np.float64)
    sides = (selected.contrasts.cache.select(label, carrier.position)[:, carrier.layer] for label in CLASSES)
    return Scores(*(side.astype(np.float64) @ u for side in sides))


def separability_table(
    checkpoints: Sequence[SelectedCheckpoint], rulers: Mapping[str, Scores], settings: GeometrySettings
) -> pd.DataFrame:
    """Table `SEPARABILITY`: the carriers of every anchor, each at its own site, beside each ruler."""
    rows = []
    for each in checkpoints:
        if each.checkpoint.anchor is None:
            continue
        for carrier in each.carriers.by_kind.values():
            scores = projections(each, carrier)
            site = {"carrier": carrier.kind, "layer": carrier.layer, "position": str(carrier.position)}
            for name, ruler in rulers.items():
                compared = beyond(scores, ruler, settings.bootstrap, settings.rng("separability"))
                rows.append(each.checkpoint.columns() | site | {"ruler": name} | compared)
    return pd.DataFrame(rows, columns=SEPARABILITY.names)
