"""Transfer tables against brute force: rates, gains over the unoptimised arm, relabelled p, tie ceilings, resampling."""

import hashlib
import math
from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest
import synthetic_transfer as made
from scipy.stats import spearmanr

from safety_geometry.artefacts.tables.files import check_table
from safety_geometry.artefacts.tables.registry import TABLES
from safety_geometry.attacks.transfer import (
    BY_NAME,
    analysis_rows,
    attack_id,
    checkpoint_values,
    family_rows,
    transfer_predictors,
    transfer_table,
    with_ids,
)
from safety_geometry.attacks.transfer_statistics import Rows, mean_spearman, pigeonhole, relabelled_p, weighted_spearman
from safety_geometry.stats.estimates import mcnemar_exact, spearman, spearman_tie_ceiling, wilson


@pytest.fixture(scope="module")
def table():
    return transfer_table(made.judged(cross=True))


@pytest.fixture(scope="module")
def predictors(table):
    return transfer_predictors(table, **made.carriers(), draws=300, orders=300)


def one(frame, **where):
    rows = frame.loc[np.logical_and.reduce([frame[k] == v for k, v in where.items()])]
    assert len(rows) == 1
    return rows.iloc[0]


def rows_of(source, target, scores, tasr, gap=False) -> Rows:
    source, target = np.asarray(source), np.asarray(target)
    return Rows(
        np.asarray(tasr, float), np.zeros(len(source), int), source, target, np.asarray(scores, float)[None], gap
    )


def stacked(*seeds: Rows) -> Rows:
    """The rows of several seeds, which share their labels."""
    run = np.repeat(np.arange(len(seeds)), [len(s.tasr) for s in seeds])
    tasr, source, target = (np.concatenate([getattr(s, name) for s in seeds]) for name in ("tasr", "source", "target"))
    return Rows(tasr, run, source, target, np.concatenate([s.scores for s in seeds]), seeds[0].gap)


def test_cells_are_counted_and_named(table):
    check_table(table, TABLES["transfer"])
    row = one(table, attack="gcg", source_regime="r2d2", source=10, target_regime="r2d2", target=40)
    assert (row["regime"], row["n"], row["tasr"], row["diagonal"]) == ("r2d2", 20, 0.5, False)
    assert (row["lo"], row["hi"]) == pytest.approx((wilson(10, 20).lo, wilson(10, 20).hi))
    crossed = one(table, attack="gcg", source_regime="sft", source=10, target_regime="r2d2", target=10)
    assert (crossed["regime"], crossed["diagonal"]) == ("cross", False)  # the same step, but another checkpoint
    assert table["diagonal"].sum() == 4 * 10
    assert len(table) == 3 * 100 + 10


def test_the_fixed_sources_attacks_are_marked():
    judged = made.judged(cross=True, attacks=("gcg", "gcg_init"))
    table = transfer_table(judged, "sft:30")
    marked = table[table["fixed_source"]]
    assert set(zip(marked["source_regime"], marked["source"], strict=True)) == {("sft", 30)}
    assert set(marked["attack"]) == {"gcg", "gcg_init"} and len(marked) == 10 + 1
    assert not transfer_table(judged)["fixed_source"].any()


def test_an_attacks_id_is_of_its_method_source_behaviour_and_budget():
    rows = pd.DataFrame(
        {
            "seed": [1, 2],
            "attack": "gcg",
            "source": ["sft:5", "sft:30"],
            "behaviour": "b1",
            "budget_steps": 8,
            "width": 24,
        }
    )
    found = with_ids(rows, "sft:30")
    assert list(found)[:4] == ["seed", "id", "attack", "kind"] and found["kind"].tolist() == ["adaptive", "fixed"]
    assert found["id"].tolist() == [attack_id("gcg", s, "b1", 8, 24) for s in ("sft:5", "sft:30")]
    whole = ("gcg", "sft:30", "b1", 8, 24)
    others = [
        ("autodan", *whole[1:]),
        (whole[0], "sft:3", *whole[2:]),
        (*whole[:2], "b2", 8, 24),
        (*whole[:3], 9, 24),
        (*whole[:4], 25),
    ]
    assert len({attack_id(*w) for w in (whole, *others)}) == 6
    assert attack_id(*whole) == hashlib.sha256(b"gcg/sft:30/b1/8/24").hexdigest()[:12]  # the same on every machine


