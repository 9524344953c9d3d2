"""Verdicts of the causal claims on tables whose answers are known: the papers' numbers, their opposite, too little data."""

import math

import pandas as pd
import pytest

from safety_geometry.claims.decide import CLAIMS, claims_of, decided, sweep_claims
from safety_geometry.claims.evidence import Evidence
from safety_geometry.judges.behaviour import paired_rates
from safety_geometry.stats.estimates import mcnemar_exact

IDS = ("aligned_r_reopens", "aligned_orthogonal", "sweep_refusal_r2d2", "sweep_asr_r2d2", "sweep_refusal_sft_refusal", "late_r2d2_ablation_lowers_asr", "follow_up_broken_text")  # fmt: skip


def verdict(claim, **tables):
    known = [*CLAIMS, *(c for regime in ("r2d2", "sft", "sft_refusal") for c in sweep_claims(regime))]
    return decided(next(c for c in known if c.id == claim), Evidence(tables))


def outcomes(rate, n):
    return pd.Series([float(i < round(rate * n)) for i in range(n)]).to_numpy()


def aligned(baseline, h_only, r_only, r_perp_h, model="llama", n=400, **more):
    """One row, nested outcomes: whatever a weaker arm answers, a stronger one answers as well."""
    row = {
        "model": model,
        "seed": 1,
        "layer_h": 31,
        "layer_r": 12,
        "c_cos": 0.05,
        "angle_1": 86.1,
        "family": "ablate",
        "lambda": 1.0,
        "scope": "layer",
        "rank": 1,
        "n": n,
    }
    arms = {"baseline": baseline, "h_only": h_only, "r_only": r_only, "r_perp_h": r_perp_h}
    row |= {f"asr_{arm}": round(rate * n) / n for arm, rate in arms.items()}
    for name, arm in (("r_minus_h", r_only), ("r_perp_minus_h", r_perp_h)):
        a, b = outcomes(arm, n), outcomes(h_only, n)
        lo, hi = paired_rates(a, b)
        row |= {name: (a - b).mean(), f"{name}_lo": lo, f"{name}_hi": hi, f"{name}_p": mcnemar_exact(a, b)}
    return row | more


LLAMA, QWEN = (0.1675, 0.14, 0.6825, 0.6575), (0.2625, 0.2925, 0.405, 0.425)


def test_a_study_without_the_tables_decides_none_of_them():
    for claim in IDS:
        found = verdict(claim)
        assert found.verdict == "inconclusive" and found.reason.startswith("the study has no table"), claim


def test_the_papers_aligned_models_hold():
    found = verdict("aligned_r_reopens", aligned_anchors=pd.DataFrame([aligned(*LLAMA), aligned(*QWEN, model="qwen")]))
    assert found.verdict == "holds" and "4 of 4" in found.reason and "r_only in qwen" in found.reason
    assert (found.value, found.n) == (pytest.approx(0.1125), 400)
    assert found.p == pytest.approx(2 * 0.5**45)  # the largest of four p values
    assert found.p_smallest < 1e-50


def test_aligned_models_that_do_not_reopen():
    flat = verdict(
        "aligned_r_reopens", aligned_anchors=pd.DataFrame([aligned(*LLAMA), aligned(0.2, 0.2, 0.2, 0.2, "qwen")])
    )
    assert flat.verdict == "fails" and "2 of 4" in flat.reason
    h_closes = verdict("aligned_r_reopens", aligned_anchors=pd.DataFrame([aligned(0.5, 0.1, 0.4, 0.4)]))
    assert h_closes.verdict == "inconclusive" and "not all are above the model without intervention" in h_closes.reason
    few = verdict("aligned_r_reopens", aligned_anchors=pd.DataFrame([aligned(0.1, 0.1, 0.4, 0.4, n=10)]))
    assert few.verdict == "inconclusive" and few.p > 0.05 and few.lo < 0.1 < few.hi


def test_a_model_that_answers_everything_has_nothing_to_reopen():
    open_ = aligned(0.8, 0.8, 1.0, 1.0, "open", n=20)
    found = verdict("aligned_r_reopens", aligned_anchors=pd.DataFrame([open_]))
    assert found.verdict == "inconclusive" and "leaves 4 of 20 requests to reopen (least p 0.12)" in found.reason
    both = verdict("aligned_r_reopens", aligned_anchors=pd.DataFrame([aligned(*LLAMA), open_]))
    assert both.verdict == "inconclusive" and "2 of 2" in both.reason and "open:" in both.reason
    steer = verdict("aligned_r_reopens", aligned_anchors=pd.DataFrame([aligned(*LLAMA, family="steer")]))
    assert steer.reason == "no aligned model was ablated"


