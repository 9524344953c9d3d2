"""Verdicts on studies whose answers are known: the papers' shape, its opposite, no effect, too little, and what a study
lacks."""

import numpy as np
import pandas as pd
import pytest
import synthetic_study as made

from safety_geometry.artefacts.tables.files import check_table
from safety_geometry.artefacts.tables.registry import TABLES
from safety_geometry.claims.catalogue import (
    ARMS,
    BEHAVIOUR,
    COUPLING,
    DENSE,
    GEOMETRY,
    SWEPT,
    TUNED,
    claims_for,
    claims_of,
    regime_claims,
)
from safety_geometry.claims.decide import claims_table, counts, decided, of_the_seeds
from safety_geometry.claims.evidence import Evidence
from safety_geometry.claims.margins import MARGINS
from safety_geometry.claims.rules import NOT_APPLICABLE, REACHABLE
from safety_geometry.geometry.dense import dense_correlations
from safety_geometry.stats.pooling import Estimate

BY_ID = {claim.id: claim for claim in claims_for(SWEPT)}
SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def study():
    return made.study_once()


@pytest.fixture(scope="module")
def verdicts(study):
    return claims_table(study).set_index("id")


def changed(study, name, change):
    return study | {name: change(study[name].copy())}


def verdict(tables, claim):
    seeds = tables["five_anchor"]["seed"].nunique() if "five_anchor" in tables else 1
    return decided(BY_ID[claim], Evidence(tables), seeds)


def several(study):
    """The same study under three seeds."""
    return {
        name: pd.concat([frame.assign(seed=s) for s in SEEDS], ignore_index=True) if "seed" in frame else frame
        for name, frame in study.items()
    }


# ------------------------------------------------------------------------------------------------- the papers' shape


def test_the_papers_shape(study, verdicts):
    check_table(verdicts.reset_index(), TABLES["claims"])
    holds = {
        "r2d2_resists_early", "r2d2_resists_early_direct", "r2d2_reopens", "sft_attackable",
        "r2d2_over_refuses", "r2d2_refusal_falls", "r2d2_refuses_more", "r2d2_helpfulness_rises", "r2d2_less_helpful",
        "r2d2_usefulness_rises", "refresh_refuses_less", "r2d2_coupling_drops", "sft_c_cos_flat", "sft_c_sub_flat",
        "c_cos_above_chance", "c_sub_above_chance", "carriers_distinct", "low_coupling_not_safe",
        "low_coupling_not_safe_direct", "r2d2_reopens_direct", "sft_attackable_direct", "r2d2_c_cos_falls", "r2d2_r_relocates",
        "r2d2_score_falls", "r_found_r2d2", "r_found_sft", "r_found_sft_refusal", "r2d2_resists_early_framing",
        "r2d2_resists_early_any", "r2d2_reopens_framing", "r2d2_reopens_any", "sft_attackable_framing", "sft_attackable_any",
        "low_coupling_not_safe_framing", "low_coupling_not_safe_any",
        *(f"{carrier}_beyond_length_{regime}" for carrier in "hr" for regime in SWEPT), "refresh_tells_pairs",
        "pairs_told_apart_r2d2", "pairs_told_apart_sft",
    }  # fmt: skip
    assert set(verdicts.index[verdicts["verdict"] == "holds"]) == holds
    assert verdicts.loc["r2d2_c_cos_falls_common", "verdict"] == "no effect"
    assert verdicts.loc["sft_r_relocates_first", "verdict"] == "inconclusive"  # four choices of one seed, shares of .9
    later = verdicts.index.str.startswith(
        ("aligned_", "inversion_", "sweep_", "late_", "follow_up_", "transfer_", "dense_")
    )
    assert (verdicts.loc[later, "verdict"] == NOT_APPLICABLE).all()
    assert verdicts.loc[later, "reason"].str.contains("no table").all()
    assert set(verdicts.index[verdicts["tuned"]]) == set(TUNED)
    assert (verdicts["verdict_over_seeds"] == NOT_APPLICABLE).all() and (verdicts["n_seeds"] == 1).all()
    assert len(verdicts) == len(claims_of(study))


