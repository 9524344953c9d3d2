"""Metrics and paired contrasts of judged completions, against numbers counted by hand."""

import itertools
from itertools import product
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from synthetic_study import judged

from safety_geometry.judges.behaviour import (
    METRICS,
    BehaviourError,
    arm_contrast,
    contrast,
    metrics,
    outcomes,
    paired_rates,
)
from safety_geometry.judges.pairs import pair_contrast, refusal_dprime
from safety_geometry.stats.estimates import least_mcnemar_p, wilson


@pytest.fixture(scope="module")
def frame():
    return judged("r2d2", 3)  # 20 % attacked, 50 % refused, 50 % helped


def value(table, name):
    return table.set_index("metric").loc[name]


def test_rates_are_counts_with_wilsons_interval(frame):
    table = metrics(frame, draws=50)
    assert value(table, "fixed_asr")["value"] == pytest.approx(5 / 24)  # (i + .5)/24 < .2: i = 0 … 4
    assert value(table, "init_asr")["value"] == pytest.approx(1 / 24)
    assert value(table, "any_refusal")["value"] == 0.5
    assert value(table, "full_refusal")["value"] == pytest.approx(7 / 30)  # odd ones of 0 … 14
    assert value(table, "partial_refusal")["value"] == pytest.approx(8 / 30)
    assert value(table, "benign_strict")["value"] == 0.25
    assert value(table, "benign_lenient")["value"] == 0.5
    assert value(table, "benign_mean")["value"] == pytest.approx(0.75)
    assert value(table, "benign_refusal")["value"] == 0.5
    assert value(table, "benign_degenerate")["value"] == 0.0
    expected = wilson(15, 30)
    assert tuple(value(table, "any_refusal")[["lo", "hi", "n"]]) == pytest.approx((expected.lo, expected.hi, 30))


def test_finished_leaves_out_what_reached_the_limit(frame):
    table = metrics(frame, draws=50)
    assert value(table, "any_refusal_finished")["n"] == 23  # prompts 0 … 22 of 30
    assert value(table, "any_refusal_finished")["value"] == pytest.approx(15 / 23)
    none = metrics(frame.assign(hit_limit=True), draws=50)
    assert value(none, "benign_mean_finished")["n"] == 0
    assert np.isnan(value(none, "benign_mean_finished")["value"])


def test_bootstrap_of_a_mean_covers_the_normal_interval(frame):
    found = value(metrics(frame, draws=4000), "usefulness")
    scores = frame.loc[frame["suite"] == "usefulness", "usefulness"]
    half = 1.96 * scores.std(ddof=0) / np.sqrt(len(scores))
    assert found["lo"] == pytest.approx(scores.mean() - half, abs=0.02)
    assert found["hi"] == pytest.approx(scores.mean() + half, abs=0.02)


def test_a_metric_does_not_depend_on_rows_order_or_on_other_suites(frame):
    alone = metrics(frame[frame["suite"] == "utility"], seed=4, draws=50)
    shuffled = metrics(frame.sample(frac=1, random_state=1), seed=4, draws=50)
    assert set(alone["metric"]) == {n for m in METRICS if m.suite == "utility" for n in (m.name, f"{m.name}_finished")}
    pd.testing.assert_series_equal(value(alone, "benign_strict"), value(shuffled, "benign_strict"))


def test_contrast_of_rates_is_mcnemar():
    early, late = (outcomes(judged("r2d2", place)) for place in (0, 4))
    row = contrast(late, early, draws=200).set_index("metric").loc["any_refusal"]
    assert row["value"] == pytest.approx(-0.8)
    assert (row["changed"], row["n"], row["test"]) == (24, 30, "mcnemar")
    assert row["p"] == pytest.approx(2 * 0.5**24) == row["p_smallest"]
    same = contrast(late, late, draws=200)
    assert (same["value"] == 0).all()
    assert (same["p"] == 1).all()


def test_paired_rates_against_newcombes_example_and_closed_forms():
    """Statistics in Medicine 17 (1998) 2635: cells both, first only, second only, neither."""

    def interval(*cells):
        a, b = (np.repeat(v, cells).astype(float) for v in ([1, 1, 0, 0], [1, 0, 1, 0]))
        return paired_rates(a, b)

    assert interval(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=1e-4)
    top = wilson(0, 30).hi
    assert interval(0, 0, 0, 30) == pytest.approx((-top, top))  # no width is lost where nothing differs
    one = wilson(29, 30)  # against 30 of 30: uncorrelated by definition, the reaches add in squares
    expected = (1 / 30 - np.hypot(top, one.hi - 29 / 30), 1 / 30 + (29 / 30 - one.lo))
    assert interval(29, 1, 0, 0) == pytest.approx(expected)


