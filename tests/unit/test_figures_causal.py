"""Figures of the causal sweeps: they show what the tables say, name what lacks, and have the same bytes twice."""

import numpy as np
import pandas as pd
import pytest
from synthetic_causal import (
    CHECKPOINTS,
    MADE,
    aligned_anchors,
    causal_sweep,
    control_normalised,
    follow_up,
    layer_scan,
    quadrants,
    scan_with_controls,
    sweep_pooled,
)

from safety_geometry.figures.dose_response import apart
from safety_geometry.figures.draw import FIGURES, NoData, make_figure, save
from safety_geometry.figures.follow_up import APART
from safety_geometry.figures.modes import MODES, checkpoints
from safety_geometry.figures.style import NAMED, columns_for

NEEDS = {
    "causal_layers": ("layer_scan", "log_odds_delta"),
    "dose_response": ("causal_sweep", "log_odds_delta"),
    "control_effects": ("control_normalised", "delta_control"),
    "aligned_anchors": ("aligned_anchors", "asr_r_only"),
    "follow_up": ("follow_up", "asr"),
    "quadrants": ("quadrants", "proj_r"),
}


def words(figure) -> str:
    """All text of a figure that is not a tick."""
    texts = [
        t.get_text()
        for ax in figure.axes
        for t in (ax.title, ax._left_title, ax.xaxis.label, ax.yaxis.label, *ax.texts)
    ]
    texts += [t.get_text() for legend in figure.legends for t in legend.get_texts()]
    return "\n".join([figure.get_suptitle(), *texts])


def shown(ax, colour: str) -> np.ndarray:
    """The points of the lines of one colour in a panel."""
    lines = [line.get_xydata() for line in ax.lines if line.get_color() == colour]
    return np.concatenate(lines) if lines else np.empty((0, 2))


def labels(figure) -> list[str]:
    """Labels of the rows of a figure whose first panel lists them."""
    return [t.get_text() for t in figure.axes[0].get_yticklabels()]


def test_every_figure_has_a_test_of_its_data():
    import test_figures
    import test_figures_transfer

    made_up = {"attacks", "selection"}  # test_figures_layout draws them
    assert made_up | set(NEEDS) | set(test_figures.OF_CARRIERS) | set(test_figures_transfer.NEEDS) == set(FIGURES)


@pytest.mark.parametrize("name", NEEDS)
def test_missing_data_is_named(name):
    table, column = NEEDS[name]
    frame = MADE[table]()
    with pytest.raises(NoData, match=f"the table {table} is missing or empty"):
        make_figure(name, {})
    with pytest.raises(NoData, match=f"the table {table} is missing or empty"):
        make_figure(name, {table: frame.iloc[:0]})
    with pytest.raises(NoData, match=f"{table} has no values in {column}"):
        make_figure(name, {table: frame.assign(**{column: np.nan})})


@pytest.mark.parametrize("name", NEEDS)
def test_same_bytes_twice_and_regimes_in_words(name, tmp_path):
    table, _ = NEEDS[name]
    sized = {"where": CHECKPOINTS[3:]} if name in ("causal_layers", "dose_response") else {}
    found = []
    for i in range(2):
        figure = make_figure(name, {table: MADE[table](**sized)})
        save(figure, tmp_path / f"{i}.svg")
        found.append((tmp_path / f"{i}.svg").read_bytes())
    assert found[0] == found[1]
    assert "sft_refusal" in words(figure) + "".join(labels(figure))
    assert figure.get_suptitle()
    drawn = [ax for ax in figure.axes if ax.axison]
    assert any(ax.get_xlabel() for ax in drawn)
    assert any(ax.get_ylabel() or ax.get_yticklabels() for ax in drawn)


def test_modes_have_looks_of_their_own():
    assert len({m["color"] for m in MODES.values()}) == len({m["marker"] for m in MODES.values()}) == 5
    assert not {m["color"] for m in MODES.values()} & {colour for colour, _, _ in NAMED.values()}


