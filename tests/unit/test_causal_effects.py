"""Effects of a sweep against float64 loops, closed forms and simulated nulls."""

import functools
import itertools

import numpy as np
import pandas as pd
import pytest
import synthetic_sweep as made

from safety_geometry.artefacts.tables.files import check_table
from safety_geometry.artefacts.tables.registry import TABLES
from safety_geometry.causal.effects import (
    control_normalised,
    exchanged_p,
    holm_primary,
    sweep_table,
    two_level,
)
from safety_geometry.causal.layer_scan import layer_scan
from safety_geometry.causal.names import KINDS, SHARED
from safety_geometry.causal.outcomes import outcome_matrix
from safety_geometry.judges.behaviour import paired_rates
from safety_geometry.stats.seeds import generator

EFFECT = -3.0
TARGET = "ablate:r_only:1"


@pytest.fixture(scope="module")
def sweep():
    cells = made.cells()
    return cells, made.readout(cells, {TARGET: EFFECT}), made.judged(cells, {TARGET: 0.75})


@pytest.fixture(scope="module")
def table(sweep):
    return control_normalised(*sweep, rng_seed=3, draws=400)


def values(readout, cell, quantity="log_odds"):
    rows = readout[(readout["cell"] == cell) & (readout["quantity"] == quantity)]
    return dict(zip(rows["prompt_id"], rows["value"], strict=True))


def test_tables_fit_their_schemas(sweep, table):
    check_table(made.named(sweep_table(*sweep)), TABLES["causal_sweep"])
    check_table(holm_primary(made.named(table)), TABLES["control_normalised"])


def test_every_number_against_a_loop_over_cells_and_prompts(sweep, table):
    """Point estimates of every metric and kind of control, prompt by prompt in float64."""
    cells, readout, judged = sweep
    suites = {"asr": ("direct", "attack_success"), "any_refusal": ("lookalike", "any_refusal"),
              "benign_mean": ("utility", "utility"), "degenerate": (None, "degenerate"),
              "direct_refusal": ("direct", "any_refusal")}  # fmt: skip

    @functools.cache
    def measured(cell, metric):
        if metric in ("log_odds", "kl"):
            found = values(readout, cell, metric)
            return found or dict.fromkeys(values(readout, TARGET, metric), 0.0)  # clean has no KL of its own
        suite, column = suites[metric]
        rows = judged[(judged["arm"] == cell) & ((judged["suite"] == suite) | (suite is None))]
        return {(r["suite"], r["prompt_id"]): float(r[column]) for r in rows.to_dict("records")}

    assert len(table) == 2 * 7 * 6  # targets, metrics, pooled and five kinds
    for row in table.to_dict("records"):
        clean, mine = measured("clean", row["metric"]), measured(row["target"], row["metric"])
        kinds = SHARED if row["control"] == "pooled" else (row["control"],)
        ids = [c["cell"] for c in cells.to_dict("records") if c["target"] == row["target"] and c["control"] in kinds]
        effects = [sum(measured(c, row["metric"])[p] - clean[p] for p in clean) / len(clean) for c in ids]
        delta = sum(mine[p] - clean[p] for p in clean) / len(clean)
        expected = {
            "value": sum(mine.values()) / len(mine), "baseline": sum(clean.values()) / len(clean), "delta": delta,
            "control_mean": sum(effects) / len(effects), "delta_control": delta - sum(effects) / len(effects),
            "n_prompts": len(clean), "n_controls": len(ids), "removed_energy": 0.1, "control_energy": 0.02, "control_cos": 0.1,
        }  # fmt: skip
        assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-12)
        assert row["lo"] <= row["delta_control"] + 1e-12 and row["delta_control"] <= row["hi"] + 1e-12
        assert bool(row["primary"]) == (row["target"] == TARGET)