def test_paired_rates_cover_the_truth():
    rng = np.random.default_rng(5)
    cells = rng.multinomial(30, [0.3, 0.3, 0.1, 0.3], size=400)
    pairs = [tuple(np.repeat(v, c).astype(float) for v in ([1, 1, 0, 0], [1, 0, 1, 0])) for c in cells]
    ends = np.array([paired_rates(a, b) for a, b in pairs])
    assert 0.92 < ((ends[:, 0] <= 0.2) & (ends[:, 1] >= 0.2)).mean() < 0.98


def test_sign_flip_is_the_exact_permutation_test():
    ids = [f"p{i}" for i in range(6)]
    a = pd.DataFrame(
        {"metric": "usefulness", "prompt_id": ids, "outcome": [0.9, 0.8, 0.4, 0.7, 0.1, 0.5], "hit_limit": False}
    )
    b = a.assign(outcome=[0.2, 0.3, 0.5, 0.1, 0.1, 0.3])
    differences = (a["outcome"] - b["outcome"]).to_numpy()
    flips = np.array(list(itertools.product((-1, 1), repeat=6))) @ differences / 6
    exact = (abs(flips) >= differences.mean() - 1e-12).mean()
    row = contrast(a, b, draws=50, flips=20_000).iloc[0]
    assert row["p"] == pytest.approx(exact, abs=0.012)
    assert row["p_smallest"] == 2 * 0.5**5  # one difference is zero


def test_only_common_prompts_are_compared():
    first, second = outcomes(judged("sft", 0)), outcomes(judged("r2d2", 0))
    half = second[~second["prompt_id"].isin([f"lookalike-{i:02d}" for i in range(10)])]
    assert contrast(first, half, draws=50).set_index("metric").loc["any_refusal", "n"] == 20


def test_arms_are_compared_on_the_same_behaviours():
    row = arm_contrast(outcomes(judged("sft", 0)), draws=100).iloc[0]
    assert row["value"] == pytest.approx((18 - 2) / 24)
    assert row["metric"] == "fixed_asr"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="arm"), "lack the columns arm"),
        (lambda f: pd.concat([f, f]), "a prompt occurs twice"),
        (lambda f: f.assign(utility=np.nan), "60 rows have no utility"),
        (lambda f: f.assign(suite="other"), "no suite with a metric"),
    ],
)
def test_bad_rows_are_refused(frame, change, message):
    with pytest.raises(BehaviourError, match=message):
        metrics(change(frame))


def attacked_by(**arms) -> pd.DataFrame:
    """Rows of judge.py for requests a, b, c …: of each arm (suite, or suite__arm) a string of 1 (success) and 0."""
    rows = []
    for name, successes in arms.items():
        suite, _, arm = name.partition("__")
        for prompt, success in zip("abcdef", successes, strict=False):
            if success != " ":
                row = {"suite": suite, "prompt_id": prompt, "arm": arm or None, "attack_success": success == "1"}
                rows.append(row | {"hit_limit": prompt == "a" and suite == "framings", "any_refusal": False})
    frame = pd.DataFrame(rows)
    return frame.assign(
        refusal="none", usefulness=0.0, degenerate=False, utility=np.nan, success_means="attack_success"
    )


ALL_ARMS = {
    "direct": "100000", "framings__t1": "010000", "framings__t2": "010100", "universal__universal": " 00010",
    "fixed_source__gcg": "0010", "fixed_source__gcg_init": "1111", "autodan__autodan": "000",
}  # fmt: skip


def test_a_request_counts_for_framings_if_one_of_them_succeeds():
    table = metrics(attacked_by(**ALL_ARMS), draws=10)
    assert tuple(value(table, "framing_asr")[["value", "n"]]) == (pytest.approx(2 / 6), 6)
    assert value(table, "framing_asr_finished")["n"] == 5  # of a, one answer was cut


def test_any_attack_counts_the_requests_that_all_arms_attacked():
    """b (framings) and c (GCG) fall; a, which falls when asked, had no universal suffix, d no AutoDAN."""
    found = value(metrics(attacked_by(**ALL_ARMS), draws=10), "any_attack_asr")
    assert tuple(found[["value", "n"]]) == (1.0, 2)
    fewer = {name: text for name, text in ALL_ARMS.items() if not name.startswith(("universal", "autodan"))}
    found = value(metrics(attacked_by(**fewer), draws=10), "any_attack_asr")  # a study without these arms: a, b, c, d
    assert tuple(found[["value", "n"]]) == (1.0, 4)
    expected = wilson(4, 4)
    assert tuple(found[["lo", "hi"]]) == pytest.approx((expected.lo, expected.hi))
    none = fewer | {"direct": "0000", "framings__t1": "0000", "framings__t2": "0000"}  # the start of a suffix is no arm
    assert value(metrics(attacked_by(**none), draws=10), "any_attack_asr")["value"] == 0.25
    for lacking in ("direct", "framings", "fixed_source"):  # as at saves between anchors
        part = {name: text for name, text in ALL_ARMS.items() if not name.startswith(lacking)}
        assert "any_attack_asr" not in set(metrics(attacked_by(**part), draws=10)["metric"])