def test_checkpoints_are_named_and_ordered():
    frame = pd.DataFrame(
        [("mine", 0, "model"), ("r2d2", 30, "30"), ("r2d2", 10, "reference"), ("sft", 7, np.nan)],
        columns=["regime", "step", "anchor"],
    )
    assert [name for name, _ in checkpoints(frame)] == [
        "sft, step 7",
        "r2d2, reference anchor",
        "r2d2, anchor 30",
        "mine",
    ]
    with pytest.raises(NoData, match="no checkpoint"):
        checkpoints(frame.iloc[:0])


def test_columns_leave_few_places_empty():
    assert [columns_for(n, 4) for n in (1, 2, 4, 5, 6, 9)] == [1, 2, 4, 3, 3, 3]


def test_causal_layers_puts_values_and_marks_at_their_layers():
    frame = layer_scan(layers=(5, 14, 23), where=CHECKPOINTS[3:])
    figure = make_figure("causal_layers", {"layer_scan": frame})
    panel = figure.axes[0]
    assert [t.get_text() for t in panel.get_xticklabels()] == ["5", "14", "19", "23"]  # R's 19 was not scanned
    cells = panel.images[0].get_array()
    value = frame.query("mode == 'r_only' and layer == 23")["log_odds_delta"].item()
    assert cells[list(MODES).index("r_only"), 3] == pytest.approx(value)
    assert cells.mask[:, 2].all() and not cells.mask[:, [0, 1, 3]].any()
    low, high = panel.images[0].get_clim()
    assert low == -high == -frame["log_odds_delta"].abs().max()
    marks = {(t.get_text(), round(t.get_position()[1])): t.get_position()[0] for t in panel.texts}
    rows = {mode: i for i, mode in enumerate(MODES)}
    assert set(marks) == {("H", rows["h_only"]), ("H", rows["h_perp_r"]), ("R", rows["r_only"]), ("R", rows["r_perp_h"]),
                          ("H", rows["h_plus_r"]), ("R", rows["h_plus_r"])}  # fmt: skip
    assert {x for (name, _), x in marks.items() if name == "H"} == {1}
    assert {x for (name, _), x in marks.items() if name == "R"} == {2}  # in its own column, on no border


def test_causal_layers_shows_which_cells_are_sure_and_which_damage():
    frame = layer_scan(layers=(5, 14, 19), where=CHECKPOINTS[3:]).assign(lo=-1.0, hi=-0.5)
    frame.loc[frame["mode"].eq("r_only") & frame["layer"].eq(5), "hi"] = 0.5
    frame.loc[frame["mode"].eq("h_only") & frame["layer"].eq(19), "kl_benign"] = 0.3
    figure = make_figure("causal_layers", {"layer_scan": frame})
    panel = figure.axes[0]
    assert [(patch.get_xy(), patch.get_hatch()) for patch in panel.patches] == [((-0.5, 1.5), "////")]
    (cross,) = [line for line in panel.lines if line.get_marker() == "x"]
    assert cross.get_xdata()[0] == pytest.approx(2, abs=0.4) and cross.get_markersize() >= 5
    assert {"95 % interval includes 0", "KL on benign prompts above 0.1", "layer not scanned"} <= set(
        words(figure).split("\n")
    )
    assert "n = 32 prompts" in figure.get_suptitle()


def test_causal_layers_marks_carriers_beyond_the_scan_at_their_layer():
    frame = layer_scan(layers=(5, 8, 26)).assign(layer_h=29, layer_r=2)
    ax = make_figure("causal_layers", {"layer_scan": frame}).axes[0]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["2", "5", "8", "26", "29"]
    assert {(t.get_text(), t.get_position()[0]) for t in ax.texts if t.get_text() in "HR"} == {("H", 4.0), ("R", 0.0)}
    values = ax.images[0].get_array()
    assert values.mask[:, [0, 4]].all() and not values.mask[:, 1:4].any()  # nothing was measured there