def test_rates_stand_beside_the_baseline_and_the_control_that_is_exceeded_least(sweep, table):
    """Newcombe's interval of the target less the model as it is, less half of it, and less each control, prompt by
    prompt; of the controls the one whose interval reaches furthest back."""
    cells, _, judged = sweep

    def answers(cell, column):
        rows = judged[(judged["arm"] == cell) & (judged["suite"] == "direct")]
        return rows.sort_values("prompt_id")[column].to_numpy(float)

    for metric, column in (("asr", "attack_success"), ("direct_refusal", "any_refusal")):
        for row in table[table["metric"] == metric].to_dict("records"):
            mine, clean = answers(row["target"], column), answers("clean", column)
            assert (row["delta_lo"], row["delta_hi"]) == pytest.approx(paired_rates(mine, clean))
            kinds = SHARED if row["control"] == "pooled" else (row["control"],)
            ids = cells.loc[(cells["target"] == row["target"]) & cells["control"].isin(kinds), "cell"]
            ends = [(*paired_rates(mine, answers(c, column)), (mine - answers(c, column)).mean()) for c in ids]
            worst = min(ends, key=lambda e: e[0]) if row["delta"] > 0 else max(ends, key=lambda e: e[1])
            found = row["worst_lo"], row["worst_hi"], row["worst_delta"]
            assert found == pytest.approx(worst)
            if metric == "direct_refusal":
                assert row["halved"] == pytest.approx(clean.mean() / 2 - mine.mean())
                assert (row["halved_lo"], row["halved_hi"]) == pytest.approx(paired_rates(clean, mine, factor=0.5))
    rest = table[~table["metric"].isin(["asr", "direct_refusal", "any_refusal", "degenerate"])]
    assert rest["worst_lo"].isna().all() and table.loc[table["metric"] != "direct_refusal", "halved"].isna().all()


def test_half_of_a_rate_less_another_covers_its_truth():
    """Outcomes of a model that refuses half of the requests, of which an edit leaves some: of 1000 intervals not far
    from 95 % hold the truth, and a factor of 1 is Newcombe's own."""
    rng, n, kept = np.random.default_rng(3), 100, 0.4
    before = rng.random((1000, n)) < 0.5
    after = before & (rng.random((1000, n)) < kept)
    ends = np.array([paired_rates(a, b, factor=0.5) for a, b in zip(before * 1.0, after * 1.0, strict=True)])
    truth = 0.25 - 0.5 * kept
    assert 0.93 < np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])) < 0.985
    assert paired_rates(before[0] * 1.0, after[0] * 1.0) == paired_rates(before[0] * 1.0, after[0] * 1.0, factor=1.0)


def test_permutation_p_against_ranks_by_hand(sweep, table):
    """The pooled p decides; that of a kind has columns of its own."""
    cells, readout, _ = sweep
    pooled, kinds = table[table["p_permutation"].notna()], table[table["p_kind"].notna()]
    tested = pd.concat([pooled, kinds])
    assert set(tested["target"]) == {TARGET} and set(tested["metric"]) == {"log_odds"}
    assert pooled["control"].tolist() == ["pooled"]
    assert set(kinds["control"]) == {"random", "covariance", "shuffled", "wrong_layer", "norm_matched"}
    for row in tested.to_dict("records"):
        names = ("p_permutation", "p_smallest") if row["control"] == "pooled" else ("p_kind", "p_kind_smallest")
        p, least = (row[name] for name in names)
        kinds = SHARED if row["control"] == "pooled" else (row["control"],)
        ids = cells.loc[(cells["target"] == TARGET) & cells["control"].isin(kinds), "cell"]
        effects = [np.mean(list(values(readout, c).values())) for c in [TARGET, *ids]]
        distance = [abs(e - np.mean(effects)) for e in effects]
        expected = sum(d >= distance[0] - 1e-9 for d in distance) / len(distance)
        assert (p, least) == pytest.approx((expected, 1 / len(distance)))
    (row,) = pooled.to_dict("records")
    assert row["p_permutation"] == row["p_smallest"] == pytest.approx(1 / 11)


