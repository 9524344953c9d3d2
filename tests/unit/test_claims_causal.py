"""Verdicts of the causal claims on tables whose answers are known: every verdict, p and what stands in its way, too
little data."""

import math

import pandas as pd
import pytest
from scipy import stats

from safety_geometry.claims.catalogue import claims_for, claims_of
from safety_geometry.claims.causal import CELLS, permutation
from safety_geometry.claims.decide import decided
from safety_geometry.claims.evidence import Evidence
from safety_geometry.claims.rules import NOT_APPLICABLE
from safety_geometry.judges.behaviour import paired_rates
from safety_geometry.stats.pooling import stouffer

SEEDS = (1, 2, 3)
CLAIMS = {claim.id: claim for claim in claims_for(("r2d2", "sft"))}
SIZES = {"holds": 3.0, "no effect": 0.0, "fails": -3.0, "inconclusive": 0.9}  # in margins
SWEPT = [name for name in CLAIMS if name.startswith("sweep_") and name.endswith("_r2d2")]


def verdict(claim, seeds=3, **tables):
    return decided(CLAIMS[claim], Evidence({name: pd.DataFrame(rows) for name, rows in tables.items()}), seeds)


def cell(name, value, half=0.1, *, p=0.004, seed=1, metric="log_odds", control="pooled", regime="r2d2", **more):
    mode, family, strength, _ = CELLS[name]
    return {
        "seed": seed, "regime": regime, "step": 40, "anchor": "40", "target": f"{family}:{mode}:{strength:g}", "family": family,
        "mode": mode, "lambda": strength, "scope": "layer", "rank": 1, "metric": metric, "control": control,
        "delta_control": value, "lo": value - half, "hi": value + half, "n_prompts": 40, "n_controls": 399, "primary": True,
        "p_permutation": p if metric == "log_odds" else None, "p_smallest": 1 / 400 if metric == "log_odds" else None,
    } | more  # fmt: skip


def others(seed):
    """The regime's other cells, which Holm counts."""
    return [cell(name, 0.0, p=0.8, seed=seed) for name in CELLS]


@pytest.mark.parametrize("claim", SWEPT)
def test_every_verdict_of_an_edit(claim):
    name = claim.removeprefix("sweep_").removeprefix("asr_").removesuffix("_r2d2")
    asr = claim.startswith("sweep_asr_")
    margin, metric = (0.1, "asr") if asr else (0.4, "log_odds")
    sign = -CELLS[name][3] if asr else CELLS[name][3]
    for expected, size in SIZES.items():
        half = margin * (2.0 if expected == "inconclusive" else 0.3)
        mine = [cell(name, sign * size * margin, half, seed=seed, metric=metric) for seed in SEEDS]
        rest = [row for seed in SEEDS for row in others(seed) if row["target"] != mine[0]["target"] or metric == "asr"]
        outcome = verdict(claim, control_normalised=[*mine, *rest])
        assert outcome.verdict == expected, outcome.reason
        assert outcome.estimate == pytest.approx(size * margin)


def test_p_is_joined_over_seeds_and_holm_counts_the_regimes_cells():
    rows = [cell("r_added", 1.2, p=p, seed=seed) for seed, p in zip(SEEDS, (0.01, 0.02, 0.3), strict=True)]
    rows += [cell("r_removed", 0.1, p=0.6, seed=seed) for seed in SEEDS]
    rows += [cell("h_added", 0.1, p=0.001, seed=seed, regime="sft") for seed in SEEDS]
    p, smallest = permutation(Evidence({"control_normalised": pd.DataFrame(rows)}), "r2d2", "r_added")
    assert p == pytest.approx(2 * stouffer([1, 1, 1], [0.01, 0.02, 0.3]))
    assert smallest == pytest.approx(2 * stouffer([1, 1, 1], [1 / 400] * 3))


