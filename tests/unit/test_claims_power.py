"""Every rule on runs with a known truth: which verdicts are reached at the reference's n, and how often they are wrong.

Here a part of it; all of it is `long` (make test-long). And what a configuration could decide, against closed forms.
"""

import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from claims_simulation import Rule, paired_rates, rules, simulated
from scipy import stats

from safety_geometry.claims.catalogue import CLAIMS, SWEPT, claims_for
from safety_geometry.claims.margins import MARGINS
from safety_geometry.claims.power import Plan, power_table, shown
from safety_geometry.claims.rules import DECIDED, HOLDS, REACHABLE

ROOT = Path(__file__).resolve().parents[2]
RULES = {rule.name: rule for rule in rules()}
SLOW = (
    "series, difference",
    "paired means, difference",
    "coupling, difference",
    "coupling, constant",
    "beyond shuffled labels",
    "matched pairs, difference",
    "matched pairs of two checkpoints",
    "carriers beside rulers",
)
EXPECTED = ("a true effect", "none", "the opposite")


def check(rule: Rule, runs: int, factors: tuple[float, ...], seed: int = 1) -> None:
    """Right verdicts are reached where seeds agree, and wrong ones not more often than 5 % explain, whatever seeds do."""
    for name, truth, verdict in zip(EXPECTED, rule.truths, rule.expected, strict=True):
        for factor in factors:
            rates = simulated(rule, truth, factor * rule.observed, runs, seed)
            assert not rates.too_many(), (name, factor, rates)
            if verdict and not factor:
                reached = 0.2 if "permutation" in rule.name and name == "none" else 0.5
                assert rates.share(verdict) >= reached, (name, rates)
                assert set(rates.verdicts) <= set(REACHABLE[rule.rule])


def called_none(rule: Rule, runs: int, seed: int) -> None:
    """An effect of exactly the margin is called none in not more than 5 % of runs. (A claim that nothing changes may as
    well fail there.)"""
    rates = simulated(rule, rule.margin, 0.0, runs, seed)
    if rule.rule == "constant":
        rates = replace(rates, wrong=rates.verdicts[HOLDS], wrong_over_seeds=rates.over_seeds[HOLDS])
    assert not rates.too_many(), rates


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_verdicts_are_reached_and_seldom_wrong(rule):
    check(rule, {"series, difference": 8}.get(rule.name, 25 if rule.name in SLOW else 100), (0.0, 1.0, 2.0))


@pytest.mark.parametrize("rule", [rule for rule in RULES.values() if rule.rule != "level"], ids=lambda rule: rule.name)
def test_an_effect_of_the_margin_is_seldom_called_none(rule):
    called_none(rule, 15 if rule.name in SLOW else 150, 2)


@pytest.mark.long
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_verdicts_are_reached_and_seldom_wrong_in_many_runs(rule):
    runs = {"series, difference": 150}.get(rule.name, 500 if rule.name in SLOW else 2000)
    check(rule, runs, (0.0, 1.0, 2.0), seed=3)
    if rule.rule != "level":
        called_none(rule, runs, 4)


def test_a_rule_that_is_wrong_too_often_is_seen():
    """Intervals of half their length decide wrongly more often than 5 %."""
    honest = RULES["rate, level"]

    def halved(effects, rng):
        drawn = honest.draw(effects, rng)
        by_seed = {
            s: type(e)(e.value, (e.value + e.lo) / 2, (e.value + e.hi) / 2, e.n) for s, e in drawn.by_seed.items()
        }
        return type(drawn)(by_seed, drawn.what)

    careless = Rule("halved", "level", 0.1, honest.truths, 0.0, halved, 0.5, honest.expected)
    assert simulated(careless, 0.5, 0.0, 400, 1).too_many() and not simulated(honest, 0.5, 0.0, 400, 1).too_many()