def test_of_several_strengths_the_full_ablation_counts():
    flat = [0.1675] * 4
    rows = [
        aligned(*LLAMA),
        aligned(*flat, **{"lambda": 0.25}),
        aligned(*flat, rank=3),
        aligned(*flat, scope="all_layers"),
    ]
    assert verdict("aligned_r_reopens", aligned_anchors=pd.DataFrame(rows)).verdict == "holds"
    assert verdict("aligned_r_reopens", aligned_anchors=pd.DataFrame(rows[::-1])).verdict == "holds"


@pytest.mark.parametrize(
    ("bounds", "angle", "expected"),
    [((0.02, 0.12), 84.0, "holds"), ((0.3, 0.5), 60.0, "fails"), ((0.1, 0.3), 84.0, "inconclusive"), ((0.02, 0.12), 60.0, "inconclusive")],
)  # fmt: skip
def test_orthogonality_needs_directions_and_subspaces(bounds, angle, expected):
    anchors = pd.DataFrame([aligned(*LLAMA, model="sft_refusal:30", angle_1=angle), aligned(*QWEN, model="qwen")])
    coupling = pd.DataFrame([{"regime": "sft_refusal", "step": s, "anchor": str(s), "c_cos_lo": lo, "c_cos_hi": hi}
                             for s, (lo, hi) in ((20, (0.9, 0.95)), (30, bounds))])  # fmt: skip
    found = verdict("aligned_orthogonal", aligned_anchors=anchors, coupling=coupling)
    assert (found.verdict, found.lo, found.hi) == (expected, *bounds)
    assert found.threshold == pytest.approx(math.cos(math.radians(75)))
    assert "qwen (H at layer 31, R at 12): C_cos 0.050" in found.reason and "no interval" in found.reason


def test_subspaces_of_one_layer_decide_nothing():
    anchors = pd.DataFrame([aligned(*LLAMA, model="sft_refusal:30", layer_h=12, angle_1=0.0)])
    coupling = pd.DataFrame([{"regime": "sft_refusal", "step": 30, "anchor": "30", "c_cos_lo": 0.02, "c_cos_hi": 0.1}])
    found = verdict("aligned_orthogonal", aligned_anchors=anchors, coupling=coupling)
    assert found.verdict == "inconclusive" and "one subspace by construction" in found.reason


def test_orthogonality_without_any_interval_is_inconclusive():
    found = verdict("aligned_orthogonal", aligned_anchors=pd.DataFrame([aligned(*LLAMA)]))
    assert found.verdict == "inconclusive" and "86.1 degrees, no interval" in found.reason


def cell(
    delta,
    half,
    p_holm=None,
    metric="log_odds",
    mode="r_only",
    regime="r2d2",
    control="pooled",
    n=30,
    controls=208,
    **more,
):
    return {
        "seed": 1, "regime": regime, "step": 30, "anchor": "30", "target": f"ablate:{mode}", "family": "ablate", "mode": mode, "lambda": 1.0,
        "metric": metric, "control": control, "value": 0.3 + delta, "baseline": 0.3, "delta_control": delta, "lo": delta - half,
        "hi": delta + half, "n_prompts": n, "n_controls": controls, "primary": True, "p_holm": p_holm,
        "p_smallest": None if p_holm is None else 1 / (1 + controls),
    } | more  # fmt: skip


def sweep(claim, *rows):
    return verdict(claim, control_normalised=pd.DataFrame(rows))


def test_a_primary_cell_beyond_its_controls_holds():
    rows = [
        cell(-2.0, 0.5, 0.01),
        cell(-0.1, 0.5, 0.8, mode="h_only"),
        cell(5.0, 0.5, 0.01, regime="sft"),
        cell(-0.3, 0.6, control="norm_matched"),
    ]
    found = sweep("sweep_refusal_r2d2", *rows)
    assert (found.verdict, found.value, found.p, found.n) == ("holds", -2.0, 0.01, 30)
    assert found.p_smallest == pytest.approx(3 / 209)  # Holm over the seed's three primary cells
    assert found.reason.startswith(
        "1 of 2 primary cells; largest: ablate r_only (lambda 1) of r2d2 at 30 against 208 controls"
    )
    assert found.reason.endswith("against norm-matched ones -0.3 [-0.9, 0.3]")