def test_the_p_of_the_means_over_seeds_comes_first():
    rows = [cell("r_added", 1.2, p=0.3, seed=seed) for seed in SEEDS]
    over = [{"regime": "r2d2", "metric": "log_odds", "target": target, "p_permutation": p, "p_smallest": 1 / 400}
            for target, p in ((rows[0]["target"], 0.01), ("another", 0.5))]  # fmt: skip
    outcome = verdict("sweep_r_added_r2d2", control_normalised=rows, sweep_pooled=over)
    assert outcome.p == pytest.approx(0.02) and outcome.p_smallest == pytest.approx(2 / 400)
    assert outcome.verdict == "holds" and len(outcome.by_seed.split(";")) == 3


def test_an_edit_like_any_other_direction_does_not_hold():
    """The interval is that of the average control; single controls lie as far out."""
    outcome = verdict("sweep_r_added_r2d2", control_normalised=[cell("r_added", 1.2, p=0.4, seed=s) for s in SEEDS])
    assert outcome.verdict == "inconclusive" and outcome.lo > 0.9 and "but p is" in outcome.reason


def test_an_edit_of_r_lies_beyond_the_best_of_shuffled_directions():
    rows = [cell("r_added", 1.2, seed=s) for s in SEEDS]
    near = [cell("r_added", 0.02, seed=s, control="selected") for s in SEEDS]
    far = [cell("r_added", 0.5, seed=s, control="selected") for s in SEEDS]
    assert verdict("sweep_r_added_r2d2", control_normalised=[*rows, *far]).verdict == "holds"
    found = verdict("sweep_r_added_r2d2", control_normalised=[*rows, *near])
    assert found.verdict == "inconclusive" and "does not lie beyond the best of as many shuffled" in found.reason
    h = [cell("h_added", 1.2, seed=s) for s in SEEDS] + [
        cell("h_added", 0.02, seed=s, control="selected") for s in SEEDS
    ]
    assert verdict("sweep_h_added_r2d2", control_normalised=h).verdict == "holds"  # H was not chosen by what it does


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "no table control_normalised"),
        ([cell("r_added", 1.0, regime="sft")], "the sweep has no checkpoint of r2d2"),
        ([cell("h_added", 1.0)], "no log_odds of steer r_only, lambda 1"),
        ([cell("r_added", 1.0, p=None)], "no permutation p that could be below .05"),
        ([cell("r_added", 1.0, p=0.2, p_smallest=0.2)], "no permutation p that could be below .05"),
        ([cell("r_added", 1.0, scope="all_layers")], "no log_odds of steer r_only, lambda 1"),
    ],
)
def test_what_an_edit_needs(rows, words):
    found = verdict("sweep_r_added_r2d2", control_normalised=rows)
    assert found.verdict == NOT_APPLICABLE and words in found.reason


def test_attack_success_needs_controls_that_answered():
    found = verdict("sweep_asr_r_removed_r2d2", control_normalised=[cell("r_removed", 0.3, metric="asr", n_controls=3)])
    assert found.verdict == NOT_APPLICABLE and "3 pooled controls" in found.reason


def test_sweep_claims_stand_for_every_swept_regime():
    frame = pd.DataFrame([cell("r_added", 1.0, regime="qwen")])
    ids = {claim.id for claim in claims_of({"control_normalised": frame})}
    assert "sweep_r_added_qwen" in ids and "sweep_r_added_r2d2" not in ids


# ---------------------------------------------------------------------------------------------------- late ablation


def swept(delta, half, seed=1, baseline=0.4):
    here = {"seed": seed, "regime": "r2d2", "step": 40, "anchor": "40", "scope": "layer", "rank": 1, "n_asr": 60}
    edit = {"control": "target", "family": "ablate", "mode": "r_only", "lambda": 1.0, "asr": baseline + delta,
            "asr_delta": delta, "asr_delta_lo": delta - half, "asr_delta_hi": delta + half}  # fmt: skip
    return [here | edit, here | {"control": "baseline", "asr": baseline}]