def test_causal_layers_keeps_marks_apart_and_does_not_bleach():
    frame = layer_scan(layers=range(30), where=CHECKPOINTS[3:]).assign(layer_h=14, layer_r=14)
    frame.loc[frame.index[0], ["log_odds_delta", "lo", "hi"]] = -90.0, -91.0, -89.0
    figure = make_figure("causal_layers", {"layer_scan": frame})
    both = [(t.get_text(), t.get_position()[0]) for t in figure.axes[0].texts if t.get_position()[1] == 4]
    assert both == [("H\nR", 14)]  # one above the other, inside the cell
    assert figure.axes[0].images[0].get_clim()[1] < 10
    with_steps = pd.concat([layer_scan(), layer_scan(seeds=(43,))])
    assert "seed 42, first of 2" in make_figure("causal_layers", {"layer_scan": with_steps}).get_suptitle()
    two = pd.concat([layer_scan(), layer_scan().assign(family="steer")])
    figure = make_figure("causal_layers", {"layer_scan": two})
    assert sum(bool(ax.images) for ax in figure.axes if ax.get_label() != "<colorbar>") == 2 * len(CHECKPOINTS)
    assert "sft, anchor 30: steer, λ = 1" in words(figure)


def test_dose_response_passes_through_the_clean_point():
    frame = causal_sweep(where=CHECKPOINTS[3:])
    ablate, steer = make_figure("dose_response", {"causal_sweep": frame}).axes
    line = shown(steer, MODES["r_only"]["color"])
    line = line[np.isclose(line[:, 1], 0) | (np.abs(line[:, 1]) > 1)]  # without the edges of its controls' band
    wanted = frame.query("family == 'steer' and mode == 'r_only' and control == 'target'")["log_odds_delta"]
    assert sorted(set(line[:, 1].round(6)) - {0.0}) == pytest.approx(sorted(wanted.round(6)))
    assert [0.0, 0.0] in line.tolist()
    assert len(ablate.collections) == len(steer.collections) == 3  # a band for H, for R, and for both


def test_dose_response_counts_a_shared_control_once_and_only_pooled_ones():
    frame = causal_sweep(ablate=(1.0,), steer=(), where=CHECKPOINTS[3:])
    shared = frame.query("mode == 'h_only'").assign(mode="h_perp_r", log_odds_delta=lambda f: f["log_odds_delta"])
    frame = pd.concat([frame.query("mode != 'h_perp_r'"), shared])
    frame.loc[frame["control"] == "wrong_layer", "log_odds_delta"] = 50.0
    (panel,) = make_figure("dose_response", {"causal_sweep": frame}).axes
    pooled = frame.query("mode == 'h_only' and control in ('random', 'covariance', 'shuffled')")["log_odds_delta"]
    bar = panel.patches[0]
    assert len(pooled) == 12
    assert (bar.get_y(), bar.get_y() + bar.get_height()) == pytest.approx(tuple(np.quantile(pooled, [0.025, 0.975])))
    assert panel.get_ylim()[1] < 10


def test_dose_response_takes_one_strength_and_several_seeds():
    frame = causal_sweep(seeds=(42, 43), ablate=(1.0,), steer=(-1.0, 1.0), where=CHECKPOINTS[3:])
    figure = make_figure("dose_response", {"causal_sweep": frame})
    ablate, steer = figure.axes
    assert ablate.get_xlabel() == "mode, at λ = 1"
    assert [t.get_text() for t in ablate.get_xticklabels()] == [m["label"] for m in MODES.values()]
    assert [t.get_text() for t in steer.get_xticklabels()] == ["−1", "0", "1"]
    assert "mean of 2 seeds" in figure.get_suptitle()
    assert "one strength of ablation: no dose response there" in figure.get_suptitle().replace("\n", " ")
    alone = frame.query("family == 'ablate' and seed == 42")
    figure = make_figure("dose_response", {"causal_sweep": alone})
    assert figure.get_suptitle().startswith("Refusal under interventions of one strength: no dose response")
    values = alone.query("control == 'target'").set_index("mode")["log_odds_delta"]
    texts = [t.get_text() for t in figure.axes[0].texts]
    assert texts == [f"{values[mode]:+.1f}".replace("-", "−") if abs(values[mode]) >= 0.05 else "0.0" for mode in MODES]
    assert "controls" in figure.axes[0].get_title(loc="left")
    with pytest.raises(NoData, match="no target"):
        make_figure("dose_response", {"causal_sweep": frame[frame["control"] != "target"]})