def test_gain_is_paired_with_the_unoptimised_arm(table):
    row = one(table, attack="gcg", source_regime="r2d2", source=10, target_regime="r2d2", target=40)
    attacked, before = (np.array([(i + 0.5) / 20 < rate for i in range(20)], float) for rate in (0.5, 0.05))
    assert (row["gain"], row["gain_n"]) == (pytest.approx(0.45), 20)
    assert row["gain_p"] == pytest.approx(mcnemar_exact(attacked, before))
    assert row["gain_p_smallest"] == pytest.approx(2 * 0.5**9)
    assert row["gain_lo"] < 0.45 < row["gain_hi"]
    assert table.loc[table["attack"].isin(["gcg_init", "seeds"]), "gain"].isna().all()
    assert transfer_table(made.judged(attacks=("gcg",)))["gain"].isna().all()


def test_the_arm_of_the_same_source_comes_first():
    frame = made.judged(regimes=("r2d2",), attacks=("gcg", "gcg_init"))
    moved = frame[(frame["attack"] == "gcg_init") & (frame["target_step"] == 40)].assign(source_step=10, success=True)
    both = transfer_table(pd.concat([frame, moved]))
    assert one(both, attack="gcg", source=10, target=40)["gain"] == pytest.approx(-0.5)
    assert one(both, attack="gcg", source=20, target=40)["gain"] == pytest.approx(0.45)


def test_rows_in_any_order_give_one_table(table):
    frame = made.judged(cross=True)
    pd.testing.assert_frame_equal(transfer_table(frame.sample(frac=1, random_state=1)), table)


def test_wrong_rows_are_refused():
    frame = made.judged(regimes=("sft",), attacks=("gcg",))
    with pytest.raises(ValueError, match="lack the columns success"):
        transfer_table(frame.drop(columns="success"))
    with pytest.raises(ValueError, match="occurs twice"):
        transfer_table(pd.concat([frame, frame.iloc[:1]]))
    with pytest.raises(ValueError, match="empty cells in target_step"):
        transfer_table(frame.assign(target_step=np.nan))
    with pytest.raises(ValueError, match="true or false"):
        transfer_table(frame.assign(success=0.5))
    with pytest.raises(ValueError, match="does not have"):
        transfer_predictors(transfer_table(frame), **made.carriers(steps=made.STEPS[:2]))