def test_p_is_uniform_when_the_target_is_one_of_its_controls():
    """Each of m + 1 exchangeable effects gets another rank, so the p values are exactly 1/(m+1), 2/(m+1) ... once each."""
    effects = np.random.default_rng(0).gamma(2.0, size=20)  # skewed: a centre of the controls alone would not do
    p = [exchanged_p(effects[i], np.delete(effects, i))[0] for i in range(20)]
    np.testing.assert_allclose(sorted(p), np.arange(1, 21) / 20)


def test_p_keeps_its_level_where_a_centre_of_the_controls_alone_does_not():
    rng = np.random.default_rng(1)
    many = [exchanged_p(e[0], e[1:])[0] for e in rng.normal(size=(1500, 40))]
    assert np.mean(np.array(many) <= 0.1) == pytest.approx(4 / 41, abs=0.025)
    few = rng.normal(size=(1500, 4))
    assert np.mean([exchanged_p(e[0], e[1:])[0] <= 0.25 for e in few]) == pytest.approx(0.25, abs=0.035)
    off = np.abs(few - few[:, 1:].mean(axis=1, keepdims=True))
    assert np.mean(off[:, 0] >= off[:, 1:].max(axis=1)) > 0.3


def test_p_is_two_sided_and_ties_count_against_the_target():
    null = np.linspace(-1, 1, 9)
    assert exchanged_p(5.0, null) == exchanged_p(-5.0, null) == (0.1, 0.1)
    assert exchanged_p(0.0, np.zeros(9)) == (1.0, 0.1)
    assert exchanged_p(0.1 + 0.2, np.full(9, 0.3))[0] == 1.0


def test_two_level_interval_is_the_exact_distribution_in_a_small_case():
    """Two controls and one prompt pattern: controls' mean is -1, 0 or 1 with 1/4, 1/2, 1/4."""
    draws = 4000
    lo, hi = two_level(np.full(draws, 2.0), np.array([np.full(draws, -1.0), np.full(draws, 1.0)]), 5)
    assert (lo, hi) == (1.0, 3.0)
    assert two_level(np.linspace(0, 1, draws), np.zeros((1, draws)), 5) == pytest.approx((0.025, 0.975))


def test_interval_matches_a_loop_over_the_draws():
    """Every draw repeats prompts and controls as often as its weights say; a target's draws depend on the sizes only."""
    cells = made.cells(("r_only",), {"random": 3})
    readout = made.readout(cells, n=6, kl=False)
    row = control_normalised(cells, readout, None, 2, 30).iloc[0]
    wide = outcome_matrix("log_odds", readout, None)
    target, controls = wide.loc[TARGET].to_numpy(), wide.drop(index=[TARGET, "clean"]).to_numpy()
    prompts, drawn = (
        generator(2, stream, n).multinomial(n, np.full(n, 1 / n), size=30)
        for stream, n in (("prompts", 6), ("controls", 3))
    )
    values = []
    for p, c in zip(prompts, drawn, strict=True):
        i, j = np.repeat(np.arange(6), p), np.repeat(np.arange(3), c)
        values.append(target[i].mean() - controls[np.ix_(j, i)].mean())
    assert (row["lo"], row["hi"]) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))


def test_interval_is_paired_and_covers_prompts_and_controls():
    """Prompts that shift target and controls alike add nothing; the variance is that of prompts plus that of controls."""
    rng = np.random.default_rng(4)
    cells = made.cells(("r_only",), {"random": 40})
    readout = made.readout(cells, n=30, kl=False)
    shift = dict(zip(sorted(set(readout["prompt_id"])), rng.normal(size=30) * 50, strict=True))
    moved = readout.assign(value=readout["value"] + readout["prompt_id"].map(shift))
    first, second = (control_normalised(cells, r, None, 0, 500) for r in (readout, moved))
    columns = ["delta", "control_mean", "delta_control", "lo", "hi"]
    np.testing.assert_allclose(first[columns].to_numpy(), second[columns].to_numpy(), atol=1e-9)

    wide = outcome_matrix("log_odds", readout, None)
    y, c = wide.loc[TARGET].to_numpy(), wide.drop(index=[TARGET, "clean"]).to_numpy()
    spread = rng.normal(size=40) * 2
    rows = readout.set_index("cell")["value"]
    named = dict(zip(wide.index.drop([TARGET, "clean"]), spread, strict=True))
    spread_out = readout.assign(value=rows.to_numpy() + readout["cell"].map(named).fillna(0).to_numpy())
    row = control_normalised(cells, spread_out, None, 0, 2000).iloc[0]
    per_prompt, per_control = y - c.mean(0), (c + spread[:, None]).mean(1)
    standard = np.sqrt(per_prompt.var() / 30 + per_control.var() / 40)
    assert (row["hi"] - row["lo"]) / (2 * 1.96 * standard) == pytest.approx(1, abs=0.12)


