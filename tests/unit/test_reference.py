import numpy as np
import pandas as pd

from safety_geometry.training.reference import reference_table, stable_from


def series(**values):
    return pd.Series({int(k[1:]): v for k, v in values.items()})


def test_the_earliest_step_from_which_refusal_stays():
    assert stable_from(series(s5=0.1, s10=1.0, s20=0.95, s30=0.85), 0.9, 0.1) == 10


def test_a_later_fall_disqualifies_what_came_before():
    assert stable_from(series(s5=1.0, s10=0.2, s20=0.95, s30=0.92), 0.9, 0.1) == 20


def test_the_last_step_alone_shows_no_stability():
    assert stable_from(series(s5=0.1, s10=0.95), 0.9, 0.1) is None


def test_table_has_a_row_per_seed_and_regime_and_skips_unmeasured_steps():
    training = pd.DataFrame({
        "seed": [1] * 6, "regime": ["r2d2"] * 3 + ["sft"] * 3, "step": [1, 5, 10] * 2,
        "refusal_harmful": [np.nan, 0.95, 1.0, np.nan, 0.0, 0.0],
    })  # fmt: skip
    table = reference_table(training, {"r2d2": 10, "sft": 5})
    assert table["by_rule"].tolist() == [5, pd.NA]
    assert table["refusal_at_configured"].tolist() == [1.0, 0.0]