def test_a_sweep_holds_by_p_and_interval_together():
    assert (
        sweep("sweep_refusal_r2d2", cell(-2.0, 0.5, 0.2)).verdict == "inconclusive"
    )  # one control is as far from the others
    assert sweep("sweep_refusal_r2d2", cell(-2.0, 2.5, 0.01)).verdict == "inconclusive"
    small = cell(0.1, 0.2, 0.6), cell(-0.1, 0.2, 0.6, mode="h_only")
    assert sweep("sweep_refusal_r2d2", *small).verdict == "fails"
    assert sweep("sweep_refusal_r2d2", *small, cell(0.3, 0.2, 0.6, mode="r_perp_h")).verdict == "inconclusive"


def test_a_sweep_too_small_to_decide_says_so():
    few = sweep("sweep_refusal_r2d2", cell(-2.0, 0.5, 0.2, controls=12))
    assert few.verdict == "inconclusive" and few.reason.startswith(
        "12 control directions cannot give a p below 0.05 over 1 primary"
    )
    absent = sweep("sweep_refusal_sft", cell(-2.0, 0.5, 0.01))
    assert absent.reason == "the sweep has no primary cell of sft with a permutation p"
    assert "3 prompts are too few" in sweep("sweep_refusal_r2d2", cell(-2.0, 0.5, 0.01, n=3)).reason


def test_attack_success_needs_the_readout_the_shared_level_and_enough_changes():
    tested = cell(-2.0, 0.5, 0.01), cell(-1.5, 0.5, 0.02, mode="h_only")
    strong, weak = (cell(d, 0.2, metric="asr", mode=m, controls=8) for d, m in ((0.5, "r_only"), (0.05, "h_only")))
    found = sweep("sweep_asr_r2d2", *tested, strong, weak)
    assert (found.verdict, found.value, found.p) == ("holds", 0.5, 0.01)
    assert found.hi - found.value == pytest.approx(0.2 * 2.2414 / 1.96, rel=1e-3)  # two cells share the level
    assert "attack success 0.80, without 0.30" in found.reason
    unproven = cell(-2.0, 0.5, 0.3), cell(-1.5, 0.5, 0.3, mode="h_only")
    assert sweep("sweep_asr_r2d2", *unproven, strong, weak).verdict == "inconclusive"
    edge = cell(0.21, 0.2, metric="asr")  # above 0 alone, not at the level of two cells
    assert sweep("sweep_asr_r2d2", *tested, edge, weak).verdict == "inconclusive"
    assert sweep("sweep_asr_r2d2", tested[0], edge).verdict == "holds"
    assert (
        sweep("sweep_asr_r2d2", tested[0], edge | {"n_prompts": 20}).verdict == "inconclusive"
    )  # four requests changed


def test_unchanged_attack_success_fails_only_with_enough_prompts():
    def still(n):
        return sweep("sweep_asr_r2d2", cell(-2.0, 0.5, 0.01), cell(0.0, 0.0, metric="asr", n=n))

    assert (still(20).verdict, still(100).verdict) == ("inconclusive", "fails")
    assert "too few" in still(5).reason
    assert "no primary cell of r2d2 has generated answers" in sweep("sweep_asr_r2d2", cell(-2.0, 0.5, 0.01)).reason


def test_attack_success_against_few_controls_decides_nothing():
    """An interval from resampled controls is too narrow where there are two or three of them."""
    tested, strong = cell(-2.0, 0.5, 0.01), {"metric": "asr", "n": 100}
    for controls, expected in ((1, "inconclusive"), (4, "inconclusive"), (5, "holds")):
        found = sweep("sweep_asr_r2d2", tested, cell(0.5, 0.1, controls=controls, **strong))
        assert found.verdict == expected
        assert (f"{controls} pooled controls that answered are too few" in found.reason) == (expected == "inconclusive")
    still = sweep("sweep_asr_r2d2", tested, cell(0.0, 0.0, controls=3, **strong))
    assert still.verdict == "inconclusive" and "3 pooled controls" in still.reason  # nor can it fail