def test_one_control_is_not_resampled():
    cells = made.cells(("r_only",), {"norm_matched": 1})
    readout = made.readout(cells, n=40, kl=False)
    row = control_normalised(cells, readout, None, 0, 2000).iloc[0]
    wide = outcome_matrix("log_odds", readout, None)
    difference = wide.loc[TARGET] - wide.loc[f"{TARGET}/norm_matched/0"]
    half = 1.96 * difference.std(ddof=0) / np.sqrt(40)
    assert row["n_controls"] == 1
    assert (row["lo"], row["hi"]) == pytest.approx(
        (difference.mean() - half, difference.mean() + half), abs=0.15 * half
    )


def test_results_do_not_depend_on_the_order_of_rows_or_on_other_targets(sweep, table):
    cells, readout, judged = sweep
    shuffled = [f.sample(frac=1, random_state=2) for f in (readout, judged)]
    pd.testing.assert_frame_equal(control_normalised(cells, *shuffled, rng_seed=3, draws=400), table)
    alone = cells[(cells["target"] == TARGET) | (cells["cell"] == "clean")]
    mine = table[table["target"] == TARGET].reset_index(drop=True)
    pd.testing.assert_frame_equal(control_normalised(alone, readout, judged, rng_seed=3, draws=400), mine)
    other = control_normalised(*sweep, rng_seed=4, draws=400)
    assert not np.allclose(other["lo"], table["lo"])


def test_metrics_that_were_not_measured_have_no_row():
    cells = made.cells()
    readout = made.readout(cells, kl=False)
    some = cells[~cells["cell"].str.contains("shuffled|shared/random/[345]")]
    table = control_normalised(cells, readout, made.judged(some), draws=50)
    n = table.set_index(["target", "metric", "control"])["n_controls"]
    assert n[TARGET, "log_odds", "pooled"] == 10 and n[TARGET, "asr", "pooled"] == 5
    assert (TARGET, "asr", "shuffled") not in n.index and "kl" not in set(table["metric"])
    bare = cells[cells["control"].isin(["target", "baseline"])]
    nothing = control_normalised(bare, readout[readout["cell"].isin(bare["cell"])], None)
    assert nothing.empty and list(nothing.columns) == list(table.columns)


def test_sweep_table_numbers(sweep):
    cells, readout, judged = sweep
    table = sweep_table(cells, readout, judged)
    assert len(table) == len(cells)
    row = table[(table["target"] == TARGET) & (table["control"] == "target")].iloc[0]
    assert (row["asr"], row["n_asr"], row["asr_delta"]) == (0.75, 12, 0.5)
    assert 0 < row["asr_delta_lo"] < 0.5 < row["asr_delta_hi"] < 1
    assert row["n_degenerate"] == sum(made.SUITES.values())
    mine, clean = values(readout, TARGET), values(readout, "clean")
    assert row["log_odds_delta"] == pytest.approx(np.mean([mine[p] - clean[p] for p in clean]))
    base = table[table["control"] == "baseline"].iloc[0]
    assert pd.isna(base["target"]) and base["log_odds_delta"] == 0 and base["kl_benign"] == 0
    assert (base["asr_delta"], base["asr_delta_lo"], base["asr_delta_hi"]) == (0, 0, 0)
    shared = table[(table["control"] == "random") & (table["number"] == 0)]
    assert shared["target"].nunique() == 2 and len(set(shared["log_odds"])) == 1
    unmeasured = sweep_table(cells, readout, None)
    assert unmeasured["asr"].isna().all() and unmeasured["n_asr"].isna().all()
    check_table(made.named(unmeasured), TABLES["causal_sweep"])