def test_numbers_are_those_of_the_tables(study, verdicts):
    row = verdicts.loc["r2d2_refusal_falls"]
    contrast = study["contrasts"].query(
        "contrast == 'time' and metric == 'any_refusal' and regime == 'r2d2' and other_step == 5"
    )
    assert row["estimate"] == pytest.approx(-contrast["value"].item()) == pytest.approx(0.8)
    half = 0.5 / 30  # of a prompt, on either side
    assert (row["lo"], row["hi"]) == pytest.approx((-contrast["hi"].item() - half, -contrast["lo"].item() + half))
    assert (row["n"], row["margin"], row["by_seed"]) == (30, 0.1, "1: 0.8")


def test_three_seeds_give_both_verdicts(study):
    table = claims_table(several(study)).set_index("id")
    row = table.loc["r2d2_refusal_falls"]
    assert (row["verdict"], row["verdict_over_seeds"], row["by_seed"]) == ("holds", "holds", "1: 0.8; 2: 0.8; 3: 0.8")
    assert row["lo_seeds"] <= row["lo"] and table.loc["rank_constant", "verdict"] == "holds"
    assert table.loc["h_layer_constant", "verdict"] == "holds" and table.loc["sft_drifts_more", "verdict"] == "holds"


def test_decided_of_decidable(study):
    table = claims_table(study, configuration="full")
    full = counts(table)
    assert full["decidable"] == int(table["decidable"].sum()) < full["applicable"] < full["claims"] == len(table)
    assert 0 < full["decided"] <= full["decidable"] and full["decided over seeds"] == 0
    assert counts(claims_table(study, configuration="mine"))["decidable"] == full["applicable"]
    assert counts(claims_table(study, configuration="aligned"))["decidable"] == 0


# -------------------------------------------------------------------------------------- every verdict, claim by claim

SIZES = {"holds": 3.0, "no effect": 0.0, "fails": -3.0, "inconclusive": 0.9}  # in margins
LEVEL = {"holds": 0.3, "fails": -0.2, "inconclusive": 0.02}  # above the threshold
CONSTANT = {"holds": 0.0, "fails": 3.0, "inconclusive": 0.9}


def wanted(claim):
    """(verdict, size) of all verdicts of a claim's rule."""
    sizes = {"difference": SIZES, "level": LEVEL, "constant": CONSTANT}[claim.rule]
    assert set(sizes) == set(REACHABLE[claim.rule])
    return sizes.items()


def half(size, margin):
    """Half of a seed's interval; three seeds pool to 1/√3 of it."""
    return margin * (0.3 if size in (0.0, 3.0, -3.0, 0.3, -0.2) else 2.0)


def contrasts(value, width, metric):
    """r2d2 is later, and more than sft and sft_refusal by `value`, at steps 5 and 40."""

    def row(kind, first, other, sign):
        v = sign * value
        return {"contrast": kind, "metric": metric, "regime": first[0], "step": first[1], "anchor": str(first[1]),
                "other_regime": other[0], "other_step": other[1], "other_anchor": str(other[1]), "value": v, "lo": v - width,
                "hi": v + width, "n": 60, "changed": 30, "test": "mcnemar", "p": 0.5, "p_smallest": 1e-4}  # fmt: skip

    rows = [row("time", ("r2d2", 40), ("r2d2", 5), 1)]
    for step in (5, 40):
        rows += [row("regime", (other, step), ("r2d2", step), -1) for other in ("sft", "sft_refusal")]
    source = row("arm", ("sft_refusal", 40), ("sft_refusal", 40), 1) | {"value": 0.5, "lo": 0.4, "hi": 0.6}
    return pd.DataFrame([row | {"seed": seed} for seed in SEEDS for row in (*rows, source)])