def test_every_verdict_of_late_ablation():
    for expected, size in SIZES.items():
        half = 0.2 if expected == "inconclusive" else 0.03
        rows = [row for seed in SEEDS for row in swept(-0.1 * size, half, seed)]
        assert verdict("late_r2d2_ablation_lowers_asr", causal_sweep=rows).verdict == expected
    floor = verdict("late_r2d2_ablation_lowers_asr", causal_sweep=swept(0.0, 0.05, baseline=0.0))
    assert floor.verdict == "inconclusive" and "at the floor" in floor.reason
    assert verdict("late_r2d2_ablation_lowers_asr", causal_sweep=[]).verdict == NOT_APPLICABLE


# --------------------------------------------------------------------------------------------------- aligned models


def nested(rate, n):
    return pd.Series([float(i < round(rate * n)) for i in range(n)]).to_numpy()


def aligned(h_only, r_only, model="llama", n=400, seed=1, **more):
    """Nested outcomes: whatever a weaker arm answers, a stronger one answers as well."""
    row = {"model": model, "seed": seed, "family": "ablate", "lambda": 1.0, "scope": "layer", "rank": 1, "n": n}
    for name in ("r_minus_h", "r_perp_minus_h"):
        a, b = nested(r_only, n), nested(h_only, n)
        lo, hi = paired_rates(a, b)
        row |= {name: (a - b).mean(), f"{name}_lo": lo, f"{name}_hi": hi}
    return row | more


@pytest.mark.parametrize("claim", ["aligned_r_reopens", "aligned_r_perp_reopens"])
def test_aligned_models(claim):
    paper = [aligned(0.14, 0.6825), aligned(0.2925, 0.405, "qwen")]
    found = verdict(claim, aligned_anchors=paper)
    assert found.verdict == "holds" and found.estimate == pytest.approx((0.5425 + 0.1125) / 2) and found.n == 400
    assert "mean of llama, qwen" in found.reason
    assert verdict(claim, aligned_anchors=[aligned(0.3, 0.3)]).verdict == "no effect"
    assert verdict(claim, aligned_anchors=[aligned(0.6, 0.3)]).verdict == "fails"
    few = verdict(claim, aligned_anchors=[aligned(0.1, 0.3, n=10)])
    assert few.verdict == "inconclusive" and few.n_decides > 10
    assert verdict(claim, aligned_anchors=[aligned(0.1, 0.3, family="steer")]).reason == "no aligned model was ablated"


def test_of_several_strengths_the_full_ablation_counts():
    rows = [aligned(0.14, 0.68), aligned(0.2, 0.2, **{"lambda": 0.25}), aligned(0.2, 0.2, rank=3),
            aligned(0.2, 0.2, scope="all_layers")]  # fmt: skip
    for order in (rows, rows[::-1]):
        assert verdict("aligned_r_reopens", aligned_anchors=order).estimate == pytest.approx(0.54)


def without_r(before, after, nearest, n=200, seed=1, **more):
    """Row of control_normalised: direct refusals without R, beside ten random directions, of which the nearest leaves
    this many more than R's."""
    a, b, c = (nested(rate, n) for rate in (before, after, after + nearest))
    half, worst = paired_rates(a, b, factor=0.5), paired_rates(b, c)
    return {
        "seed": seed, "regime": "qwen", "step": 0, "anchor": "reference", "target": "ablate:r_only:1", "family": "ablate",
        "mode": "r_only", "lambda": 1.0, "scope": "layer", "rank": 1, "metric": "direct_refusal", "control": "random",
        "value": b.mean(), "baseline": a.mean(), "halved": a.mean() / 2 - b.mean(), "halved_lo": half[0], "halved_hi": half[1],
        "worst_delta": (b - c).mean(), "worst_lo": worst[0], "worst_hi": worst[1], "n_prompts": n, "n_controls": 10,
    } | more  # fmt: skip