def test_seeds_are_written_in_full(sweep):
    """With six digits, as other numbers of a table, a control could not be drawn again."""
    cells, readout, _ = sweep
    seeds = cells["control_seed_h"].where(cells["control_seed_h"].isna(), 4166823901)
    written = sweep_table(cells.assign(control_seed_h=seeds), readout, None).to_csv(float_format="%.6g")
    assert written.count(",4166823901,") == seeds.notna().sum() > 0


def test_cells_with_other_prompts_are_named(sweep):
    cells, readout, judged = sweep
    lacking = readout.drop(
        readout.index[(readout["cell"] == "shared/random/1") & (readout["prompt_id"] == "direct-03")]
    )
    with pytest.raises(ValueError, match=r"cell shared/random/1: log_odds has 1 prompts of clean missing"):
        control_normalised(cells, lacking, None)
    short = readout.drop(readout.index[(readout["cell"] == "clean") & (readout["prompt_id"] == "direct-03")])
    with pytest.raises(ValueError, match="1 prompts that clean lacks"):
        sweep_table(cells, short, None)
    with pytest.raises(ValueError, match="cell clean has no log_odds"):
        sweep_table(cells, readout[readout["cell"] != "clean"], None)
    with pytest.raises(ValueError, match=f"cell {TARGET}: a prompt occurs twice in asr"):
        extra = judged[(judged["arm"] == TARGET) & (judged["suite"] == "direct")]
        sweep_table(cells, None, pd.concat([judged, extra]))
    with pytest.raises(ValueError, match="cell clean: 6 prompts have no benign_mean"):
        sweep_table(cells, None, judged.assign(utility=judged["utility"].where(judged["arm"] != "clean")))


def test_holm_runs_over_the_primary_cells_of_a_seeds_regime():
    """Two cells each in two regimes of two seeds: the lesser p counts twice, whatever the other regimes have."""
    p = {(1, "r2d2"): (0.01, 0.04), (1, "sft"): (0.03, 0.02), (2, "r2d2"): (0.6, 0.7), (2, "sft"): (0.001, np.nan)}
    rows = [{"seed": s, "regime": r, "primary": True, "metric": "log_odds", "control": c, "p_permutation": value if c == "pooled" else np.nan}
            for (s, r), values in p.items() for value in values for c in ("pooled", "random")]  # fmt: skip
    frame = pd.DataFrame(rows, index=range(10, 10 + len(rows)))
    found = holm_primary(frame)
    pooled = found[found["control"] == "pooled"].groupby(["seed", "regime"], sort=False)["p_holm"].agg(list)
    assert pooled[1, "r2d2"] == pytest.approx([0.02, 0.04])
    assert pooled[1, "sft"] == pytest.approx([0.04, 0.04])
    assert pooled[2, "r2d2"] == pytest.approx([1.0, 1.0])
    assert pooled[2, "sft"] == pytest.approx([0.001, np.nan], nan_ok=True)  # a test that was not made is not counted
    assert found["p_holm"].notna().sum() == 7 and list(found.index) == list(frame.index)
    other = frame.assign(primary=frame["regime"] == "sft")
    assert holm_primary(other).query("regime == 'r2d2'")["p_holm"].isna().all()


