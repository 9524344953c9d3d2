"""Every figure can be read: nothing is cut off or covered, n is stated, a regime's colour means that regime only."""

import re
from itertools import pairwise, product
from pathlib import Path
from statistics import NormalDist

import pandas as pd
import pytest
import synthetic_study
from figure_layout import boxes, unreadable
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from safety_geometry.figures.draw import FIGURES, NoData, make_figure
from safety_geometry.figures.lettering import headline, label_ends, legend_below, spread, width, wrapped
from safety_geometry.figures.style import NAMED, looks, styled

RESULTS = Path(__file__).parents[2] / "docs/results"
TABLES = {
    "five_anchor": ("five_anchor", "coupling_controls", "coupling"),
    "trajectory": ("trajectory", "coupling_controls", "coupling"),
    "layer_profile": ("profile",), "training_curves": ("training",), "geometry": ("geometry", "coupling"),
    "coupling_controls": ("coupling_controls", "coupling"), "causal_layers": ("layer_scan",), "dose_response": ("causal_sweep",),
    "control_effects": ("control_normalised",), "aligned_anchors": ("aligned_anchors",), "follow_up": ("follow_up",),
    "quadrants": ("quadrants",), "attacks": ("attack_arms",), "transfer": ("transfer",),
    "transfer_predictors": ("transfer_predictors",),
    "dense": ("trajectory", "dense_correlations", "coupling_transition"),
}  # fmt: skip
PROMPTS = pd.DataFrame([("monitor", 12), ("H", 24), ("R", 8)], columns=["what", "n"])
LONG = {
    "sft": "ordinary_tuning_on_clean_rows1",
    "r2d2": "adversarial_tuning_refreshed12",
    "sft_refusal": "adversarial_tuning_frozen12345",
}
OF_REGIMES = {"five_anchor", "training_curves", "geometry", "attacks"}  # whose colours are regimes'


def stored(table: str, folder: str) -> pd.DataFrame:
    """A table of a reference run; of a study without it the last seed's of the wide one."""
    if (path := RESULTS / folder / f"{table}.csv").exists():
        return pd.read_csv(path, low_memory=False)
    return last_seed_of(pd.read_csv(RESULTS / f"full/tables/{table}.csv", low_memory=False))


def tables(name: str, folder: str, names: dict[str, str]) -> dict[str, pd.DataFrame]:
    """A figure's tables of a reference run, its regimes renamed."""
    found = {table: stored(table, folder) for table in TABLES[name]}
    for frame in found.values():
        for column in ("regime", "source_regime", "target_regime", "model"):
            if column in frame:
                words = frame[column].astype(str).str.split(":")
                frame[column] = [":".join([names.get(first, first), *rest]) for first, *rest in words]
    return found | {"prompts": PROMPTS}


@pytest.mark.parametrize(
    ("folder", "names"), [("tables", {}), ("full/tables", LONG)], ids=["one seed", "three seeds, long names"]
)
@pytest.mark.parametrize("name", [name for name in FIGURES if name in TABLES])
def test_nothing_is_cut_off_or_covered_and_n_is_stated(name, folder, names):
    found = tables(name, folder, names)
    try:
        figure = make_figure(name, found)
    except NoData:  # a reference without R has nothing of it to draw: the last seed of the other reference, then
        found = tables(name, "full/tables", names)
        figure = make_figure(name, {table: last_seed_of(frame) for table, frame in found.items()})
    assert unreadable(figure) == []
    assert any("n = " in text for text, _ in boxes(figure))
    assert not [text for text, _ in boxes(figure) if re.search(r"\{[a-z_]+\}", text)]  # left to be filled in
    if not names and name not in OF_REGIMES:
        drawn = {to_hex(line.get_color()) for ax in figure.axes for line in ax.lines}
        drawn |= {to_hex(colour) for ax in figure.axes for c in ax.collections for colour in c.get_facecolor()}
        assert not {colour.lower() for colour, _, _ in NAMED.values()} & drawn


