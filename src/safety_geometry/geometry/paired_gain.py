"""How much gain R's choice has lost between two checkpoints, on the same selection prompts.

The gain is cross-fitted as in `selection.held_out`. Both checkpoints are asked the same prompts, in another order: a
resample draws prompts once for both, so that what is common to a prompt takes no part in the difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from safety_geometry.artefacts.candidate_scores import RefusalScores
from safety_geometry.geometry.selection import NOTHING, Choice, Rule, Weights, dealt, gains
from safety_geometry.stats.estimates import Interval, percentiles


@dataclass(frozen=True, eq=False)
class Scored:
    """A checkpoint's scores, and what one selector chose among its finalists."""

    scores: RefusalScores
    choice: Choice

    def parts(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Places, in the role's order, of the harmful and of the benign prompts of each measuring part."""
        finals, screen = self.scores.finals, self.scores.n_screen
        harmful = dealt(len(finals.clean_harmful), screen)
        benign = dealt(len(finals.clean_benign), screen)
        return list(harmful), [self.scores.benign_order[places] for places in benign]

    def gain(self, harmful: np.ndarray, benign: np.ndarray, rule: Rule) -> np.ndarray:
        """[B]: `held_out`'s gain with prompts counted [B, n] and [B, m] times, in the role's order; every part has
        some."""
        order, found = self.scores.benign_order, []
        for pick, h, b in zip(self.choice.held_out.chosen, *self.parts(), strict=True):
            if pick == NOTHING:
                found.append(np.zeros(len(harmful)))
                continue
            weights = Weights(_of_part(harmful, h), _of_part(benign, b)[:, order])
            found.append(gains(self.scores.finals, weights, rule.beta_kl).of(self.choice.selector)[:, pick])
        return np.mean(found, axis=0)


def fall(first: Scored, later: Scored, rule: Rule, draws: int, rng: np.random.Generator) -> Interval:
    """Gain at the first checkpoint less that at the later one, with a 95 % bootstrap interval over the prompts that
    measure at either, classes resampled apart; n: the smaller class of them.

    Resamples that leave a part without a prompt are left out; where half of them do, there is no interval. Raises
    ValueError for checkpoints that were asked different numbers of prompts.
    """
    shapes = [(len(each.scores.finals.clean_harmful), len(each.scores.finals.clean_benign)) for each in (first, later)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"selection prompts of two checkpoints differ in number, {shapes[0]} and {shapes[1]}")
    parts = [each.parts() for each in (first, later)]
    once, often, sizes = [], [], []
    of_role = shapes[0][0], 1 + max(int(each.scores.benign_order.max()) for each in (first, later))
    for side, count in enumerate(of_role):
        measured = np.unique(np.concatenate([places for part in parts for places in part[side]]))
        counts = np.zeros((draws, count))
        counts[:, measured] = rng.multinomial(len(measured), np.full(len(measured), 1 / len(measured)), size=draws)
        once.append(np.ones((1, count)))
        often.append(counts)
        sizes.append(len(measured))
    full = np.ones(draws, bool)
    for part in parts:
        for side, counts in enumerate(often):
            full &= np.all([counts[:, places].sum(axis=1) > 0 for places in part[side]], axis=0)
    value, drawn = (
        first.gain(*counts, rule) - later.gain(*counts, rule) for counts in (once, [counts[full] for counts in often])
    )
    lo, hi = percentiles(drawn) if full.sum() > draws / 2 else (np.nan, np.nan)
    return Interval(float(value[0]), lo, hi, min(sizes))


def _of_part(counts: np.ndarray, places: Sequence[int]) -> np.ndarray:
    """Counts [B, n] as weights of the prompts at some places, each row summing to 1."""
    weights = np.zeros(counts.shape)
    weights[:, places] = counts[:, places]
    return weights / weights.sum(axis=1, keepdims=True)