def test_dose_response_draws_one_scope_and_rank():
    frame = causal_sweep(ablate=(1.0,), steer=(), where=CHECKPOINTS[3:])
    more = pd.concat(
        [frame, frame.assign(scope="all_layers", log_odds_delta=70.0), frame.assign(rank=3, log_odds_delta=70.0)]
    )
    (panel,) = make_figure("dose_response", {"causal_sweep": more}).axes
    assert panel.get_ylim()[1] < 10


def test_crowded_strengths_lose_labels_but_not_the_ends():
    kept = apart([0.0, -4.0, -2.0, -1.0, -0.5, -0.25, 0.25, 0.5, 1.0, 2.0, 4.0])
    assert {-4.0, 0.0, 4.0} <= set(kept)
    assert min(np.diff(kept)) >= 0.72


def test_causal_layers_takes_the_controls_off_and_frames_what_is_recommended():
    frame = scan_with_controls(layers=(5, 14, 19), where=CHECKPOINTS[3:])
    figure = make_figure("causal_layers", {"layer_scan": frame})
    panel = figure.axes[0]
    for y, mode in enumerate(MODES):
        wanted = frame[frame["mode"] == mode].sort_values("layer")["delta_control"]
        np.testing.assert_allclose(panel.images[0].get_array()[y], wanted)
    frames = [patch for patch in panel.patches if patch.get_hatch() is None and not patch.get_fill()]
    places = {(round(f.get_x() + f.get_width() / 2), round(f.get_y() + f.get_height() / 2)) for f in frames}
    best = frame[frame["recommended"]]
    layers = [5, 14, 19]
    assert places == {(layers.index(row.layer), list(MODES).index(row.mode)) for row in best.itertuples()}
    assert len(frames) == len(MODES)
    said = words(figure)
    assert "recommended: largest effect beyond controls, KL at most 0.1" in said
    assert "more than drawn directions do" in figure.get_suptitle() and "4 controls a cell" in figure.get_suptitle()
    plain = make_figure("causal_layers", {"layer_scan": frame.assign(recommended=False)})
    assert "recommended" not in words(plain)


def test_dose_response_states_what_steering_adds_and_leaves_capped_controls_out():
    frame = causal_sweep(ablate=(1.0,), steer=(-2.0, 1.0), where=CHECKPOINTS[3:]).assign(capped=False, dose=np.nan)
    steers = frame["family"] == "steer"
    size = np.where(frame["mode"].str.startswith("h_o") | frame["mode"].eq("h_perp_r"), 0.25, 0.1)
    frame.loc[steers, "dose"] = (frame["lambda"].abs() * size)[steers]
    wild = frame["control"].eq("random") & frame["number"].eq(0) & ~steers
    frame.loc[wild, ["capped", "log_odds_delta"]] = True, 90.0
    ablate, steer = make_figure("dose_response", {"causal_sweep": frame}).axes
    assert steer.get_xlabel() == "strength λ\nλ = 1 adds 0.25 (H), 0.1 (R) of ‖h‖"
    assert "‖h‖" not in ablate.get_xlabel() and ablate.get_ylim()[1] < 10


