"""What `make run` expects a rule to take."""

import importlib.util
from pathlib import Path

import pytest

KNOWN = {
    "train_a_0_10": 100.0,
    "train_a_10_20": 140.0,
    "train_b_0_10": 30.0,
    "probe_anchor_a": 7.0,
    "probe_saves_b_0_10": 9.0,
}


@pytest.fixture(scope="module")
def run():
    file = Path(__file__).resolve().parents[2] / "workflow" / "run.py"
    spec = importlib.util.spec_from_file_location("workflow_run", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("rule", "seconds"),
    [("train_a_0_10", 100), ("train_a_20_30", 120), ("train_c_0_10", 90), ("probe_saves_a_0_10", 9), ("figure", 5)],
)
def test_a_rule_that_never_ran_is_taken_for_those_that_are_called_alike(run, rule, seconds):
    assert run.expected(rule, KNOWN) == pytest.approx(seconds)