def test_capped_controls_count_nowhere_but_in_their_number(sweep, table):
    """As if they had not been drawn; the table of all interventions keeps them."""
    cells, readout, judged = sweep
    capped = cells["cell"].isin(["shared/random/1", f"{TARGET}/covariance/0", f"{TARGET}/norm_matched/0"])
    found = control_normalised(cells.assign(capped=capped), readout, judged, rng_seed=3, draws=400)
    without = control_normalised(cells[~capped], readout, judged, rng_seed=3, draws=400)
    pd.testing.assert_frame_equal(found.drop(columns="n_capped"), without.drop(columns="n_capped"))
    counts = found[found["metric"] == "log_odds"].set_index(["target", "control"])[["n_controls", "n_capped"]]
    assert counts.loc[(TARGET, "pooled")].tolist() == [8, 2] and counts.loc[(TARGET, "shuffled")].tolist() == [2, 0]
    assert (TARGET, "norm_matched") not in counts.index
    row = found[found["p_permutation"].notna()].iloc[0]
    assert row["p_smallest"] == pytest.approx(1 / 9)
    assert len(sweep_table(cells.assign(capped=capped), readout, judged)) == len(cells)


def test_wrong_way_is_the_share_of_prompts_against_what_the_strength_is_for():
    """By hand: of four prompts one rises and two fall; what counts as wrong depends on family and sign."""
    cells = made.cells(("r_only",), {"random": 1})
    moves = {"clean": [0.0] * 4, TARGET: [0.5, -0.1, -0.2, 0.0], "shared/random/0": [1.0, 1.0, 1.0, -1.0]}
    readout = pd.DataFrame(
        [(cell, "log_odds", f"p{i}", 1.0 + v) for cell, values in moves.items() for i, v in enumerate(values)],
        columns=["cell", "quantity", "prompt_id", "value"],
    )
    for family, strength, wrong in (
        ("ablate", 1.0, (0.25, 0.75)), ("ablate", -1.0, (0.5, 0.25)), ("steer", 0.5, (0.5, 0.25)),
        ("steer", -2.0, (0.25, 0.75)),
    ):  # fmt: skip
        acts = cells["control"] != "baseline"
        changed = cells.assign(
            **{"family": cells["family"].where(~acts, family), "lambda": cells["lambda"].where(~acts, strength)}
        )
        found = sweep_table(changed, readout, None).set_index("control")["wrong_way"]
        assert (found["target"], found["random"]) == wrong and np.isnan(found["baseline"])


def test_kl_over_answers_is_a_metric_of_cells_that_answer():
    cells = made.cells(("r_only",), {"random": 2})
    rows = [
        (cell, "kl_answer", f"b{i}", value + i)
        for cell, value in ((TARGET, 0.4), ("shared/random/0", 0.1))
        for i in (0, 1)
    ]
    readout = pd.concat([made.readout(cells), pd.DataFrame(rows, columns=["cell", "quantity", "prompt_id", "value"])])
    table = sweep_table(cells, readout, None)
    target = table[table["control"] == "target"].iloc[0]
    assert (target["kl_answer"], target["n_kl_answer"]) == (pytest.approx(0.9), 2)
    assert table.loc[table["control"] == "baseline", "kl_answer"].tolist() == [0.0]
    found = control_normalised(cells, readout, None, draws=50).query("metric == 'kl_answer' and control == 'pooled'")
    assert found["delta_control"].tolist() == pytest.approx([0.3]) and found["n_controls"].tolist() == [1]


def scanned(layers=(2, 9), modes=("r_only", "h_plus_r"), controls=("scan_random", "scan_covariance"), **changes):
    """Cells of a layer scan, each with a control of each kind."""
    rows = []
    for layer, mode in itertools.product(layers, modes):
        name = f"scan/{mode}/{layer}"
        common = made.operation(mode, 1.0, **changes) | {
            "target": name,
            "layer_h": layer if mode == "h_plus_r" else np.nan,
        }
        common |= {"layer_r": layer, "capped": False}
        rows.append({"cell": name, "control": "layer_scan", "number": layer} | common)
        rows += [{"cell": f"{name}/{kind}", "control": kind, "number": 0} | common for kind in controls]
    return pd.concat([made.cells(()), pd.DataFrame(rows)], ignore_index=True)