def test_control_effects_shows_both_metrics_and_says_them():
    figure = make_figure("control_effects", {"control_normalised": control_normalised()})
    odds, asr = figure.axes
    frame = control_normalised().query("control == 'pooled'")
    for ax, metric, unit in ((odds, "log_odds", 1), (asr, "asr", 100)):
        wanted = frame.loc[frame["metric"] == metric, "delta_control"] * unit
        assert set(wanted.round(6)) == set(shown(ax, "black")[:, 0].round(6))
        raw = frame.loc[frame["metric"] == metric, "delta"] * unit
        assert set(raw.round(6)) == set(shown(ax, "#6F6F6F")[:, 0].round(6))
    row = frame.query("metric == 'log_odds' and mode == 'r_only' and regime == 'r2d2'").iloc[0]
    first = f"{row['delta_control']:.2f} [{row['lo']:.2f}, {row['hi']:.2f}]".replace("-", "−")
    (said,) = [t.get_text() for t in odds.texts if t.get_position()[1] == 0]
    assert said == f"{first}\np 0.030 (least 0.0050)"
    assert "p " not in asr.texts[0].get_text()
    assert labels(figure)[0] == "R removed, λ = 1\nr2d2"
    assert "n = 32 prompts, 8 controls" in odds.get_title(loc="left")


def filled(ax) -> dict[float, bool]:
    """Whether the point at each value is filled."""
    points = [line for line in ax.lines if line.get_color() == "black"]
    return {round(x, 6): line.get_markerfacecolor() == "black" for line in points for x in line.get_xdata()}


def test_control_effects_fills_what_is_beyond_its_controls():
    frame = control_normalised(metrics=("log_odds",))
    frame.loc[frame["mode"] == "h_only", "p_holm"] = 0.2
    frame.loc[frame["mode"] == "r_perp_h", "hi"] = 0.1
    (ax,) = make_figure("control_effects", {"control_normalised": frame}).axes
    pooled = frame[frame["control"] == "pooled"]
    assert filled(ax) == {round(row.delta_control, 6): row.mode == "r_only" for row in pooled.itertuples()}


def test_control_effects_of_several_seeds_are_their_means_with_each_beside_them():
    tables = {"control_normalised": control_normalised(seeds=(42, 43)), "sweep_pooled": sweep_pooled()}
    odds, _ = make_figure("control_effects", tables).axes
    pooled = sweep_pooled().query("metric == 'log_odds'")
    each = tables["control_normalised"].query("control == 'pooled' and metric == 'log_odds'")
    assert set(shown(odds, "black")[:, 0].round(6)) == set(pooled["delta_control"].round(6))
    grey = set(shown(odds, "#6F6F6F")[:, 0].round(6))
    assert grey == set(pooled["delta"].round(6)) | set(each["delta_control"].round(6))
    assert "p 0.010" in odds.texts[0].get_text()
    assert "means of 2 seeds" in make_figure("control_effects", tables).get_suptitle()
    alone = make_figure("control_effects", {"control_normalised": control_normalised(seeds=(42, 43))})
    assert "seed 42, first of 2" in alone.get_suptitle()


def test_control_effects_explains_an_interval_without_width():
    frame = control_normalised()
    assert "all alike" not in words(make_figure("control_effects", {"control_normalised": frame}))
    flat = frame["metric"].eq("asr") & frame["control"].eq("pooled")
    frame.loc[flat, ["lo", "hi"]] = frame.loc[flat, ["delta_control", "delta_control"]].to_numpy()
    figure = make_figure("control_effects", {"control_normalised": frame})
    assert sum("(all alike)" in t.get_text() for t in figure.axes[1].texts) == flat.sum()


def test_control_effects_without_attack_success_or_primary_cells():
    frame = control_normalised(seeds=(42, 43), metrics=("log_odds",))
    figure = make_figure("control_effects", {"control_normalised": frame})
    assert len(figure.axes) == 1
    none = frame.assign(primary=False, p_holm=np.nan, p_smallest=np.nan)
    figure = make_figure("control_effects", {"control_normalised": none})
    assert figure.get_suptitle().startswith("Targets:")
    assert not any("p " in t.get_text() for t in figure.axes[0].texts)
    many = pd.concat(
        [
            frame.assign(target=frame["target"] + str(i), delta_control=frame["delta_control"] * (i + 1))
            for i in range(5)
        ]
    )
    figure = make_figure("control_effects", {"control_normalised": many})
    assert len(labels(figure)) == 18
    assert "The 18 of 30 primary cells" in figure.get_suptitle()
    with pytest.raises(NoData, match="no target with a change of log_odds"):
        make_figure("control_effects", {"control_normalised": frame.assign(metric="kl")})