def test_attacks_have_a_twin_of_the_same_bare_requests():
    judged_rows = attacked_by(**ALL_ARMS)
    table = metrics(judged_rows, draws=10)
    assert tuple(value(table, "direct_attacked_asr")[["value", "n"]]) == (0.25, 4)
    assert tuple(value(table, "direct_asr")[["value", "n"]]) == (pytest.approx(1 / 6), 6)
    row = arm_contrast(outcomes(judged_rows), "universal_asr", "direct_asr", draws=10).iloc[0]
    assert (row["metric"], row["n"], row["changed"]) == ("universal_asr", 5, 1) and row["value"] == pytest.approx(0.2)


def test_dprime_of_matched_pairs_is_that_of_the_corrected_rates():
    harmful, safe = np.repeat([1, 0], [7, 3]), np.repeat([1, 0], [2, 8])
    found, z = refusal_dprime(harmful, safe, draws=400), NormalDist().inv_cdf
    assert found.value == pytest.approx(z(7.5 / 11) - z(2.5 / 11))
    assert found.lo < found.value < found.hi and found.n == 10
    assert refusal_dprime(np.ones(10), np.zeros(10)).value == pytest.approx(2 * z(10.5 / 11))
    assert refusal_dprime(safe, safe).lo == refusal_dprime(safe, safe).hi == 0.0
    assert np.isnan(refusal_dprime(np.zeros(0), np.zeros(0)).value)


def test_pairs_are_those_that_both_were_asked(frame):
    lookalikes = frame[frame["suite"] == "lookalike"].assign(pair=None)
    twins = lookalikes.assign(
        suite="counterpart", pair=lookalikes["prompt_id"], prompt_id="c-" + lookalikes["prompt_id"], any_refusal=True
    )
    shuffled = pd.concat([twins.sample(frac=1, random_state=1), lookalikes[lookalikes["prompt_id"] > "lookalike-09"]])
    table, z = metrics(shuffled, draws=50), NormalDist().inv_cdf
    assert value(table, "refusal_dprime")["n"] == 20
    refused = lookalikes.loc[lookalikes["prompt_id"] > "lookalike-09", "any_refusal"].sum()
    assert value(table, "refusal_dprime")["value"] == pytest.approx(z(20.5 / 21) - z((refused + 0.5) / 21))
    assert value(table, "counterpart_refusal")["n"] == 30
    assert not metrics(lookalikes, draws=50)["metric"].str.startswith("refusal_dprime").any()


def answered_pairs(harmful: str, safe: str) -> pd.DataFrame:
    """A row a pair, of which 1 is refused."""
    refused = {name: [float(x) for x in text] for name, text in (("harmful", harmful), ("safe", safe))}
    return pd.DataFrame({"pair": [f"p{i}" for i in range(len(harmful))]} | refused)


def test_dprime_of_two_checkpoints_is_compared_pair_by_pair():
    z = NormalDist().inv_cdf

    def told(harmful: int, safe: int) -> float:
        return z((harmful + 0.5) / 9) - z((safe + 0.5) / 9)

    first, second = answered_pairs("11111110", "00000011"), answered_pairs("11110000", "00001111")
    (row,) = pair_contrast(first, second.sample(frac=1, random_state=1), seed=2, draws=400).to_dict("records")
    assert row["value"] == pytest.approx(told(7, 2) - told(4, 4))
    assert (row["n"], row["changed"], row["metric"], row["test"]) == (8, 3, "refusal_dprime", "sign_flip")
    assert row["lo"] < row["value"] < row["hi"] and row["p_smallest"] == least_mcnemar_p(3)
    # Exchanging the three changed pairs: of harmful prompts 4, 5 and 6 were refused at first, of safe ones 4 and 5 later.
    sums = []
    for flips in product((0, 1), repeat=3):
        harmful, safe = 7 - sum(flips), 2 + flips[0] + flips[1]
        sums.append(told(harmful, safe) - told(11 - harmful, 6 - safe))
    wanted = np.mean([abs(x) >= abs(row["value"]) - 1e-9 for x in sums])
    assert row["p"] == pytest.approx(wanted, abs=0.02)


def test_the_same_answers_have_the_same_dprime_and_strangers_none():
    frame = answered_pairs("1101", "0100")
    (row,) = pair_contrast(frame, frame, draws=50).to_dict("records")
    assert (row["value"], row["lo"], row["hi"], row["p"], row["changed"]) == (0, 0, 0, 1, 0)
    assert pair_contrast(frame, frame.assign(pair="q" + frame["pair"])).empty
    assert pair_contrast(frame, pd.DataFrame()).empty
