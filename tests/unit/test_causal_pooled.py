"""Effects over seeds against loops, brute force and closed forms."""

import itertools

import numpy as np
import pandas as pd
import pytest
import synthetic_sweep as made
from scipy import stats

from safety_geometry.artefacts.tables.files import check_table
from safety_geometry.artefacts.tables.registry import TABLES
from safety_geometry.causal.effects import control_normalised
from safety_geometry.causal.pooled import mean_p, sweep_pooled
from safety_geometry.settings.identity import Checkpoint

TARGET = "ablate:r_only:1"
POOLED = ("random", "covariance", "shuffled")
SEEDS = (42, 43, 44)


def wide(readout: pd.DataFrame) -> pd.DataFrame:
    """Differences of the log-odds to clean, cells by prompts."""
    rows = readout[readout["quantity"] == "log_odds"]
    values = rows.set_index(["cell", "prompt_id"])["value"].unstack()  # noqa: PD010
    return values - values.loc["clean"]


def one(seed: int, effect: float = -2.0, regime: str = "r2d2", **changes):
    cells = made.cells(**changes)
    judged = made.judged(cells, {TARGET: 0.75}, seed=seed)
    return Checkpoint(seed, regime, 30, "30"), (cells, made.readout(cells, {TARGET: effect}, seed=seed), judged)


@pytest.fixture(scope="module")
def sweeps():
    return dict(one(seed, -1.0 - i) for i, seed in enumerate(SEEDS))


@pytest.fixture(scope="module")
def table(sweeps):
    return sweep_pooled(sweeps, 3, 300)


def test_the_table_fits_its_schema(table):
    check_table(table, TABLES["sweep_pooled"])
    assert len(table) == 2 * 7 and (table["n_seeds"] == 3).all()  # targets, metrics


def test_estimates_are_the_means_of_the_seeds(sweeps, table):
    seeds = [control_normalised(*sweep, draws=50) for sweep in sweeps.values()]
    for row in table.to_dict("records"):
        mine = [
            frame[
                (frame["target"] == row["target"]) & (frame["metric"] == row["metric"]) & (frame["control"] == "pooled")
            ]
            for frame in seeds
        ]
        mine = pd.concat(mine)
        assert len(mine) == 3
        for name in ("delta", "control_mean", "delta_control"):
            assert row[name] == pytest.approx(mine[name].mean(), abs=1e-12)
        assert row["n_prompts"] == mine["n_prompts"].sum() and row["n_controls"] == mine["n_controls"].min()
        mean, error = mine["delta_control"].mean(), stats.sem(mine["delta_control"])
        if error > 0:
            wanted = stats.t.interval(0.95, 2, mean, error)
            assert (row["lo_seeds"], row["hi_seeds"]) == pytest.approx(wanted, abs=1e-9)
        assert row["lo"] - 1e-9 <= row["delta_control"] <= row["hi"] + 1e-9


def test_the_conditional_interval_has_the_variance_of_independent_seeds():
    """Each seed's prompts and controls are resampled by themselves: variances add up, over n²."""
    sweeps = dict(one(seed, numbers={"random": 30}, modes=("r_only",)) for seed in SEEDS)
    row = sweep_pooled({c: (cells, readout, None) for c, (cells, readout, _) in sweeps.items()}, 0, 4000).query(
        "metric == 'log_odds'"
    )
    variance = 0.0
    for _, readout, _ in sweeps.values():
        moved = wide(readout)
        own, others = moved.loc[TARGET].to_numpy(), moved.drop(index=["clean", TARGET]).to_numpy()
        variance += (own - others.mean(0)).var() / len(own) + others.mean(1).var() / len(others)
    half = 1.96 * np.sqrt(variance) / 3
    assert (row["hi"] - row["lo"]).item() / (2 * half) == pytest.approx(1, abs=0.1)


def test_p_over_seeds_against_brute_force(sweeps, table):
    """The mean over seeds of the target among the means of the i-th random, covariance-matched and shuffled controls."""
    effects = []
    for _, readout, _ in sweeps.values():
        moved = wide(readout).mean(axis=1)
        names = {"target": [TARGET]}
        for kind, count in made.NUMBERS.items():
            owner = "shared" if kind == "random" else TARGET
            names[kind] = [f"{owner}/{kind}/{i}" for i in range(count)]
        effects.append({kind: moved[cells_of].to_numpy() for kind, cells_of in names.items()})
    everything = [sum(seed["target"][0] for seed in effects) / 3]
    for kind in POOLED:
        for i in range(made.NUMBERS[kind]):
            everything.append(sum(seed[kind][i] for seed in effects) / 3)
    distance = [abs(value - np.mean(everything)) for value in everything]
    expected = sum(d >= distance[0] - 1e-9 for d in distance) / len(distance)
    (row,) = table[table["p_permutation"].notna()].to_dict("records")
    assert (row["target"], row["metric"]) == (TARGET, "log_odds")
    assert (row["p_permutation"], row["p_smallest"]) == pytest.approx((expected, 1 / 11))
    assert row["n_controls"] == 10


