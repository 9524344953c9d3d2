"""Figures of transfer and of the dense diagnostics: they show what the tables say, name what lacks, and have the same bytes twice."""

import numpy as np
import pandas as pd
import pytest
import synthetic_transfer as made

from safety_geometry.attacks.transfer import PREDICTORS, transfer_predictors, transfer_table
from safety_geometry.figures.dense import why_not
from safety_geometry.figures.draw import FIGURES, NoData, make_figure, save
from safety_geometry.figures.style import GREY
from safety_geometry.figures.transfer import places
from safety_geometry.figures.transfer_predictors import LABELS
from safety_geometry.geometry.dense import coupling_transition, dense_correlations

NEEDS = {
    "transfer": ("transfer", "tasr"),
    "transfer_predictors": ("transfer_predictors", "n"),
    "dense": ("trajectory", "hrci_repr_frozen"),
}


@pytest.fixture(scope="module")
def tables():
    transfer = transfer_table(made.judged())
    predictors = transfer_predictors(transfer, **made.carriers(), draws=50)
    saves = pd.concat([made.saves(), made.saves(12, 5, regime="sft", seed=2)])
    return {
        "transfer": pd.concat([transfer, transfer.assign(seed=2)]),
        "transfer_predictors": pd.concat([predictors, predictors.assign(seed=2), predictors.assign(seed=pd.NA)]),
        "trajectory": saves,
        "dense_correlations": dense_correlations(saves, (3, 8), 50),
        "coupling_transition": coupling_transition(saves, 100),
    }


def words(figure) -> str:
    texts = [figure.get_suptitle()]
    for ax in figure.axes:
        labels = (
            ax.title,
            ax._left_title,
            ax.xaxis.label,
            ax.yaxis.label,
            *ax.texts,
            *ax.get_xticklabels(),
            *ax.get_yticklabels(),
        )
        texts += [t.get_text() for t in labels]
    return "\n".join(texts + [t.get_text() for legend in figure.legends for t in legend.get_texts()])


@pytest.mark.parametrize("name", NEEDS)
def test_missing_data_is_named(tables, name):
    table, column = NEEDS[name]
    with pytest.raises(NoData, match="is missing or empty"):
        make_figure(name, {})
    with pytest.raises(NoData, match=f"the table {table} is missing or empty"):
        make_figure(name, tables | {table: tables[table].iloc[:0]})
    with pytest.raises(NoData, match=f"{table} has no values in {column}"):
        make_figure(name, tables | {table: tables[table].assign(**{column: np.nan})})


@pytest.mark.parametrize("name", NEEDS)
def test_same_bytes_twice_and_every_regime_in_words(tables, name, tmp_path):
    tables = tables | {"transfer": tables["transfer"].query("target >= 40 and source >= 40")}
    for i in range(2):
        figure = make_figure(name, tables)
        save(figure, tmp_path / f"{i}.svg")
    assert (tmp_path / "0.svg").read_bytes() == (tmp_path / "1.svg").read_bytes()
    assert {"sft", "r2d2"} <= set(words(figure).replace("\n", " ").split())
    assert all(ax.get_xlabel() or ax.get_ylabel() for ax in figure.axes[:1])