@pytest.mark.parametrize("model", ["qwen", "qwen:reference"])
@pytest.mark.parametrize(
    ("after", "nearest", "expected", "words"),
    [
        (0.1, 0.2, "holds", "beside 10 random directions"),
        (0.4, 0.1, "fails", "half of the refusals"),
        (0.24, 0.2, "inconclusive", "too wide to tell"),
        (0.1, 0.01, "inconclusive", "but the nearest of 10 random directions leaves as few refusals"),
        (0.1, -0.08, "inconclusive", "but the nearest of 10 random directions leaves as few refusals"),
    ],
)
def test_half_of_the_refusals_and_more_than_each_random_direction(model, after, nearest, expected, words):
    rows = [without_r(0.5, after, nearest)]
    others = [rows[0] | change for change in ({"control": "pooled"}, {"scope": "all_layers"}, {"mode": "h_only"},
                                              {"metric": "asr"}, {"regime": "another"})]  # fmt: skip
    for other in others:
        other.update(halved=9.0, halved_lo=9.0, halved_hi=9.0)
    found = verdict("aligned_r_refuses", aligned_anchors=[aligned(0.1, 0.3, model)], control_normalised=rows + others)
    assert found.verdict == expected and words in found.reason
    assert found.estimate == pytest.approx(0.25 - after) and found.n == 200
    half = 0.5 / 200
    assert (found.lo, found.hi) == pytest.approx((rows[0]["halved_lo"] - half, rows[0]["halved_hi"] + half))


def test_what_half_of_the_refusals_needs():
    def reason(**tables):
        found = verdict("aligned_r_refuses", **tables)
        assert found.verdict == NOT_APPLICABLE
        return found.reason

    models = [aligned(0.1, 0.3, "qwen")]
    few = [without_r(0.5, 0.1, 0.2, n_controls=2)]
    assert "2 random directions answered beside R, of which the claim asks 10" in reason(
        aligned_anchors=models, control_normalised=few
    )
    assert "no aligned model answered" in reason(
        aligned_anchors=[aligned(0.1, 0.3, "llama")], control_normalised=[without_r(0.5, 0.1, 0.2)]
    )
    older = [cell("r_removed", 0.1)]
    assert "no column halved, worst_delta" in reason(aligned_anchors=models, control_normalised=older)


def refusals(h_only, r_only, n=200):
    a, b = nested(h_only, n), nested(r_only, n)
    lo, hi = paired_rates(a, b)
    more = {"refusal_h_minus_r": (a - b).mean(), "refusal_h_minus_r_lo": lo, "refusal_h_minus_r_hi": hi}
    return [aligned(0.1, 0.3, "qwen", n=n, **more)]


def test_r_moves_refusal_more_than_h():
    claim = "aligned_r_moves_refusal_more"
    for pair, expected in (((0.5, 0.1), "holds"), ((0.3, 0.3), "no effect"), ((0.1, 0.5), "fails")):
        found = verdict(claim, aligned_anchors=refusals(*pair))
        assert found.verdict == expected and found.estimate == pytest.approx(pair[0] - pair[1])
    assert verdict(claim, aligned_anchors=refusals(0.3, 0.15, 20)).verdict == "inconclusive"
    older = verdict(claim, aligned_anchors=[aligned(0.1, 0.3)])
    assert older.verdict == NOT_APPLICABLE and "no column refusal_h_minus_r" in older.reason


# -------------------------------------------------------------------------------------------------- reply inversion