def test_every_regime_with_primary_cells_has_claims_and_no_other():
    rows = [
        cell(-2.0, 0.5, 0.01, regime="sft_refusal"),
        cell(0.1, 0.2, 0.6),
        cell(9.0, 0.1, regime="sft", primary=False),
    ]
    tables = {"control_normalised": pd.DataFrame(rows)}
    found = {c.id: decided(c, Evidence(tables)) for c in claims_of(tables) if c.id.startswith("sweep_")}
    assert {name: outcome.verdict for name, outcome in found.items()} == {
        "sweep_refusal_sft_refusal": "holds", "sweep_asr_sft_refusal": "inconclusive",
        "sweep_refusal_r2d2": "fails", "sweep_asr_r2d2": "inconclusive",
    }  # fmt: skip
    assert claims_of({}) == list(CLAIMS)  # nothing was swept


def late(before, after, n=320, **more):
    a, b = outcomes(after, n), outcomes(before, n)
    lo, hi = paired_rates(a, b)
    common = {
        "regime": "r2d2",
        "step": 500,
        "n_asr": n,
        "degenerate": 0.02,
        "scope": None,
        "family": None,
        "mode": None,
    }
    base = common | {"control": "baseline", "asr": b.mean(), "asr_delta": 0.0, "asr_delta_lo": 0.0, "asr_delta_hi": 0.0}
    row = common | {"control": "target", "family": "ablate", "mode": "r_only", "scope": "layer", "rank": 1, "lambda": 1.0, "asr": a.mean(),
                    "asr_delta": (a - b).mean(), "asr_delta_lo": lo, "asr_delta_hi": hi, "degenerate": 0.05}  # fmt: skip
    return [base, row | more]


def test_late_ablation_lowers_attack_success_as_in_the_paper():
    early = [row | {"step": 50} for row in late(0.0, 0.9)]
    found = verdict("late_r2d2_ablation_lowers_asr", causal_sweep=pd.DataFrame(early + late(0.25, 0.0031)))
    assert found.verdict == "holds" and found.value == pytest.approx(-79 / 320) and found.hi < 0
    assert found.reason.startswith("attack success at r2d2's step 500 from 0.25 to 0.00 under ablation 1 of R")
    assert "broken answers from 0.02 to 0.05" in found.reason
    full = pd.DataFrame([*late(0.25, 0.0031), late(0.25, 0.9, rank=3)[1], late(0.25, 0.9, **{"lambda": 0.25})[1]])
    assert (
        verdict("late_r2d2_ablation_lowers_asr", causal_sweep=full).verdict == "holds"
    )  # one direction, the full strength


@pytest.mark.parametrize(
    ("before", "after", "n", "expected", "words"),
    [(0.25, 0.9, 320, "fails", "from 0.25 to 0.90"), (0.25, 0.25, 320, "fails", "from 0.25"), (0.5, 0.35, 20, "inconclusive", "from 0.50"),
     (0.25, 0.0, 20, "inconclusive", "20 requests are too few at r2d2's step 500: 5 of them succeed, and if none were left, p would be 0.062; at this rate 24 would do"),
     (0.4167, 0.0, 12, "inconclusive", "12 requests are too few at r2d2's step 500: 5 of them"),
     (0.0, 0.0, 320, "inconclusive", "at the floor: 0 of 320")],
)  # fmt: skip
def test_late_ablation_otherwise(before, after, n, expected, words):
    found = verdict("late_r2d2_ablation_lowers_asr", causal_sweep=pd.DataFrame(late(before, after, n)))
    assert found.verdict == expected and words in found.reason


def test_late_ablation_without_answers():
    for rows in (
        late(0.5, 0.1, mode="h_only"),
        late(0.5, 0.1, asr_delta=None),
        late(0.5, 0.1)[1:],
        late(0.5, 0.1, **{"lambda": -1.0}),
    ):
        assert (
            "no generated answers with R ablated"
            in verdict("late_r2d2_ablation_lowers_asr", causal_sweep=pd.DataFrame(rows)).reason
        )
    sft = [row | {"regime": "sft"} for row in late(0.5, 0.1)]
    assert "no checkpoint of r2d2" in verdict("late_r2d2_ablation_lowers_asr", causal_sweep=pd.DataFrame(sft)).reason
