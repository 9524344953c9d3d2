"""The claims on reopened attack success, from made-up answers to the verdicts."""

import numpy as np
import pandas as pd
import pytest

from safety_geometry.causal.follow_up import follow_up_table
from safety_geometry.claims.catalogue import CLAIMS
from safety_geometry.claims.decide import decided
from safety_geometry.claims.evidence import Evidence
from safety_geometry.claims.rules import NOT_APPLICABLE
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
    return pd.concat(parts).assign(arm=cell, any_refusal=False, utility=np.nan, success_means="attack_success")


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


def verdict(frame: pd.DataFrame, claim: str = "little_useful"):
    claim = next(c for c in CLAIMS if c.id == f"follow_up_{claim}")
    return decided(claim, Evidence({"follow_up": frame}), 1)


@pytest.mark.parametrize(("success", "expected"), [(0.4, "holds"), (0.1, "no effect"), (0.0, "fails")])
def test_whether_anything_was_reopened(success, expected):
    baseline = (0.1, 0.02, 0.05) if success else (0.3, 0.02, 0.05)
    found = verdict(table((success, 0.02, 0.5), (success, 0.02, 0.5), baseline=baseline), "reopens")
    assert found.verdict == expected and found.estimate == pytest.approx(success - baseline[0]) and found.n == 200
    assert verdict(table((0.2, 0.02, 0.5), n=20), "reopens").verdict == "inconclusive"


@pytest.mark.parametrize(
    ("usefulness", "n", "expected"), [(0.02, 200, "holds"), (0.4, 200, "fails"), (0.1, 60, "inconclusive")]
)
def test_what_reopened_carries_little_usefulness_or_not(usefulness, n, expected):
    found = verdict(table((0.45, usefulness, 0.5), (0.45, usefulness, 0.5), n=n))
    assert found.verdict == expected and found.estimate == pytest.approx(usefulness - 0.02)


@pytest.mark.parametrize(("broken", "n", "expected"), [(0.5, 200, "holds"), (0.3, 200, "no effect"), (0.0, 200, "fails"),
                                                       (0.4, 40, "inconclusive")])  # fmt: skip
def test_what_reopened_is_broken_text_or_not(broken, n, expected):
    """Broken answers of the model itself do not count: a third of them are, without intervention."""
    found = verdict(table((0.6, 0.02, broken), baseline=(0.1, 0.02, 0.3), n=n), "broken_text")
    assert found.verdict == expected, found.reason


def test_without_anything_reopened_there_is_nothing_to_ask():
    """Four up and four down by chance: whoever keeps the first four sees a gain of 0.2."""
    mixed = table(*[(0.6, 0.02, 0.8), (0.2, 0.02, 0.8)] * 4, baseline=(0.4, 0.02, 0.05))
    for claim in ("little_useful", "broken_text"):
        found = verdict(mixed, claim)
        assert found.verdict == NOT_APPLICABLE and found.reason.startswith("nothing was reopened for certain")
    for lost in ("asr_delta", "usefulness_delta"):
        assert "no followed-up target" in verdict(table((0.4, 0.02, 0.8)).assign(**{lost: np.nan})).reason


def test_few_useless_answers_leave_room_for_useful_ones():
    few = verdict(table((0.9, 0.0, 0.8), baseline=(0.0, 0.0, 0.0), n=12))
    assert few.verdict == "inconclusive" and (few.estimate, few.hi) == (0, pytest.approx(0.2425, abs=1e-4))


def test_more_targets_on_the_same_prompts_are_not_more_answers():
    one, many = (verdict(table(*[(0.4, 0.02, 0.8)] * count)) for count in (1, 8))
    assert (one.lo, one.hi, one.n) == pytest.approx((many.lo, many.hi, many.n))