def inverted(removed, added, half=0.1, chance=False, regime="aligned", seed=1):
    """Rows of reply_inversion: H's shift less R's of harmful prompts where they are removed and of benign ones where
    they are added; the other cells do not count."""
    here = {"seed": seed, "regime": regime, "step": 0, "anchor": "reference", "n_harmful": 40, "n_benign": 40}
    rows = [
        here
        | {"carrier": "none", "at_chance": chance, "auroc": 0.55, "auroc_lo": 0.4, "auroc_hi": 0.7, "accuracy": 0.5}
    ]
    for carrier in () if chance else ("H", "R"):
        for family, strength in (("ablate", 1.0), ("steer", 1.0), ("steer", -1.0)):
            counts = (family, strength) != ("steer", -1.0) and carrier == "H"
            row = here | {"carrier": carrier, "family": family, "lambda": strength, "at_chance": False}
            for label, value in (("harmful", removed), ("benign", added)):
                mine = counts and (label == "harmful") == (family == "ablate")
                value = value if mine else 50.0
                if carrier == "H":
                    row |= {
                        f"over_r_{label}": value,
                        f"over_r_{label}_lo": value - half,
                        f"over_r_{label}_hi": value + half,
                    }
            rows.append(row)
    return rows


def test_every_verdict_of_reply_inversion():
    claim = "inversion_h_moves_judgement"
    for expected, size in SIZES.items():
        half = 0.4 * (2.0 if expected == "inconclusive" else 0.3)
        # Removal lowers the score of harmful requests, addition raises that of benign ones: one and a half each way.
        found = verdict(claim, 1, reply_inversion=inverted(-0.4 * size * 1.5, 0.4 * size * 0.5, half))
        assert found.verdict == expected, found.reason
        assert found.estimate == pytest.approx(0.4 * size) and found.n == 40
    wide = math.sqrt(40 / 39) * stats.t.ppf(0.975, 39) / stats.norm.ppf(0.975) * 0.1
    found = verdict(claim, 1, reply_inversion=inverted(-1.0, 1.0))
    assert found.hi - found.estimate == pytest.approx(wide / math.sqrt(2))  # the mean of two classes of prompts


def test_a_model_at_chance_does_not_count():
    claim = "inversion_h_moves_judgement"
    found = verdict(claim, 1, reply_inversion=inverted(0, 0, chance=True))
    assert found.verdict == NOT_APPLICABLE
    assert (
        "aligned:0 is at chance on the question without edits (AUROC 0.55 [0.40, 0.70], accuracy 0.50)" in found.reason
    )
    both = inverted(0, 0, chance=True, regime="another") + inverted(-2.0, 2.0)
    assert verdict(claim, 1, reply_inversion=both).verdict == "holds"
    plain = pd.DataFrame(inverted(-1.0, 1.0)).assign(over_r_harmful=math.nan)
    assert "there is no refusal carrier" in verdict(claim, 1, reply_inversion=plain).reason
    assert verdict(claim, 1, reply_inversion=[]).verdict == NOT_APPLICABLE


@pytest.mark.parametrize(
    ("bounds", "expected"), [((0.02, 0.12), "holds"), ((0.3, 0.5), "fails"), ((0.1, 0.3), "inconclusive")]
)
def test_orthogonality(bounds, expected):
    coupling = [{"seed": 1, "regime": "sft_refusal", "step": step, "anchor": str(step), "c_cos": sum(ends) / 2,
                 "c_cos_lo": ends[0], "c_cos_hi": ends[1], "n_harmful": 48} for step, ends in ((20, (0.9, 0.95)), (30, bounds))]  # fmt: skip
    rows = [aligned(0.14, 0.68, "sft_refusal:30"), aligned(0.3, 0.4, "qwen")]
    found = verdict("aligned_orthogonal", aligned_anchors=rows, coupling=coupling)
    most = math.cos(math.radians(75))
    assert found.verdict == expected and (found.lo, found.hi) == pytest.approx((most - bounds[1], most - bounds[0]))
    alone = verdict("aligned_orthogonal", aligned_anchors=rows[1:], coupling=coupling)
    assert (alone.verdict, alone.reason) == (NOT_APPLICABLE, "no aligned model has an interval of its coupling")