def test_tie_ceilings_of_the_papers_twelve_rows():
    """paper-facts B9: three targets with four rows each, four rates of zero, and then one more tied pair."""
    target = np.repeat([1.0, 2.0, 3.0], 4)
    rates = np.array([0, 0, 0, 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    assert spearman_tie_ceiling(target, rates) == pytest.approx(math.sqrt(1536 / 1656))
    assert math.sqrt(1536 / 1656) == pytest.approx(0.963, abs=5e-4)
    rates[5] = rates[4]
    assert spearman_tie_ceiling(target, rates) == pytest.approx(math.sqrt(1536 / 1650))
    assert math.sqrt(1536 / 1650) == pytest.approx(0.965, abs=5e-4)


def paper_design():
    """Checkpoints 0, 1, 2 by two attacks, off the diagonal: twelve rows; a closed target, a middle and an open one."""
    pairs = [(s, t) for _ in range(2) for s in range(3) for t in range(3) if s != t]
    tasr = [{0: 0.0, 1: 0.3, 2: 0.6}[t] + (0.01 * i if t else 0) for i, (_, t) in enumerate(pairs)]
    return *map(list, zip(*pairs, strict=True)), tasr


def test_twelve_rows_with_three_targets_prove_nothing():
    """The paper's rho of -.963 at its ceiling: one in six relabellings does it, and its mirror image nearly."""
    source, target, tasr = paper_design()
    rows = rows_of(source, target, (0.08, 0.02, 0.01), tasr)
    x = rows.numbers()
    assert spearman(x, rows.tasr) == pytest.approx(-math.sqrt(1536 / 1656))
    sizes = [
        abs(spearmanr(np.array(order)[np.array(target)], tasr).statistic) for order in permutations((0.08, 0.02, 0.01))
    ]
    expected = np.mean([size > sizes[0] - 1e-9 for size in sizes])
    p, smallest = relabelled_p(rows, np.random.default_rng(0))
    assert p == smallest == pytest.approx(expected)
    assert p in (pytest.approx(1 / 6), pytest.approx(2 / 6))


@pytest.mark.parametrize("gap", [False, True])
def test_relabelled_p_is_that_of_all_orders(gap):
    rng = np.random.default_rng(11)
    pairs = [
        (s, t) for s in (0, 1, 2, 6) for t in range(5) if s != t
    ]  # source 6 is no target, targets 3 and 4 no source
    source, target = (np.array(side) for side in zip(*pairs, strict=True))
    scores = np.array([0.3, 0.1, 0.2, 0.2, 0.5, np.nan, 0.4])
    tasr = np.round(scores[target] + 0.3 * rng.normal(size=len(pairs)), 2)
    sizes = []
    for order in permutations(range(5)):
        dealt = scores.copy()
        dealt[:5] = scores[list(order)]
        x = [round(dealt[t] - dealt[s], 12) if gap else dealt[t] for s, t in pairs]
        sizes.append(abs(spearmanr(x, tasr).statistic))
    sizes = np.array(sizes)
    p, smallest = relabelled_p(rows_of(source, target, scores, tasr, gap), np.random.default_rng(0))
    assert p == pytest.approx((sizes >= sizes[0] - 1e-9).mean())
    assert smallest == pytest.approx((sizes >= sizes.max() - 1e-9).mean())
    assert 1 / 120 <= smallest <= p < 1


def test_sampled_orders_agree_with_all_orders(monkeypatch):
    rng = np.random.default_rng(12)
    target = np.repeat(np.arange(6), 3)
    tasr = 0.1 * target + 0.2 * rng.normal(size=18)
    rows = rows_of(target + 6, target, np.r_[rng.permutation(6), np.zeros(6)] + 0.0, tasr)
    exact, _ = relabelled_p(rows, rng)
    monkeypatch.setattr("safety_geometry.attacks.transfer_statistics.EXHAUSTIVE", 1)
    sampled, smallest = relabelled_p(rows, rng, orders=4000)
    assert sampled == pytest.approx(exact, abs=0.03)
    assert smallest >= 1 / 4001


def test_permuting_rows_would_be_far_too_sure():
    """One number per target repeated over ten rows: the p of the rows is tiny, that of the targets is not."""
    target = np.repeat(np.arange(4), 10)
    tasr = np.array([0.1, 0.4, 0.3, 0.6])[target] + 1e-3 * np.arange(40) % 0.01
    p, _ = relabelled_p(rows_of(target + 4, target, np.arange(8.0), tasr), np.random.default_rng(0))
    assert spearmanr(target, tasr).pvalue < 1e-6 < 0.05 < p


def test_weighted_rho_is_rho_of_repeated_rows():
    rng = np.random.default_rng(13)
    x, y = rng.integers(0, 4, 15).astype(float), rng.integers(0, 6, 15) / 5
    weight = rng.integers(0, 3, (8, 15))
    found = weighted_spearman(x, y, weight.astype(float))
    for w, rho in zip(weight, found, strict=True):
        assert rho == pytest.approx(spearmanr(np.repeat(x, w), np.repeat(y, w)).statistic)
    assert np.isnan(weighted_spearman(x, y, np.eye(15)[:1])).all()


def test_resampling_checkpoints_is_wider_than_resampling_rows():
    """Every row of a target shares its luck; an interval that takes the rows for independent is too narrow."""
    rng = np.random.default_rng(14)
    source, target = (side.ravel() for side in np.meshgrid(np.arange(6), np.arange(6)))
    off = source != target
    scores, luck = np.arange(6.0), rng.normal(size=6)
    tasr = (0.5 * scores + 1.5 * luck)[target[off]] + 0.1 * rng.normal(size=off.sum())
    rows = rows_of(source[off], target[off], scores, tasr)
    x = rows.numbers()
    found = pigeonhole([rows], rng, 1000)
    drawn = rng.integers(0, len(x), (1000, len(x)))
    naive = np.quantile([spearmanr(x[i], tasr[i]).statistic for i in drawn[:100]], [0.025, 0.975])
    assert found.value == pytest.approx(spearman(x, tasr))
    assert found.hi - found.lo > 1.3 * (naive[1] - naive[0])
    few = rows_of([0, 0, 1, 1], [2, 3, 2, 3], scores, [0.1, 0.2, 0.3, 0.4])
    assert math.isnan(pigeonhole([few], rng, 50).lo)


def test_the_interval_of_a_difference_is_zero_for_one_predictor_twice():
    rng = np.random.default_rng(15)
    source, target = (side.ravel() for side in np.meshgrid(np.arange(5), np.arange(5)))
    rows = rows_of(source, target, np.arange(5.0), rng.normal(size=25))
    found = pigeonhole([rows, replace(rows, scores=-rows.scores)], rng, 200)
    assert (found.value, found.lo, found.hi) == pytest.approx((0, 0, 0))


def test_every_predictor_has_its_rows(table, predictors):
    check_table(predictors, TABLES["transfer_predictors"])
    row = one(predictors, regime="r2d2", attack="all", predictor="target_hrci_repr")
    assert (row["n"], row["n_sources"], row["n_targets"]) == (40, 5, 5)
    cells = table[(table["regime"] == "r2d2") & table["attack"].isin(["gcg", "autodan"]) & ~table["diagonal"]]
    value = dict(zip(made.STEPS, made.COUPLED["r2d2"], strict=True))
    assert row["rho"] == pytest.approx(spearmanr(cells["target"].map(value), cells["tasr"]).statistic)
    assert row["rho"] == pytest.approx(-row["rho_tie_ceiling"], abs=0.05)
    assert row["p"] == pytest.approx(2 / 120, abs=1e-9) or row["p"] == pytest.approx(1 / 120)
    assert -1 <= row["lo"] <= row["rho"] <= row["hi"] < 0
    gap = one(predictors, regime="r2d2", attack="gcg", predictor="gap_hrci_repr")
    cells = cells[cells["attack"] == "gcg"]
    assert gap["rho"] == pytest.approx(
        spearmanr((cells["target"].map(value) - cells["source"].map(value)).round(12), cells["tasr"]).statistic
    )
    seeds = predictors[predictors["attack"] == "seeds"]
    within = seeds[seeds["regime"] != "cross"]  # bound to their sources as any attack is
    assert (within["n"] == 20).all() and (within["n_sources"] == 5).all() and (seeds["family"] == "gap").any()
    assert (predictors["n_seeds"] == 1).all() and predictors["seed"].eq(1).all()
    assert set(predictors["regime"]) == {"sft", "r2d2", "cross"}
    assert one(predictors, regime="cross", attack="gcg", predictor="target_hrci")["n_targets"] == 10


def test_a_predictor_that_is_unknown_at_a_checkpoint_loses_its_rows_only(table):
    parts = made.carriers()
    late = parts["coupling"]["step"] >= 30
    parts["coupling"] = parts["coupling"].assign(s_total=parts["coupling"]["s_total"].where(late))
    parts["geometry"] = parts["geometry"].assign(norm_h=np.nan)
    rows = transfer_predictors(table[table["regime"] == "sft"], **parts, draws=50)
    check_table(rows, TABLES["transfer_predictors"])
    gap = one(rows, attack="gcg", predictor="gap_refusal_score")
    assert (gap["n"], gap["n_targets"]) == (6, 3) and math.isnan(gap["lo"])
    lost = one(rows, attack="gcg", predictor="target_h_norm")
    assert lost["n"] == 0 and lost[["rho", "p", "rho_tie_ceiling"]].isna().all()
    assert one(rows, attack="gcg", predictor="target_hrci")["n"] == 20


def three_seeds(tasr=None) -> Rows:
    """One source and four targets in each of three seeds; the fifth label is the source."""
    rng = np.random.default_rng(16)
    made_seeds = []
    for _ in range(3):
        scores = np.r_[rng.permutation(4), 9.0]
        made_seeds.append(rows_of([4] * 4, range(4), scores, -scores[:4] if tasr is None else tasr(rng)))
    return stacked(*made_seeds)


def test_three_seeds_of_four_targets_can_decide_what_one_cannot():
    rows = three_seeds()
    alone = replace(
        rows,
        tasr=rows.tasr[:4],
        seed=rows.seed[:4],
        source=rows.source[:4],
        target=rows.target[:4],
        scores=rows.scores[:1],
    )
    assert relabelled_p(alone, np.random.default_rng(0)) == (pytest.approx(2 / 24), pytest.approx(2 / 24))
    assert relabelled_p(rows, np.random.default_rng(0)) == (pytest.approx(2 / 24**3), pytest.approx(2 / 24**3))
    assert mean_spearman(rows) == -1


def test_values_are_dealt_within_each_seed_by_brute_force():
    rows = three_seeds(lambda rng: np.round(rng.random(4), 1))
    rows = replace(
        rows, **{name: getattr(rows, name)[:8] for name in ("tasr", "seed", "source", "target")}, scores=rows.scores[:2]
    )
    sizes = []
    for first, second in product(permutations(range(4)), repeat=2):
        rho = [
            spearmanr(rows.scores[g, list(order)], rows.tasr[4 * g : 4 * g + 4]).statistic
            for g, order in enumerate((first, second))
        ]
        sizes.append(abs(sum(rho)))
    sizes = np.array(sizes)
    p, smallest = relabelled_p(rows, np.random.default_rng(0))
    assert p == pytest.approx((sizes >= sizes[0] - 1e-9).mean()) and smallest == pytest.approx(
        (sizes >= sizes.max() - 1e-9).mean()
    )


def test_random_joint_dealings_agree_with_all(monkeypatch):
    rows = three_seeds(lambda rng: np.round(rng.random(4), 1))
    exact, _ = relabelled_p(rows, np.random.default_rng(0))
    monkeypatch.setattr("safety_geometry.attacks.transfer_statistics.JOINT", 100)
    sampled, smallest = relabelled_p(rows, np.random.default_rng(0), orders=20000)
    assert sampled == pytest.approx(exact, abs=0.02) and smallest >= 1 / 20001


def test_joint_p_keeps_its_level():
    rng, below, count = np.random.default_rng(17), 0, 300
    for _ in range(count):
        rows = stacked(*(rows_of([4] * 4, range(4), rng.normal(size=5), rng.normal(size=4)) for _ in range(3)))
        below += relabelled_p(rows, rng)[0] <= 0.05
    assert 0.015 * count <= below <= 0.09 * count


def test_a_difference_between_seeds_is_no_correlation():
    """Seeds that differ in openness and in coupling: over the pooled rows ρ is high, within the seeds there is none."""
    one = rows_of([4] * 4, range(4), (0.10, 0.11, 0.12, 0.13, 0.2), (0.2, 0.1, 0.4, 0.3))
    rows = stacked(one, replace(one, scores=one.scores + 1, tasr=one.tasr[[1, 0, 3, 2]][::-1] + 0.5))
    assert spearman(rows.numbers(), rows.tasr) > 0.7
    assert mean_spearman(rows) == pytest.approx(np.mean([spearmanr(rows.scores[g, :4], rows.tasr[4 * g : 4 * g + 4]).statistic for g in range(2)]))  # fmt: skip
    assert abs(mean_spearman(rows)) < 0.3 and relabelled_p(rows, np.random.default_rng(0))[0] > 0.5


def test_a_seed_in_which_nothing_transfers_says_nothing():
    rows = three_seeds()
    closed = replace(rows, tasr=np.where(rows.seed == 2, 0.0, rows.tasr))
    p, smallest = relabelled_p(closed, np.random.default_rng(0))
    assert p == smallest == pytest.approx(2 / 24**2) and mean_spearman(closed) == -1


def test_the_interval_over_seeds_resamples_steps_and_seeds():
    """Target steps whose luck all seeds share are no more tries than one seed has; a lone source has no interval."""
    rng = np.random.default_rng(18)
    source, target = (side.ravel() for side in np.meshgrid(np.arange(6), np.arange(6)))
    source, target = source[source != target], target[source != target]
    luck, scores = 1.5 * rng.normal(size=6), np.arange(6.0)

    def seed_with(luck):
        return rows_of(source, target, scores, (0.5 * scores + luck)[target] + 0.05 * rng.normal(size=len(target)))

    one, shared = seed_with(luck), stacked(*(seed_with(luck) for _ in range(3)))
    width = [(f := pigeonhole([rows], np.random.default_rng(0), 1500)).hi - f.lo for rows in (one, shared)]
    assert width[1] > 0.8 * width[0]
    far = stacked(
        seed_with(np.zeros(6)), seed_with(-4 * scores), seed_with(np.zeros(6))
    )  # seeds that contradict each other
    found = pigeonhole([far], np.random.default_rng(0), 1500)
    assert found.lo < -0.5 < 0.5 < found.hi
    lone = three_seeds()
    assert lone.count(lone.source) == 3 and lone.count(lone.target) == 12
    assert math.isnan(pigeonhole([lone], np.random.default_rng(0), 100).lo)


def test_all_seeds_together_are_a_row_of_their_own():
    table = transfer_table(made.judged(seeds=(1, 2), regimes=("r2d2",), attacks=("gcg",)))
    found = transfer_predictors(table, **made.carriers(seeds=(1, 2)), draws=50)
    check_table(found, TABLES["transfer_predictors"])
    rows = found[(found["attack"] == "gcg") & (found["predictor"] == "target_hrci_repr")]
    assert rows["seed"].isna().tolist() == [False, False, True]
    assert rows[["n", "n_sources", "n_targets", "n_seeds"]].to_numpy().tolist() == [
        [20, 5, 5, 1],
        [20, 5, 5, 1],
        [40, 10, 10, 2],
    ]
    assert rows["rho"].iloc[2] == pytest.approx(rows["rho"].iloc[:2].mean())
    assert rows["p_smallest"].iloc[2] == pytest.approx(2 * (rows["p_smallest"].iloc[0] / 2) ** 2, rel=1.01)
    same = transfer_predictors(table, **made.carriers(seeds=(1, 2)), draws=50, untrained=["r2d2"])
    assert same["seed"].notna().all()  # the same checkpoints twice are no two tries


def test_two_predictors_share_their_rows(table):
    parts = made.carriers()
    parts["trajectory"] = parts["trajectory"].assign(fixed_asr=lambda f: f["fixed_asr"].where(f["step"] != 30))
    mine = family_rows(table[table["regime"] == "r2d2"], ("gcg",))
    first, second = analysis_rows(
        mine, checkpoint_values(**parts), BY_NAME["target_hrci_repr"], BY_NAME["target_fixed_asr"]
    )
    assert len(first.tasr) == len(second.tasr) == 16
    assert (first.target == second.target).all()