def test_heat_maps_show_the_mean_of_the_seeds_and_frame_the_diagonal(tables):
    frame = tables["transfer"].assign(tasr=lambda f: f["tasr"].where(f["seed"] == 1, 0.0))
    figure = make_figure("transfer", {"transfer": frame})
    top, strip = figure.axes[:2]  # ten columns: one map below the other
    cells = top.images[0].get_array()
    assert cells.shape == (10, 10)
    first = frame.query("seed == 1 and attack == 'gcg' and source_regime == 'sft' and source == 10 and target == 40")[
        "tasr"
    ].item()
    assert cells[0, 3] == pytest.approx(first / 2)
    assert cells.mask[0, 5:].all() and not cells.mask[0, :5].any()  # nothing was tried across regimes
    corners = sorted(patch.get_xy() for patch in top.patches if patch.get_gid() == "own")
    assert corners == [(i - 0.44, i - 0.44) for i in range(10)]  # within the cell: a line between regimes hides no side
    assert strip.images[0].get_array().shape == (1, 10)
    assert strip.images[0].get_array()[0, 4] == pytest.approx(0.05 / 2)
    assert "GCG (n = 20 a cell)" in words(figure) and "mean of 2 seeds" in figure.get_suptitle()
    assert [t.get_text() for t in strip.get_yticklabels()] == ["GCG's start\n(n = 20)"]
    assert {top.images[0].get_clim()} == {(0.0, 1.0)}


def test_cells_and_bar_are_in_per_cent_with_intervals_and_each_column_has_its_regime(tables):
    one = tables["transfer"].query("seed == 1")
    figure = make_figure("transfer", {"transfer": one})
    figure.draw_without_rendering()
    top, strip, bar = figure.axes[0], figure.axes[1], figure.axes[-1]
    row = one.query("attack == 'gcg' and source_regime == 'sft' and source == 10 and target == 40").iloc[0]
    assert f"{100 * row['tasr']:.0f}\n{100 * row['lo']:.0f}–{100 * row['hi']:.0f}" in [t.get_text() for t in top.texts]
    assert "95 % interval" in figure.get_suptitle()
    assert bar.get_ylabel() == "attack success (%)" and "100" in [t.get_text() for t in bar.get_yticklabels()]
    names = {t.get_text(): t.xy[0] for t in strip.texts if t.get_gid() == "regime"}
    assert names == {"sft": 2.0, "r2d2": 7.0}  # in the middle of five columns each
    assert "below it their range" in make_figure("transfer", tables).get_suptitle()


def test_an_unoptimised_arm_alone_is_drawn(tables):
    only = tables["transfer"].query("attack == 'seeds'")
    assert "AutoDAN's seeds (n = 20 a cell)" in words(make_figure("transfer", {"transfer": only}))
    with pytest.raises(NoData, match="none of the attacks"):
        make_figure("transfer", {"transfer": only.assign(attack="other")})


def test_places_put_known_regimes_first():
    frame = pd.DataFrame([("mine", 1), ("r2d2", 20), ("r2d2", 5), ("sft", 30)])
    assert places(frame) == [("sft", 30), ("r2d2", 5), ("r2d2", 20), ("mine", 1)]


def test_predictors_stand_at_their_size_with_ceiling_and_p(tables):
    assert set(LABELS) == {predictor.name for predictor in PREDICTORS}
    figure = make_figure("transfer_predictors", tables)
    panel = figure.axes[0]
    assert panel.get_title(loc="left").startswith("r2d2 (n = 40 rows, 5 targets)")
    rows = (
        tables["transfer_predictors"]
        .query("seed.isna() and regime == 'r2d2' and attack == 'all'")
        .set_index("predictor")
    )
    drawn = {line.get_marker(): [] for line in panel.lines}
    for line in panel.lines:
        drawn[line.get_marker()].append(tuple(line.get_xydata()[0]) if len(line.get_xdata()) else None)
    for i, name in enumerate(LABELS):
        assert (pytest.approx(abs(rows.loc[name, "rho"])), pytest.approx(i - 0.12)) in drawn["o"]
        assert (pytest.approx(rows.loc[name, "rho_tie_ceiling"]), pytest.approx(i - 0.12)) in drawn["|"]
    texts = [t.get_text() for t in panel.texts]
    assert f"ρ = −{abs(rows.loc['target_hrci_repr', 'rho']):.2f}" in texts
    assert (
        f"p = {rows.loc['target_hrci_repr', 'p']:.3f} (least {rows.loc['target_hrci_repr', 'p_smallest']:.2g})" in texts
    )
    assert "2 seeds together" in figure.get_suptitle()
    alone = make_figure(
        "transfer_predictors", {"transfer_predictors": tables["transfer_predictors"].query("seed == 2")}
    )
    assert "seed 2" in alone.get_suptitle()


