"""Carriers beside rulers: AUROCs by counting pairs, and a paired difference."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from safety_geometry.geometry.separability import Scores, beyond, ruler_columns, ruler_scores


def rng():
    return np.random.default_rng(5)


def noisy(separation: float, n: int, seed: int) -> Scores:
    draw = np.random.default_rng(seed)
    return Scores(draw.normal(separation, 1, n), draw.normal(0, 1, n))


def test_aurocs_are_those_of_scikit_learn():
    carrier, ruler = noisy(2.0, 30, 1), Scores(*(np.round(side) for side in vars(noisy(0.5, 30, 2)).values()))
    found = beyond(carrier, ruler, 400, rng())
    labels = np.repeat([1, 0], 30)
    wanted = [roc_auc_score(labels, np.concatenate([each.harmful, each.benign])) for each in (carrier, ruler)]
    assert (found["auroc"], found["ruler_auroc"]) == pytest.approx(wanted)
    assert found["difference"] == pytest.approx(wanted[0] - wanted[1])
    assert found["difference_lo"] < found["difference"] < found["difference_hi"]
    assert (found["n_harmful"], found["n_benign"]) == (30, 30)


def test_the_difference_is_paired():
    """The same scores, on another scale, differ in nothing; independent ones of the same quality vary."""
    carrier = noisy(1.0, 24, 3)
    same = beyond(carrier, Scores(3 * carrier.harmful + 1, 3 * carrier.benign + 1), 200, rng())
    assert (same["difference"], same["difference_lo"], same["difference_hi"], same["changed"]) == (0, 0, 0, 0)
    other = beyond(carrier, noisy(1.0, 24, 4), 400, rng())
    assert other["difference_hi"] - other["difference_lo"] > 0.1 and other["changed"] > 24


def test_changed_counts_prompts_of_either_class():
    """One harmful prompt that the ruler places below one benign prompt more: two prompts are placed differently."""
    carrier, ruler = (
        Scores(np.array([3.0, 4.0]), np.array([1.0, 2.0])),
        Scores(np.array([1.5, 4.0]), np.array([1.0, 2.0])),
    )
    found = beyond(carrier, ruler, 50, rng())
    assert found["changed"] == 2 and found["difference"] == pytest.approx(0.25)


def test_intervals_hold_the_truth():
    """Of 200 pairs of scores that separate alike, about 95 % of the intervals hold 0."""
    held = [beyond(noisy(1.0, 24, 2 * i), noisy(1.0, 24, 2 * i + 1), 200, rng()) for i in range(200)]
    assert 0.88 < np.mean([each["difference_lo"] <= 0 <= each["difference_hi"] for each in held]) < 0.99


def test_rulers_come_from_their_table():
    table = pd.DataFrame(
        {"label": ["harmful", "harmful", "benign"], "length": [3.0, 1.0, 2.0], "words": [1.0, 2.0, 0.5]}
    )
    found = ruler_scores(table)
    assert found["length"].harmful.tolist() == [3.0, 1.0] and found["words"].benign.tolist() == [0.5]
    assert ruler_columns(found) == {"ruler_length_auroc": 0.5, "ruler_words_auroc": 1.0}
    with pytest.raises(ValueError, match=r"scores of \(2, 1\) select prompts, the carrier of \(2, 2\)"):
        beyond(Scores(np.ones(2), np.ones(2)), found["words"], 10, rng())