def test_layer_scan_reads_the_layer_and_keeps_the_carriers_own():
    cells = scanned()
    readout = made.readout(cells, {"scan/r_only/9": EFFECT}, n=20)
    table = layer_scan(cells, readout, (14, 9), rng_seed=0, draws=300)
    check_table(made.named(table), TABLES["layer_scan"])
    assert table["layer"].tolist() == [2, 2, 9, 9] and (table[["layer_h", "layer_r"]] == [14, 9]).all(axis=None)
    row = table[(table["mode"] == "r_only") & (table["layer"] == 9)].iloc[0]
    mine, clean = values(readout, "scan/r_only/9"), values(readout, "clean")
    assert row["log_odds_delta"] == pytest.approx(np.mean([mine[p] - clean[p] for p in clean]))
    assert row["lo"] < row["log_odds_delta"] < row["hi"] < EFFECT / 2
    others = [values(readout, f"scan/r_only/9/scan_{kind}") for kind in ("random", "covariance")]
    mean = np.mean([other[p] - clean[p] for other in others for p in clean])
    assert (row["control_mean"], row["n_controls"]) == (pytest.approx(mean), 2)
    assert row["delta_control"] == pytest.approx(row["log_odds_delta"] - mean)
    assert row["delta_control_lo"] < row["delta_control"] < row["delta_control_hi"]
    assert not table["recommended"].any()  # without a budget
    assert len(sweep_table(cells, readout, None)) == 1
    cells.loc[cells["cell"] == "scan/h_plus_r/2", "layer_h"] = 3
    with pytest.raises(ValueError, match=r"cell scan/h_plus_r/2: a layer scan acts at one layer, got \[2, 3\]"):
        layer_scan(cells, readout, (14, 9))


def test_layer_scan_without_controls_and_with_capped_ones():
    cells = scanned(modes=("r_only",))
    readout = made.readout(cells, n=8)
    capped = cells["cell"] == "scan/r_only/2/scan_random"
    table = layer_scan(cells.assign(capped=capped), readout, (14, 9), 1.0, draws=50)
    assert table["n_controls"].tolist() == [1, 2]
    bare = layer_scan(scanned(modes=("r_only",), controls=()), readout, (14, 9), 1.0, draws=50)
    check_table(made.named(bare), TABLES["layer_scan"])
    assert bare["delta_control"].isna().all() and not bare["recommended"].any() and (bare["n_controls"] == 0).all()


@pytest.mark.parametrize(("family", "sign"), [("ablate", -1), ("steer", 1)])
def test_the_recommended_cell_has_the_largest_effect_beyond_its_controls_within_the_budget(family, sign):
    """Layer 4 moves most, and costs too much; layer 6 moves more than 8, but so do its controls; at layer 10 the effect has
    the other sign. So it is 8."""
    cells = scanned((2, 4, 6, 8, 10), ("r_only",), family=family)
    moves = {4: 6.0, 6: 5.0, 8: 3.0, 10: -7.0}
    effects = {f"scan/r_only/{layer}": sign * value for layer, value in moves.items()}
    effects |= {f"scan/r_only/6/scan_{kind}": sign * 4.0 for kind in ("random", "covariance")}
    readout = made.readout(cells, effects, n=12)
    kl = readout["quantity"] == "kl"
    readout.loc[kl, "value"] = np.where(readout.loc[kl, "cell"] == "scan/r_only/4", 0.3, 0.05)
    table = layer_scan(cells, readout, (4, 4), 0.1, draws=200).set_index("layer")
    assert table.index[table["recommended"]].tolist() == [8]
    dear = layer_scan(cells, readout, (4, 4), 0.5, draws=200).set_index("layer")
    assert dear.index[dear["recommended"]].tolist() == [4]
    assert not layer_scan(cells, readout, (4, 4), 0.01, draws=200)["recommended"].any()
    nothing = layer_scan(
        cells, made.readout(cells, {}, n=12).assign(value=lambda f: f["value"] * 0), (4, 4), 0.1, draws=200
    )
    assert not nothing["recommended"].any()  # an interval that holds 0


def test_kinds_are_those_of_the_schema():
    assert set(SHARED) < set(KINDS) and len(KINDS) == 7