def test_p_over_seeds_is_exact_where_the_target_is_one_of_its_controls():
    """Every direction in the target's place, the same in all seeds, has another rank: each p once."""
    values = np.random.default_rng(0).gamma(2.0, size=(3, 15))
    found = [mean_p(values[:, i], [{"random": np.delete(v, i)} for v in values])[0] for i in range(15)]
    np.testing.assert_allclose(sorted(found), np.arange(1, 16) / 15)


def test_p_over_seeds_keeps_its_level_where_seeds_differ():
    """Seeds of quite different spread, and kinds of different spread within a seed."""
    rng, small = np.random.default_rng(1), 0
    for _ in range(1500):
        effects, controls = [], []
        for spread in (0.2, 1.0, 4.0):
            values = spread * rng.normal(size=20)
            effects.append(values[0])
            controls.append({"random": values[1:10], "shuffled": values[10:]})
        p, least, n = mean_p(effects, controls)
        assert (least, n) == (1 / 20, 19)
        small += p <= 0.1
    assert small / 1500 == pytest.approx(0.1, abs=0.025)


def test_directions_go_by_index_as_far_as_the_seed_with_the_fewest_goes():
    controls = [{"random": np.array([1.0, 2.0, 9.0]), "shuffled": np.array([4.0])}, {"random": np.array([3.0, 6.0])}]
    p, least, n = mean_p([10.0, 12.0], controls)
    assert n == 2 and least == p == pytest.approx(1 / 3)  # means 2 and 4 beside 11


def test_capped_controls_leave_the_others_their_turn():
    """In one seed the first random control is capped: its second takes the first place beside the other seeds."""
    sweeps = dict(one(seed, modes=("r_only",), numbers={"random": 3}) for seed in SEEDS[:2])
    first = next(iter(sweeps))
    cells, readout, _ = sweeps[first]
    capped = cells.assign(capped=cells["cell"] == "shared/random/0")
    changed = sweeps | {first: (capped, readout, None)}
    (row,) = sweep_pooled(changed, 0, 50).query("p_permutation.notna()").to_dict("records")
    other = sweeps[Checkpoint(43, "r2d2", 30, "30")][1]
    moved = [wide(frame).mean(axis=1) for frame in (readout, other)]
    names = [(TARGET, TARGET), *((f"shared/random/{i}", f"shared/random/{j}") for i, j in ((1, 0), (2, 1)))]
    means = np.array([(moved[0][a] + moved[1][b]) / 2 for a, b in names])
    distance = np.abs(means - means.mean())
    assert row["p_permutation"] == pytest.approx((distance >= distance[0] - 1e-9).sum() / 3)
    assert row["n_controls"] == 2


def test_holm_runs_over_the_primary_cells_of_a_regime():
    regimes = {"r2d2": ("r_only", "h_only"), "sft": ("r_only",)}
    sweeps = {}
    for (regime, primary), seed in itertools.product(regimes.items(), (42, 43)):
        sweeps |= dict([one(seed, regime=regime, primary=primary, numbers={"random": 39})])
    table = sweep_pooled(sweeps, 0, 50)
    tested = table[table["p_permutation"].notna()]
    r2d2, sft = (tested[tested["regime"] == name].set_index("target") for name in ("r2d2", "sft"))
    assert len(r2d2) == 2 and len(sft) == 1
    assert r2d2.loc[TARGET, "p_permutation"] == r2d2.loc[TARGET, "p_smallest"] == pytest.approx(1 / 40)
    assert r2d2.loc[TARGET, "p_holm"] == pytest.approx(2 / 40) and sft.loc[TARGET, "p_holm"] == pytest.approx(1 / 40)
    assert r2d2["p_holm"].max() == pytest.approx(max(2 / 40, r2d2["p_permutation"].max()))


def test_seeds_without_a_target_are_left_out_and_one_has_no_interval_over_seeds():
    sweeps = dict([one(42, modes=("r_only",)), one(43)])
    table = sweep_pooled(sweeps, 0, 50).set_index(["target", "metric"])
    assert table.loc[("ablate:h_only:1", "log_odds"), "n_seeds"] == 1
    assert table.loc[(TARGET, "log_odds"), "n_seeds"] == 2
    alone = table[table["n_seeds"] == 1]
    assert alone[["lo_seeds", "hi_seeds"]].isna().all(axis=None) and alone["lo"].notna().all()