def five_anchor(value, width, metric):
    rows = [
        {"seed": seed, "regime": regime, "step": step, "anchor": "reference" if step == 5 else "40", "layer_h": 20,
         metric: value, f"{metric}_lo": value - width, f"{metric}_hi": value + width, f"{metric}_n": 60}
        for seed in SEEDS for regime in ("sft", "r2d2", "sft_refusal") for step in (5, 40)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize("claim", BEHAVIOUR, ids=lambda claim: claim.id)
def test_every_verdict_of_a_behaviour_claim(study, claim):
    metric, margin = claim.quantity, MARGINS[claim.quantity].margin
    base = {name: several(study)[name] for name in ("attacks", "coupling", "coupling_controls")}
    base["coupling"] = base["coupling"].assign(anchor=base["coupling"]["anchor"].fillna("x"))
    for expected, size in wanted(claim):
        # sign of "r2d2 has more" that the claim asks for
        sign = (
            1
            if claim.id.startswith(
                ("r2d2_reopens", "r2d2_helpfulness", "r2d2_usefulness", "r2d2_refuses_more", "refresh_tells")
            )
            else -1
        )
        tables = base | {
            "contrasts": contrasts(sign * size * margin, half(size, margin), metric),
            "five_anchor": five_anchor(0.3, 0.05, metric),
        }
        if claim.rule == "level":
            threshold = 0.5 if claim.id == "r2d2_over_refuses" else 0.25
            tables["five_anchor"] = five_anchor(threshold + size, 0.1, metric)
        outcome = verdict(tables, claim.id)
        assert (outcome.verdict, outcome.verdict_over_seeds) == (expected, expected), outcome.reason


@pytest.mark.parametrize("claim", [c for c in COUPLING if c.rule != "level"], ids=lambda claim: claim.id)
def test_every_verdict_of_a_coupling_claim(claim):
    for expected, size in wanted(claim):
        outcome = verdict(coupled(claim, size), claim.id)
        assert outcome.verdict == expected, outcome.reason


def coupled(claim, size, level=0.5):
    """Tables in which the claim's quantity is `size` margins large."""
    null = 0.06
    margin = MARGINS[claim.quantity].margin or null
    width = half(size, margin)
    coupling, controls = [], []
    for seed in SEEDS:
        for regime in ("sft", "r2d2"):
            for step in (5, 40):
                me = {"seed": seed, "regime": regime, "step": step, "anchor": "reference" if step == 5 else "40"}
                value = {5: level + size * margin, 40: level}[step]
                row = me | {"n_harmful": 48, "n_benign": 48}
                for name in ("c_cos", "c_sub", "hrci_repr"):
                    row |= {
                        f"{name}_frozen": value,
                        name: value,
                        f"{name}_lo": value - width,
                        f"{name}_hi": value + width,
                    }
                if claim.id == "relocation_explains_drop" and step == 40:
                    row |= {"hrci_repr": level - size * margin, "hrci_repr_lo": level - size * margin - width,
                            "hrci_repr_hi": level - size * margin + width, "hrci_repr_frozen": level}  # fmt: skip
                coupling.append(row)
                for quantity in ("c_cos", "c_sub", "hrci_repr"):
                    ends = {"value": value, "lo": value - width, "hi": value + width}
                    controls.append(me | {"companion": "own_sites", "quantity": quantity} | ends)
                    controls.append(me | {"companion": "fixed_layer", "quantity": quantity} | ends)
                    shuffled = {"value": level, "lo": level - null, "hi": level + null}
                    controls.append(me | {"companion": "shuffled", "quantity": quantity} | shuffled)
    frame = pd.DataFrame(coupling)
    return {"five_anchor": frame, "coupling": frame, "coupling_controls": pd.DataFrame(controls)}


def test_level_claims_on_coupling(study):
    def scaled(factor):
        def change(frame):
            last = (frame["regime"] == "r2d2") & (frame["step"] == 40)
            return frame.assign(hrci_repr_frozen=frame["hrci_repr_frozen"].where(~last, factor * 0.075))

        return verdict(changed(study, "coupling", change), "r2d2_coupling_drops").verdict

    assert [scaled(f) for f in (0.2, 0.8, 1 / 3)] == ["holds", "fails", "inconclusive"]

    def ceiling(value):
        def change(frame):
            return frame.assign(value=frame["value"].where(frame["quantity"] != "ceiling", value))

        return verdict(changed(study, "coupling_controls", change), "carriers_distinct").verdict

    assert [ceiling(c) for c in (0.9, 0.02, 0.056)] == ["holds", "fails", "inconclusive"]


def test_intervals_at_frozen_sites_come_first(study):
    """Where the study has no interval at frozen sites, that of the own sites stands in."""
    own = verdict(study, "sft_c_cos_flat")
    rows = study["coupling_controls"].query("companion == 'own_sites'").assign(companion="frozen_sites")
    same = changed(study, "coupling_controls", lambda f: pd.concat([f, rows], ignore_index=True))
    wide = changed(
        study, "coupling_controls", lambda f: pd.concat([f, rows.assign(lo=-1.0, hi=1.0)], ignore_index=True)
    )
    assert verdict(same, "sft_c_cos_flat") == own and own.verdict == "holds"
    assert verdict(wide, "sft_c_cos_flat").verdict == "inconclusive"


# ---------------------------------------------------------------------------------------------- what a study does not have


def test_without_a_regime_a_claim_does_not_apply(study):
    less = {name: t[t["regime"] != "r2d2"] if "regime" in t else t for name, t in study.items()}
    table = claims_table(less).set_index("id")
    assert table.loc["r2d2_c_cos_falls", ["verdict", "reason"]].tolist() == [
        NOT_APPLICABLE,
        "the study has no regime r2d2",
    ]
    assert table.loc["sft_attackable", "verdict"] == "holds" and (table["verdict"] != "fails").all()


def test_arms_that_were_not_run_do_not_apply(study):
    metrics = [metric for _, metric, *_ in ARMS[2:]]
    fewer = changed(study, "five_anchor", lambda t: t.drop(columns=[c for c in t if c.startswith(tuple(metrics))]))
    fewer = changed(fewer, "contrasts", lambda t: t[~t["metric"].isin(metrics)])
    verdicts = claims_table(fewer).set_index("id")
    for end, metric, *_ in ARMS[2:]:
        row = verdicts.loc[f"r2d2_reopens{end}"]
        assert row["verdict"] == NOT_APPLICABLE and metric in row["reason"]
        assert verdicts.loc[f"sft_attackable{end}", "reason"] == f"five_anchor has no column {metric}"
    assert verdicts.loc["r2d2_reopens", "twin"] == "r2d2_reopens_direct" and pd.isna(
        verdicts.loc["r2d2_reopens_direct", "twin"]
    )


def test_an_attack_no_better_than_its_start_decides_nothing(study):
    def level(frame):
        arm = frame["contrast"] == "arm"
        return frame.assign(
            **{name: frame[name].where(~arm, v) for name, v in (("value", 0.04), ("lo", -0.1), ("hi", 0.2))}
        )

    table = claims_table(changed(study, "contrasts", level)).set_index("id")
    for claim in ("r2d2_resists_early", "r2d2_reopens", "sft_attackable", "low_coupling_not_safe"):
        assert table.loc[claim, "verdict"] == "inconclusive"
        assert "does not beat its unoptimised arm on its source sft_refusal:40" in table.loc[claim, "reason"]
    assert table.loc["r2d2_resists_early_direct", "verdict"] == "holds"
    none = verdict(changed(study, "attacks", lambda f: f.assign(kind="adaptive")), "sft_attackable")
    assert (none.verdict, none.reason) == (NOT_APPLICABLE, "the study has no fixed-source attack")


def test_regimes_are_compared_at_equal_steps(study):
    """Anchors of one name and other steps are never a pair."""
    assert (study["contrasts"].query("contrast == 'regime'").eval("step == other_step")).all()
    shifted = changed(study, "contrasts", lambda f: f.assign(other_step=f["other_step"] + 1))
    found = verdict(shifted, "r2d2_refuses_more")
    assert (found.verdict, found.reason) == (NOT_APPLICABLE, "r2d2 and sft have no any_refusal at equal steps")


def test_without_a_carrier_of_its_own_frozen_sites_decide(study):
    def without_r(frame):
        mine = frame["regime"] == "r2d2"
        return frame.assign(**{name: frame[name].where(~mine) for name in ("layer_r", "hrci_repr", "site_share")})

    tables = changed(study, "coupling", without_r)
    assert verdict(tables, "r2d2_coupling_drops").verdict == "holds"
    for claim in ("r2d2_r_relocates", "sft_r_relocates_first", "relocation_explains_drop"):
        found = verdict(tables, claim)
        assert found.verdict == NOT_APPLICABLE and "no refusal carrier" in found.reason


def at_candidates(frame):
    return frame.assign(r_status=np.where(frame["regime"] == "r2d2", "candidate", "own"))


def test_what_is_read_at_a_candidate_that_is_no_r_decides_nothing(study):
    tables = changed(study, "coupling", at_candidates)
    for claim in ("r2d2_coupling_drops", "relocation_explains_drop"):
        assert verdict(study, claim).verdict != NOT_APPLICABLE
        found = verdict(tables, claim)
        assert found.verdict == NOT_APPLICABLE and "no refusal carrier" in found.reason


def test_a_flat_score_of_means_is_no_effect_only_with_enough_prompts(study):
    """A bootstrap of prompts that never change has no length; Wilson's end of 0 in n has one."""

    def still(n):
        def change(frame):
            mine = (frame["metric"] == "benign_mean") & (frame["contrast"] == "time")
            values = {"value": 0.0, "lo": 0.0, "hi": 0.0, "changed": 0, "n": n}
            return frame.assign(**{name: frame[name].where(~mine, v) for name, v in values.items()})

        return verdict(changed(study, "contrasts", change), "r2d2_helpfulness_rises").verdict

    assert (still(60), still(15)) == ("no effect", "inconclusive")


# ---------------------------------------------------------------------------------------------------------- geometry


def geometry_tables(size, claim):
    """Three seeds in which the quantity of a geometry claim is `size` margins large, with a little spread."""
    margin, rng = MARGINS[claim.quantity].margin, np.random.default_rng(1)
    spread = 0.02 if size in (0.0, 3.0, -3.0) else 0.6
    geometry, coupling, five, profile, selection = [], [], [], [], []
    for number, seed in enumerate(SEEDS):
        value = margin * (size + spread * (number - 1))
        for regime in ("sft", "r2d2", "sft_refusal"):
            profile.append(
                {"seed": seed, "regime": regime, "step": 5, "anchor": "reference", "carrier": "H", "layer": 99}
            )
            sign = -1 if claim.id == "sft_r_relocates_first" and regime == "r2d2" else 1
            for step in (5, 40):
                late = step == 40
                me = {"seed": seed, "regime": regime, "step": step, "anchor": "40" if late else "reference"}
                share = 1.0 if spread < 0.1 else 0.5
                place = 50 - sign * late * 100 * value / (2 if claim.id == "sft_r_relocates_first" else 1)
                coupling.append(me | {"layer_r": place, "site_share": share})
                five.append(me | {"layer_h": 50 + late * 100 * value})
                angle = 40 + (value if regime == "sft" else 0)
                geometry.append(me | {"reference": 5, "erank": 10 * np.exp(late * value), "angle_3": angle})
                gain, noise = 0.5 + value, 0.001 * rng.standard_normal()
                lost = {
                    "fall": value,
                    "fall_lo": value - half(size, margin),
                    "fall_hi": value + half(size, margin),
                    "fall_n": 20,
                }
                for selector in ("effect", "cosmic"):
                    selection.append(me | {"selector": selector, "gain": gain + noise, "gain_lo": gain + noise - half(size, margin),
                                           "gain_hi": gain + noise + half(size, margin), "n_harmful": 24, "null_95": 0.5} | lost)  # fmt: skip
    frames = {
        "geometry": geometry,
        "coupling": coupling,
        "five_anchor": five,
        "profile": profile,
        "selection": selection,
    }
    return {name: pd.DataFrame(rows) for name, rows in frames.items()}


@pytest.mark.parametrize("claim", GEOMETRY, ids=lambda claim: claim.id)
def test_every_verdict_of_a_geometry_claim(claim):
    for expected, size in wanted(claim):
        if claim.id == "h_layer_constant" and size < 0:
            continue
        outcome = verdict(geometry_tables(size, claim), claim.id)
        assert outcome.verdict == expected, (size, outcome)


def test_a_site_that_resampling_does_not_keep_is_too_wide_to_tell(study):
    unsure = changed(study, "coupling", lambda f: f.assign(site_share=0.3))
    assert verdict(unsure, "r2d2_r_relocates").verdict == "inconclusive"
    sure = changed(study, "coupling", lambda f: f.assign(site_share=1.0))
    outcome = verdict(sure, "r2d2_r_relocates")
    assert outcome.verdict == "holds" and outcome.estimate == pytest.approx(18 / 30)


def test_seeds_without_a_value_are_left_out_and_counted(study):
    def lost(seeds):
        def change(frame):
            return frame.assign(erank=frame["erank"].where(~frame["seed"].isin(seeds)))

        tables = several(study)
        return verdict(tables | {"geometry": change(tables["geometry"])}, "rank_constant")

    some = lost([3])
    assert some.verdict == "holds" and some.reason.endswith("2 of 3 seeds have it") and some.by_seed.count(":") == 2
    assert lost([1, 2, 3]).verdict == NOT_APPLICABLE
    empty = changed(study, "five_anchor", lambda f: f.assign(layer_h=np.nan))
    assert verdict(empty, "h_layer_constant").reason.endswith("no seed has a value")


def test_seeds_that_lie_apart_are_told():
    at = {1: Estimate(-0.3, -0.4, -0.2), 2: Estimate(0.3, 0.2, 0.4)}
    assert of_the_seeds(at, 3) == ["2 of 3 seeds have it", "the seeds lie apart (by_seed)"]
    assert of_the_seeds(at | {2: Estimate(-0.1, -0.21, 0.0)}, 2) == []  # -0.205 lies in both
    assert of_the_seeds({1: Estimate(0.1), 2: Estimate(9.0)}, 2) == []  # nothing is known of them


# ------------------------------------------------------------------------------------------- matched pairs and rulers


def told(value, width, n=60):
    """five_anchor of three seeds with this d' of matched pairs."""
    return {"five_anchor": five_anchor(value, width, "refusal_dprime").assign(refusal_dprime_n=n)}


def test_every_verdict_of_matched_pairs():
    for expected, size in SIZES.items():
        for regime in ("r2d2", "sft", "sft_refusal"):
            outcome = verdict(told(0.25 * size, half(size, 0.25)), f"pairs_told_apart_{regime}")
            assert outcome.verdict == expected, outcome.reason
            assert outcome.estimate == pytest.approx(0.25 * size) and "at step 40" in outcome.reason


def test_a_regime_that_refuses_nothing_has_no_dprime():
    outcome = verdict(told(0.0, 0.0), "pairs_told_apart_sft")
    assert outcome.verdict == NOT_APPLICABLE and "refuses all prompts of its matched pairs" in outcome.reason
    less = verdict(
        {"five_anchor": told(0.0, 0.1)["five_anchor"].drop(columns="refusal_dprime")}, "pairs_told_apart_sft"
    )
    assert less.verdict == NOT_APPLICABLE and "no column refusal_dprime" in less.reason


def test_dprime_of_two_regimes_is_compared_on_the_same_pairs(study):
    """The synthetic study: at step 40 sft_refusal refuses three quarters of its counterparts, R2D2 fewer."""
    row = study["contrasts"].query(
        "metric == 'refusal_dprime' and contrast == 'regime' and step == 40 and regime == 'r2d2' and other_regime == 'sft_refusal'"
    )
    anchors = study["five_anchor"].set_index(["regime", "step"])["refusal_dprime"]
    outcome = verdict(study, "refresh_tells_pairs")
    assert outcome.estimate == pytest.approx(row["value"].item())
    assert outcome.estimate == pytest.approx(anchors["r2d2", 40] - anchors["sft_refusal", 40], abs=1e-9)
    assert outcome.n == made.SIZES["counterpart"]


@pytest.mark.parametrize(
    "claim", [c for c in regime_claims("r2d2") if c.quantity == "auroc"], ids=lambda claim: claim.id
)
def test_every_verdict_of_a_ruler(study, claim):
    carrier, _, ruler, _ = claim.id.split("_")
    for expected, size in SIZES.items():
        gap, width = 0.05 * size, half(size, 0.05)

        def change(frame, gap=gap, width=width):
            mine = (frame["carrier"] == carrier.upper()) & (frame["ruler"] == ruler)
            values = {"difference": gap, "difference_lo": gap - width, "difference_hi": gap + width}
            return frame.assign(**{name: frame[name].where(~mine, value) for name, value in values.items()})

        outcome = verdict(changed(several(study), "separability", change), claim.id)
        assert outcome.verdict == expected, outcome.reason
        assert "at step 5 less that of" in outcome.reason and "(0.990 and" in outcome.reason


def test_carriers_and_rulers_that_hardly_differ_are_told_apart_by_many_prompts_only(study):
    """Both perfect on 24 prompts of a class: no effect is not shown, since a tenth of all prompts may be otherwise."""

    def same(n):
        def change(frame):
            still = {"difference": 0.0, "difference_lo": 0.0, "difference_hi": 0.0, "changed": 0}
            return frame.assign(**still, n_harmful=n, n_benign=n)

        return verdict(changed(study, "separability", change), "h_beyond_words_r2d2").verdict

    assert (same(24), same(200)) == ("inconclusive", "no effect")
    lost = verdict(changed(study, "separability", lambda f: f[f["carrier"] == "H"]), "r_beyond_words_sft")
    assert lost.verdict == NOT_APPLICABLE and "sft has no R of its own at step 5" in lost.reason


# ------------------------------------------------------------------------------------------------- what success means


def test_claims_say_what_success_was(study):
    means = changed(study, "five_anchor", lambda f: f.assign(success_means="not_refused"))
    table, plain = claims_table(means).set_index("id"), claims_table(study).set_index("id")
    on_attacks = [
        claim.id for claim in claims_of(study) if claim.quantity.endswith("_asr") or claim.id.endswith("_asr")
    ]
    assert len(on_attacks) > 40 and (table.loc[on_attacks, "success_means"] == "not_refused").all()
    assert table.loc[on_attacks, "claim"].str.endswith("(success: not refused).").all()
    assert (plain.loc[on_attacks, "success_means"] == "attack_success").all()
    assert not plain["claim"].str.contains("success: not refused").any()
    rest = table.index.difference([*on_attacks, *(i for i in table.index if i.startswith(("transfer_", "follow_up_")))])
    assert table.loc[rest, "success_means"].isna().all()
    useful = [
        claim.id for claim in claims_of(study) if "usefulness" in claim.quantity or claim.id.endswith("_usefulness")
    ]
    assert {"dense_c_cos_usefulness", "dense_c_sub_usefulness", "r2d2_usefulness_rises"} < set(useful)
    assert (table.loc[useful, "verdict"] == NOT_APPLICABLE).all()
    assert table.loc[useful, "reason"].str.contains("no more than not refused").all()


# ------------------------------------------------------------------------------------------------------- time series


def with_saves(n=40, lengths=(5, 10, 20), **behaviour):
    """The study with these series over r2d2's saves; behaviours that are not named stay the same."""
    series = dict.fromkeys(("fixed_asr", "direct_asr", "any_refusal", "benign_mean", "usefulness"), 0.5) | behaviour
    saves = pd.DataFrame({"seed": 1, "regime": "r2d2", "anchor": None, "step": 5 * np.arange(1, n + 1)} | series)
    saves["benign_refusal"] = np.nan
    x = saves.pop("x")
    saves = saves.assign(**{f"{name}_frozen": x for name in ("hrci_repr", "hrci", "c_cos", "c_sub")}, hrci_repr=x)
    return made.study_once() | {"trajectory": saves, "dense_correlations": dense_correlations(saves, lengths, 400)}


def test_two_straight_lines_are_a_shared_trend():
    line, noise = np.linspace(1, 0.2, 40), 0.02 * np.random.default_rng(5).normal(size=(3, 40))
    tables = with_saves(x=line + noise[0], any_refusal=line + noise[1], usefulness=line + noise[2])
    for claim in ("dense_c_cos_any_refusal", "dense_c_sub_usefulness"):
        found = verdict(tables, claim)
        assert found.verdict == "inconclusive" and "shared trend" in found.reason and abs(found.estimate) > 0.9


def test_series_that_move_together_are_decided_either_way():
    rng = np.random.default_rng(12)
    x = 0.05 + 0.002 * rng.normal(size=60).cumsum()
    near = x + 0.0003 * rng.normal(size=60)
    tables = with_saves(60, x=x, any_refusal=near, usefulness=near, fixed_asr=1 - near, direct_asr=1 - near)
    expected = {"any_refusal": "holds", "fixed_asr": "holds", "direct_asr": "holds", "usefulness": "fails"}
    assert {name: verdict(tables, f"dense_c_cos_{name}").verdict for name in expected} == expected
    assert verdict(tables, "dense_c_cos_benign_refusal").verdict == NOT_APPLICABLE
    no_r = changed(tables, "coupling", at_candidates)
    assert {verdict(no_r, f"dense_c_cos_{name}").verdict for name in expected} == {NOT_APPLICABLE}
    short = with_saves(12, x=x[:12], any_refusal=near[:12], lengths=(3,))
    assert "it takes 20 saves" in verdict(short, "dense_c_sub_any_refusal").reason


def test_series_of_no_relation_are_no_effect():
    rng = np.random.default_rng(8)
    tables = with_saves(400, (5, 10), x=rng.normal(size=400), any_refusal=rng.normal(size=400))
    found = verdict(tables, "dense_c_cos_any_refusal")
    assert found.verdict == "no effect" and abs(found.estimate) < 0.2


def test_every_block_length_counts():
    rng = np.random.default_rng(12)
    x = 0.05 + 0.002 * rng.normal(size=60).cumsum()
    tables = with_saves(60, x=x, any_refusal=x + 0.0003 * rng.normal(size=60))

    def cross(frame):
        longest = (frame["outcome"] == "any_refusal") & (frame["form"] == "levels") & (frame["block_length"] == 20)
        return frame.assign(lo=frame["lo"].where(~longest, -0.1))

    found = verdict(changed(tables, "dense_correlations", cross), "dense_c_cos_any_refusal")
    assert found.verdict == "inconclusive" and found.lo == pytest.approx(-0.1)


# ---------------------------------------------------------------------------------------------------------- the list


def test_the_catalogue_is_sound():
    every = claims_for((*SWEPT, "aligned"), (*SWEPT, "aligned"))
    ids = [claim.id for claim in every]
    assert len(set(ids)) == len(ids) and set(TUNED) <= set(ids)
    for claim in every:
        assert claim.rule in REACHABLE and claim.quantity in MARGINS and claim.decided_by
        assert not claim.twin or claim.twin in ids
        assert claim.scale.margin > 0 or claim.rule == "level" or claim.quantity == "over_null"
    arms = {metric for _, metric, *_ in ARMS} - {"direct_asr"}
    attacks = [claim for claim in (*BEHAVIOUR, *DENSE) if claim.quantity in arms or claim.id.endswith("_fixed_asr")]
    assert attacks and all(claim.twin for claim in attacks), "an attack claim has a direct twin"


def test_an_unknown_tuned_claim_is_an_error(study):
    with pytest.raises(ValueError, match="no claim nonsense"):
        claims_table(study, tuned=["nonsense"])