def test_aligned_anchors_has_four_arms_and_the_paired_difference():
    figure = make_figure("aligned_anchors", {"aligned_anchors": aligned_anchors(seeds=(42, 43))})
    (panel,) = figure.axes
    assert len(labels(figure)) == 4
    assert labels(figure)[0] == "sft_refusal:30\nseed 42, ablate, λ = 1\nH layer 14, R layer 19, |cos| 0.04"
    for mode, value in (("h_only", 0.15), ("r_only", 0.7), ("r_perp_h", 0.65)):
        assert shown(panel, MODES[mode]["color"])[:, 0].tolist() == [value] * 4
    assert panel.texts[0].get_text() == "R only − H only:\n+55 points\n[+35, +70], p < 0.001"


def test_follow_up_joins_targets_with_their_own_controls_and_baseline():
    frame = follow_up(seeds=(42, 43))
    figure = make_figure("follow_up", {"follow_up": frame})
    assert len(figure.axes) == 4
    assert labels(figure)[0] == "H + R: ablate, λ = 1\nr2d2, anchor 30"  # largest on the choosing half
    asr = figure.axes[0]
    mine = frame[(frame["seed"] == 42) & (frame["regime"] == "r2d2")]
    wanted = {  # each at a height of its own, so that equal values hide nothing
        ("black", -APART): mine.query("role == 'baseline'"),
        ("#6F6F6F", APART): mine.query("role == 'control' and mode == 'h_plus_r'"),
        (MODES["h_plus_r"]["color"], 0): mine.query("role == 'target' and mode == 'h_plus_r'"),
    }
    for (colour, y), rows in wanted.items():
        points = shown(asr, colour)
        assert points[np.isclose(points[:, 1], y), 0].tolist() == pytest.approx(rows["asr"].tolist())
    assert "share, n = 20" in words(figure)
    figure = make_figure("follow_up", {"follow_up": frame.assign(usefulness=np.nan)})
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["attack success", "benign helpfulness", "broken text"]
    with pytest.raises(NoData, match="no target"):
        make_figure("follow_up", {"follow_up": frame[frame["role"] == "control"]})


def test_quadrants_shows_groups_medians_and_at_most_six_panels():
    frame = quadrants()
    figure = make_figure("quadrants", {"quadrants": frame})
    rows = frame.query("regime == 'r2d2' and quadrant == 'harmful_complied'")
    medians = [line.get_xydata()[0] for line in figure.axes[0].lines if line.get_marker() == "^"]
    assert np.allclose(medians, [rows[["proj_h", "proj_r"]].median()])
    sizes = {len(c.get_offsets()) for c in figure.axes[0].collections}
    assert sizes == set(frame.query("regime == 'r2d2'")["quadrant"].value_counts())
    few = frame.groupby(["regime", "quadrant"]).head(4)
    figure = make_figure("quadrants", {"quadrants": few})
    assert not [line for line in figure.axes[0].lines if line.get_marker() == "^"]
    many = quadrants(where=[(r, s, str(s)) for r in ("sft", "r2d2", "sft_refusal") for s in (10, 20, 30)])
    figure = make_figure("quadrants", {"quadrants": many})
    assert len(figure.axes) == 6
    assert len({(*ax.get_xlim(), *ax.get_ylim()) for ax in figure.axes}) == 1
    assert "the last 6 of 9 checkpoints" in figure.get_suptitle()
    assert not any("anchor 10 " in ax.get_title(loc="left") for ax in figure.axes)
