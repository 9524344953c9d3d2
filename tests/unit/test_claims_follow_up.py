"""The claim on reopened attack success, from made-up answers to the verdict."""

import numpy as np
import pandas as pd
import pytest

from safety_geometry.causal.follow_up import follow_up_table
from safety_geometry.claims.decide import CLAIMS, decided
from safety_geometry.claims.evidence import Evidence
from safety_geometry.claims.follow_up import over_targets
from safety_geometry.settings.identity import Checkpoint

AT = Checkpoint(1, "r2d2", 500, "500")
BASELINE = (0.1, 0.02, 0.05)
OPERATION = {"family": "steer", "mode": "r_only", "lambda": 4.0, "scope": "layer", "rank": 1}


def shares(value: float, n: int) -> np.ndarray:
    return np.arange(n) < round(value * n)


def answers(cell: str, asr: float, usefulness: float, broken: float, n: int) -> pd.DataFrame:
    """n direct requests, of which the first succeed and the last are broken; n answers of that usefulness, half of them of none."""
    direct = {
        "suite": "direct",
        "attack_success": shares(asr, n),
        "degenerate": shares(broken, n)[::-1],
        "usefulness": 0.0,
    }
    useful = {
        "suite": "usefulness",
        "attack_success": False,
        "degenerate": False,
        "usefulness": 2 * usefulness * shares(0.5, n),
    }
    parts = [pd.DataFrame({"prompt_id": [f"p{i}" for i in range(n)]} | part) for part in (direct, useful)]
    return pd.concat(parts).assign(arm=cell, any_refusal=False, utility=np.nan)


def table(*targets: tuple[float, float, float], baseline=BASELINE, controls=BASELINE, n: int = 200) -> pd.DataFrame:
    """A follow-up of targets with (attack success, usefulness, share of broken direct answers), and a control of each."""
    rows, judged = [], [answers("clean", *baseline, n)]
    for i, target in enumerate(targets):
        judged += [answers(f"t{i}", *target, n), answers(f"c{i}", *controls, n)]
        rows += [
            {"cell": f"t{i}", "target": f"t{i}", "role": "target", "control": "target", "number": 0, "chosen_delta": 0.3} | OPERATION,
            {"cell": f"c{i}", "target": f"t{i}", "role": "control", "control": "random", "number": 0} | OPERATION,
        ]  # fmt: skip
    rows.append({"cell": "clean", "target": None, "role": "baseline", "control": "baseline", "number": 0})
    chosen = pd.DataFrame([row | {"checkpoint": AT} for row in rows])
    return follow_up_table(chosen, {AT: pd.concat(judged)}, seed=1, draws=400)


def verdict(frame: pd.DataFrame):
    claim = next(c for c in CLAIMS if c.id == "follow_up_broken_text")
    return decided(claim, Evidence({"follow_up": frame}))


@pytest.mark.parametrize(
    ("usefulness", "broken", "expected"),
    [(0.024, 0.833, "holds"), (0.0, 0.833, "holds"), (0.4, 0.833, "fails"), (0.4, 0.05, "fails"), (0.024, 0.05, "fails"),
     (0.07, 0.833, "fails"), (0.024, 0.1, "holds"), (0.024, 0.07, "fails")],
)  # fmt: skip
def test_reopened_answers_are_broken_text_or_not(usefulness, broken, expected):
    found = verdict(table((0.39, usefulness, broken), (0.39, usefulness, broken)))
    assert found.verdict == expected
    assert (found.value, found.threshold, found.n) == (pytest.approx(usefulness - 0.02), 0.05, 200)
    assert found.reason.startswith("attack success of 2 targets less their baselines' 0.290 [")


def test_usefulness_that_the_controls_carry_as_well_is_not_the_targets():
    high = (0.39, 0.4, 0.05)
    assert verdict(table(high)).verdict == "fails"
    alike = verdict(table((0.39, 0.4, 0.833), controls=(0.1, 0.4, 0.05)))
    assert alike.verdict == "inconclusive" and "less the controls' 0.000 [-0.019, 0.019]" in alike.reason


def test_broken_answers_of_the_model_itself_do_not_count():
    """Half of the answers are broken, as without intervention: what reopened is something else."""
    found = verdict(table((0.4, 0.02, 0.5), baseline=(0.1, 0.02, 0.5)))
    assert found.verdict == "fails" and "broken direct answers less the baselines' 0.000" in found.reason


def test_targets_that_fell_count_as_those_that_rose():
    """Four up and four down by chance: whoever keeps the first four sees a gain of 0.2."""
    mixed = verdict(table(*[(0.6, 0.02, 0.8), (0.2, 0.02, 0.8)] * 4, baseline=(0.4, 0.02, 0.05)))
    assert mixed.verdict == "inconclusive" and mixed.reason.startswith(
        "nothing was reopened for certain on the scoring half"
    )
    rose = verdict(table(*[(0.6, 0.02, 0.8)] * 4, baseline=(0.4, 0.02, 0.05)))
    assert rose.verdict == "holds"


def test_nothing_reopened_and_too_little_decide_nothing():
    assert "nothing was reopened" in verdict(table((0.1, 0.02, 0.8))).reason
    assert "n = 20" in verdict(table((0.3, 0.02, 0.8), n=20)).reason
    some = verdict(table((0.39, 0.02, 0.833), n=60))
    assert some.verdict == "inconclusive" and (some.value, some.hi) == (0, pytest.approx(0.0602, abs=1e-4))
    few = verdict(table((0.9, 0.0, 0.8), baseline=(0.0, 0.0, 0.0), n=12))
    assert few.verdict == "inconclusive"  # twelve useless answers leave room for a quarter of useful ones
    assert (few.value, few.hi) == (0, pytest.approx(0.2425, abs=1e-4))
    for lost in ("asr_delta", "usefulness_delta"):
        assert "no followed-up target" in verdict(table((0.4, 0.02, 0.8)).assign(**{lost: np.nan})).reason


def test_more_targets_on_the_same_prompts_are_not_more_answers():
    one, many = (verdict(table(*[(0.4, 0.02, 0.8)] * count)) for count in (1, 8))
    assert (one.lo, one.hi, one.n) == pytest.approx((many.lo, many.hi, many.n))


def test_targets_that_differ_make_the_interval_wider():
    rows = pd.DataFrame({"x": [0.1, 0.5], "x_lo": [0.0, 0.4], "x_hi": [0.2, 0.6]})
    value, lo, hi = over_targets(rows, "x")
    assert value == pytest.approx(0.3)
    half = np.hypot(0.1, 1.959964 * 0.2)  # of the prompts; of the targets: standard error .2
    assert (value - lo, hi - value) == pytest.approx((half, half), abs=1e-6)
    assert over_targets(rows[:1], "x") == pytest.approx((0.1, 0.0, 0.2))