def last_seed_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Of the last seed, in which the wide reference has an R."""
    return frame if "seed" not in frame else frame[frame["seed"] == frame["seed"].max()]


@pytest.mark.parametrize("selector", ["effect", "cosmic"])
@pytest.mark.parametrize("names", [("sft", "r2d2", "sft_refusal"), ("r2d2",), tuple(LONG.values())])
def test_selection_can_be_read(selector, names):
    figure = make_figure("selection", selections(names, selector))
    assert unreadable(figure) == []
    assert any("n = 24" in text for text, _ in boxes(figure))
    words = " ".join(text for text, _ in boxes(figure)).replace("\n", " ")
    assert "20/-4: held out 2.1 [1.8, 2.4]" in words and "not R" in words


def selections(regimes, in_charge) -> dict[str, pd.DataFrame]:
    """Of three anchors of each regime: R at the first two, none at the last, where no null was needed."""
    rows, profile = [], []
    for regime, (number, step) in product(regimes, enumerate((5, 10, 30))):
        me, last = {"seed": 1, "regime": regime, "step": step, "anchor": str(step)}, number == 2
        for selector in ("effect", "cosmic"):
            rows.append(
                me | {"selector": selector, "in_charge": selector == in_charge, "status": "none" if last else "own",
                      "reason": "its gain is below the minimum" if last else None, "layer": 20, "position": -4,
                      "gain": 2.1, "gain_lo": 1.8, "gain_hi": 2.4, "gain_all": 2.2, "no_op": 0.0, "margin": 0.2,
                      "null_95": None if last else 0.7, "runner_up_layer": 23, "runner_up_position": -1,
                      "n_harmful": 24, "n_benign": 24, "n_screen": 4}
            )  # fmt: skip
            for layer, position in product((5, 10, 14, 20, 23), (-5, -4, -3, -2, -1)):
                value = 2.2 - 0.1 * abs(layer - 20) - 0.05 * abs(position + 4)
                profile.append(me | {"carrier": "R", "layer": layer, "position": str(position), "quantity": selector,
                                     "value": value, "admissible": position != -1})  # fmt: skip
    return {"selection": pd.DataFrame(rows), "profile": pd.DataFrame(profile)}


def test_the_check_finds_what_is_cut_off_or_covered():
    with styled():
        figure = Figure(figsize=(3, 2))
        ax = figure.subplots()
        figure.suptitle("a headline that is far too long for a figure of three inches", x=0.01, ha="left")
        ax.text(0.5, 0.5, "one")
        ax.text(0.52, 0.52, "other")
    problems = unreadable(figure)
    assert any(problem.startswith("cut off: 'a headline") for problem in problems)
    assert "'one' lies on 'other'" in problems


def test_words_are_wrapped_to_their_room():
    name = "a_name_of_many_parts_without_any_blank"
    text = wrapped(name, 0.9, 8)
    assert text.replace("\n", "") == name
    assert all(width(line, 8) <= 0.9 for line in text.split("\n"))
    assert all(width(line, 8) <= 0.5 for line in wrapped("x" * 40, 0.5, 8).split("\n"))
    assert wrapped("p below 0.33 only", 0.6, 8).replace("\n", " ") == "p below 0.33 only"
    assert wrapped("two\nlines", 9, 8) == "two\nlines"


def test_labels_keep_their_order_and_do_not_overlap():
    assert spread([0.2, 0.8], [0.1, 0.1]) == pytest.approx([0.2, 0.8])
    placed = spread([0.5, 0.5, 0.52], [0.1, 0.1, 0.1])
    assert [b - a for a, b in pairwise(placed)] == pytest.approx([0.1, 0.1])
    assert sum(placed) / 3 == pytest.approx(0.507, abs=0.01)
    with styled():
        figure = Figure(figsize=(4, 3))
        ax = figure.subplots()
        ax.plot([0, 1], [0, 1])
        legend_below(figure, [*ax.lines] * 9, [f"entry number {i}" for i in range(9)])
        headline(figure, "What it shows", "with a note that is much too long to stand on one line with it")
        label_ends(
            figure, {ax: [(1.0, "upper", "k"), (0.99, "middle", "k"), (0.0, "lower", "k"), (float("nan"), "none", "k")]}
        )
    assert unreadable(figure) == []
    heights = {text.get_text(): text.get_position()[1] for text in ax.texts}
    assert heights["lower"] < heights["middle"] < heights["upper"]
    assert "none" not in heights


def test_each_anchor_has_the_shuffled_range_of_its_own():
    study = synthetic_study.study_once()
    ax = make_figure("five_anchor", study).axes[0]
    styles, frame = looks(study["five_anchor"]["regime"]), study["coupling_controls"]
    frame = frame.query("companion == 'shuffled' and quantity == 'hrci_repr'").dropna(subset=["anchor"])
    wide = {to_hex(c.get_color()[0]): c for c in ax.collections if c.get_linewidth()[0] > 5}
    for regime, look in styles.items():
        mine = frame[frame["regime"] == regime].sort_values("step")
        ends = [tuple(segment[:, 1]) for segment in wide[look["color"].lower()].get_segments()]
        assert ends == [pytest.approx(pair) for pair in zip(mine["lo"], mine["hi"], strict=True)]


def test_anchors_stand_in_order_of_their_steps_and_shades_too():
    study = synthetic_study.study_once()
    controls = study["coupling_controls"].replace({"anchor": {"reference": "5"}})
    controls.loc[controls["regime"].eq("r2d2") & controls["step"].eq(20), "anchor"] = "reference"  # not the first step
    figure = make_figure("coupling_controls", {"coupling_controls": controls})
    ax = next(ax for ax in figure.axes if ax.get_title(loc="left") == "r2d2")
    assert [t.get_text() for t in ax.get_xticklabels()] == ["5", "10", "20\n(ref.)", "30", "40"]
    only = controls.query("regime != 'r2d2' or step in (20, 40)")
    figure = make_figure("coupling_controls", {"coupling_controls": only})
    ax = next(ax for ax in figure.axes if ax.get_title(loc="left") == "r2d2")
    assert [t.get_text() for t in ax.get_xticklabels()] == ["20\n(ref.)", "40"]  # no gaps where it has no anchor
    figure = make_figure("layer_profile", study)
    legend = next(legend for legend in figure.legends if legend.get_title().get_text() == "anchor (step)")
    assert [t.get_text() for t in legend.get_texts()] == ["5", "10", "20", "30", "40"]
    light = [sum(int(to_hex(line.get_color())[i : i + 2], 16) for i in (1, 3, 5)) for line in legend.get_lines()]
    assert light[-1] == min(light)
    lower = {text.get_text() for legend in figure.legends for text in legend.get_texts()}
    assert {"prompt length", "bag of words"} <= lower
    top = next(ax for ax in figure.axes if ax.get_title(loc="left").startswith("r2d2"))
    heights = {line.get_label(): line.get_ydata()[0] for line in top.lines if line.get_label() in lower}
    assert heights["bag of words"] == pytest.approx(2**0.5 * NormalDist().inv_cdf(0.95))
    assert heights["prompt length"] == pytest.approx(2**0.5 * NormalDist().inv_cdf(0.6))
    said = figure.get_suptitle().replace("\n", " ")  # H's AUROC is .9 throughout
    assert "bag of words does as well as H in 15 of 15" in said and "prompt length" not in said


def test_lines_that_coincide_are_both_seen():
    training = synthetic_study.study_once()["training"]
    twin = training[training["regime"] == "r2d2"]
    figure = make_figure("training_curves", {"training": pd.concat([twin, twin.assign(regime="sft_refusal")])})
    for ax in figure.axes:
        below, above = ax.lines
        assert below.get_linewidth() > above.get_linewidth() + 1 and above.is_dashed()


def test_common_layers_and_angles_can_be_told_apart():
    study = synthetic_study.study_once()
    figure = make_figure("trajectory", study)
    layers = study["coupling_controls"].query("companion == 'fixed_layer'")["layer_r"].unique()
    top = figure.axes[0]
    for layer in layers:
        (text,) = [t for t in top.texts if t.get_text() == f"layer {int(layer)}"]
        assert sum(line.get_color() == text.get_color() for line in top.lines) == 1
    figure = make_figure("geometry", study)
    for ax in figure.axes[-3:]:
        assert "principal angle" in ax.get_title(loc="left")
        assert len(ax.lines) == len(synthetic_study.REGIMES)