def test_what_cannot_be_correlated_is_said(tables):
    unknown = tables["transfer_predictors"].assign(rho=np.nan)
    assert "unknown or the same everywhere" in words(
        make_figure("transfer_predictors", {"transfer_predictors": unknown})
    )
    few = tables["transfer_predictors"].assign(p_smallest=0.33, n_targets=3, lo=np.nan, hi=np.nan)
    figure = make_figure("transfer_predictors", {"transfer_predictors": few})
    head = figure.axes[0].get_title(loc="left")
    assert "no p can be below 0.33" in head and "no intervals: fewer than 5" in head
    assert "grey: p cannot be 0.05 or less" in words(figure)
    assert {line.get_color() for line in figure.axes[0].lines if line.get_marker() == "o"} == {GREY}
    none = tables | {"dense_correlations": tables["dense_correlations"].iloc[:0]}
    assert "fewer than three saves with behaviour" in words(make_figure("dense", none))


def test_dense_marks_the_change_and_compares_levels_with_differences(tables):
    figure = make_figure("dense", tables)
    top, _, forest = figure.axes[0::2]
    row = (
        tables["coupling_transition"]
        .query("regime == 'r2d2' and quantity == 'hrci_repr' and sites == 'frozen'")
        .iloc[0]
    )
    (band,) = top.patches
    assert (band.get_x(), band.get_x() + band.get_width()) == (row["lo"], row["hi"])
    assert f"change in ({row['lo']}, {row['hi']}]" in top.get_title(loc="left")
    assert "12 saves: too few for a change point" in figure.axes[1].get_title(loc="left")
    mine = "regime == 'r2d2' and predictor == 'hrci_repr' and sites == 'frozen' and outcome == 'fixed_asr'"
    rho = tables["dense_correlations"].query(mine)
    points = [line.get_xdata()[0] for line in forest.lines if line.get_marker() == "o"]
    assert all(any(abs(value - point) < 1e-9 for point in points) for value in rho["rho"])
    assert len(forest.collections) == 2 * 2 * 2  # outcomes that vary, forms, block lengths
    assert not list(figure.axes[5].collections)  # no interval under 20 saves
    triangles = [line for line in top.lines if line.get_marker() == "^"]
    assert triangles[0].get_xdata().tolist() == [85]
    assert "dense" in FIGURES
    named = {
        "change of level, 95 % band",
        "level before and after it",
        "a carrier's site has moved",
        "greatest |ρ| that ties permit",
    }
    assert named <= set(words(figure).split("\n"))
    assert {f"n = {n}" for n in rho["n"]} <= {t.get_text() for t in forest.texts}


def test_dense_where_no_save_has_a_site_of_r(tables):
    saves = tables["trajectory"]
    none = saves.assign(layer_r=float("nan"), pos_r=float("nan"), hrci_repr=float("nan"), layer_h=3, pos_h="t_inst")
    coupling = saves[["seed", "regime", "step"]].assign(r_status="candidate")
    figure = make_figure("dense", tables | {"trajectory": none, "coupling": coupling})
    assert not [line for line in figure.axes[0].lines if line.get_marker() == "^"]
    assert "no R, read at the best candidate: r2d2, sft" in " ".join(words(figure).split())


def test_dense_says_why_there_is_no_correlation():
    series = pd.Series
    assert why_not(series([np.nan, np.nan])) == "not measured"
    assert why_not(series([0.1, np.nan, 0.2])) == "measured at 2 saves: too few for ρ"
    assert why_not(series([0.1, np.nan])) == "measured at 1 save: too few for ρ"
    assert why_not(series([0.0] * 5)) == "the same at all 5 saves: no ρ"