def test_the_planned_n_has_its_power():
    """At the n that `planned_n` gives, an effect of the margin and none are both decided in four runs of five."""
    from safety_geometry.stats.pooling import planned_n

    changed, margin = 0.2, 0.1  # the SD of a paired difference is √.2
    rule = Rule(
        "planned",
        "difference",
        margin,
        (margin, 0.0, -margin),
        0.0,
        paired_rates(planned_n(math.sqrt(changed), margin, 3), changed),
    )
    none = simulated(rule, 0.0, 0.0, 400, 5)
    assert 0.7 < none.share("no effect") < 0.92
    shown_effect = simulated(rule, 1.6 * margin, 0.0, 200, 5)
    assert shown_effect.share("holds") > 0.9


# ----------------------------------------------------------------------------------------------- what a study could decide

SIZES = {"direct": 72, "attacked": 24, "lookalike": 72, "pairs": 60, "inversion": 20, "utility": 60, "usefulness": 48, "fit": 48, "select": 24, "readout": 16,
         "generated": 60, "follow_up": 0, "saves": 40, "sources": 0, "seeds": 3, "choice": 1}  # fmt: skip
PLAN = Plan("full", 3, SIZES, frozenset(SWEPT))


def test_power_is_that_of_the_closed_form():
    table = power_table(CLAIMS, PLAN).set_index("id")
    row = table.loc["r2d2_refusal_falls"]
    error = MARGINS["any_refusal"].sd / math.sqrt(72 * 3)
    assert row["detectable"] == pytest.approx((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * error)
    wanted = 0.1 / (stats.norm.ppf(0.95) + stats.norm.ppf(0.9))
    assert row["n_decides"] == math.ceil((MARGINS["any_refusal"].sd / wanted) ** 2 / 3) and row["decides"]
    assert (row["n"], row["sd_from"]) == (72, "assumed")
    assert not table.loc["r2d2_reopens", "decides"] and table.loc["r2d2_reopens", "n_decides"] > 24
    assert table.loc["follow_up_reopens", "n"] == 0 and not table.loc["follow_up_reopens", "decides"]
    assert table.loc["rank_constant", "sd_from"] == "not known"


def test_a_stored_run_says_the_variance():
    half = 0.06
    stored = pd.DataFrame([
        {"id": "r2d2_refusal_falls", "lo": 0.3 - half, "hi": 0.3 + half, "lo_seeds": 0.1, "n": 60.0, "n_seeds": 3},
        {"id": "rank_constant", "lo": -half, "hi": half, "lo_seeds": -half, "n": math.nan, "n_seeds": 3},
    ])  # fmt: skip
    table = power_table(CLAIMS, PLAN, stored).set_index("id")
    row = table.loc["r2d2_refusal_falls"]
    assert row["sd"] == pytest.approx(half / stats.norm.ppf(0.975) * math.sqrt(180)) and row["sd_from"] == "stored"
    seeds = table.loc["rank_constant"]
    assert seeds["sd"] == pytest.approx(half / stats.t.ppf(0.975, 2) * math.sqrt(3))
    assert seeds["detectable"] == pytest.approx(
        (stats.t.ppf(0.975, 2) + stats.t.ppf(0.8, 2)) * seeds["sd"] / math.sqrt(3)
    )


def test_a_study_without_a_regime_has_no_n_for_its_claims():
    table = power_table(claims_for(["qwen"]), Plan("aligned", 1, SIZES, frozenset(["qwen"]))).set_index("id")
    assert table.loc["r2d2_refusal_falls", "n"] == 0 and table.loc["sweep_r_added_qwen", "n"] == 16
    assert table.loc["aligned_r_reopens", "n"] == 60
    text = shown(table.reset_index(), PLAN)
    assert (
        any(line.startswith("sweep_r_added_qwen") for line in text) and "declared to be decided by aligned" in text[-1]
    )


@pytest.mark.parametrize("name", ["config.yaml", "configs/full.yaml", "configs/smoke.yaml", "configs/paper.yaml"])
def test_configurations_are_planned(name, capsys):
    import power
    from pipeline.config_file import read_study

    plan = power.planned(read_study(ROOT / name))
    assert plan.name == yaml.safe_load((ROOT / name).read_text())["study"]
    assert {quantity.per for quantity in MARGINS.values()} <= set(plan.sizes)


def test_verdicts_that_count_as_decided():
    assert set(DECIDED) == {verdict for verdicts in REACHABLE.values() for verdict in verdicts} - {"inconclusive"}
