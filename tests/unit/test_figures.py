"""Every figure: the same bytes twice, and no figure without data."""

import json
import sys

import figure as script
import numpy as np
import pytest
import synthetic_study as made
from _job import JobError
from matplotlib.text import Text

from safety_geometry.figures.draw import NoData, make_figure
from safety_geometry.figures.notes import counts
from safety_geometry.figures.style import across_seeds, looks, runs

# Those of the sweeps have tests of their own.
OF_CARRIERS = {"five_anchor": "five_anchor", "trajectory": "trajectory", "layer_profile": "profile", "training_curves": "training",
               "geometry": "geometry", "coupling_controls": "coupling_controls"}  # fmt: skip


@pytest.fixture(scope="module")
def study():
    return made.study_once()


@pytest.mark.parametrize("name", OF_CARRIERS)
def test_figures_show_every_regime_and_label_their_axes(study, name):
    figure = make_figure(name, study)
    axes = [ax for ax in figure.axes if ax.lines]
    assert len(axes) == len(figure.axes) > 1
    assert figure.get_suptitle()
    words = {t.get_text() for legend in figure.legends for t in legend.get_texts()}
    words |= {ax.get_title(loc="left").split("\n")[0].split(" (")[0] for ax in axes}
    words |= {t.get_text().split(" ")[0] for ax in axes for t in ax.texts}  # a value may stand behind a name
    assert set(made.REGIMES) <= words
    assert any(ax.get_xlabel() for ax in axes)
    assert any(ax.get_ylabel() for ax in axes)


@pytest.mark.parametrize("name", OF_CARRIERS)
def test_nothing_is_drawn_without_data(study, name):
    needed = OF_CARRIERS[name]
    with pytest.raises(NoData, match=f"the table {needed} is missing or empty"):
        make_figure(name, {})
    with pytest.raises(NoData, match=f"the table {needed} is missing or empty"):
        make_figure(name, study | {needed: study[needed].iloc[:0]})


def test_an_empty_column_is_named(study):
    with pytest.raises(NoData, match="no values in any_refusal"):
        make_figure("five_anchor", study | {"five_anchor": study["five_anchor"].assign(any_refusal=float("nan"))})
    with pytest.raises(ValueError, match="no figure named 'pie'"):
        make_figure("pie", study)


def test_behaviour_is_drawn_where_no_checkpoint_has_a_carrier(study):
    of_r = ["hrci_repr", "hrci_repr_lo", "hrci_repr_hi", "hrci_repr_frozen"]
    without = study["five_anchor"].assign(**dict.fromkeys(of_r, float("nan")))
    coupling, _, refusal, _ = make_figure("five_anchor", study | {"five_anchor": without}).axes
    assert any("no checkpoint has a refusal carrier" in text.get_text() for text in coupling.texts)
    assert any(len(line.get_xdata()) > 1 for line in refusal.lines)


@pytest.mark.parametrize(("name", "own"), [("five_anchor", "hrci_repr"), ("trajectory", "c_cos")])
def test_coupling_without_a_carrier_of_its_own_is_hollow_and_said_to_be(study, name, own):
    def hollow(tables):
        figure = make_figure(name, tables)
        words = [text.get_text() for text in figure.findobj(Text)]
        lines = [
            line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white" and len(line.get_xdata())
        ]
        return lines, " ".join(" ".join(words).split())

    lines, words = hollow(study)
    assert not lines and "hollow" not in words
    empty = dict.fromkeys([own, f"{own}_lo", f"{own}_hi"], float("nan"))
    lacking = study | {name: study[name].assign(**{key: empty[key] for key in empty if key in study[name]})}
    lines, words = hollow(lacking | {"coupling": study["coupling"].assign(r_status="candidate")})
    regime = lacking[name][lacking[name]["regime"] == lacking[name]["regime"].iloc[0]]
    np.testing.assert_allclose(sorted(lines[0].get_ydata()), sorted(regime[f"{own}_frozen"]))
    assert "no R of its own" in words and "best candidate, which is no R" in words


def test_several_seeds_become_mean_and_range(study):
    frame = study["five_anchor"].query("regime == 'sft'")
    both = made.pd.concat([frame, frame.assign(seed=2, any_refusal=frame["any_refusal"] + 0.2)])
    points = across_seeds(both, "step", "any_refusal", "any_refusal_lo", "any_refusal_hi")
    assert points["value"].tolist() == pytest.approx([0.2] * 5)
    assert points[["lo", "hi"]].iloc[0].tolist() == pytest.approx([0.1, 0.3])
    assert counts(frame, "any_refusal_n") == "n = 30"


def test_no_line_joins_points_of_different_seeds(study):
    """Of two seeds the second has no coupling of its own from the third anchor on: the line ends there, and what is
    hollow is the mean of both at frozen sites."""
    frame = study["five_anchor"].query("regime == 'r2d2'")
    steps = sorted(frame["step"])
    lacking = frame.assign(seed=2).copy()
    lacking.loc[lacking["step"] >= steps[2], ["hrci_repr", "hrci_repr_lo", "hrci_repr_hi"]] = float("nan")
    points = across_seeds(made.pd.concat([frame, lacking]), "step", "hrci_repr")
    assert [len(run) for run in runs(points)] == [2, len(steps) - 2]
    assert [len(run) for run in runs(across_seeds(frame, "step", "hrci_repr"))] == [len(steps)]
    figure = make_figure("five_anchor", study | {"five_anchor": made.pd.concat([frame, lacking])})
    drawn = [tuple(line.get_xdata().round()) for line in figure.axes[0].lines if line.get_linestyle() == "-"]
    assert drawn == [(0, 1), tuple(range(2, len(steps)))]
    hollow = next(line for line in figure.axes[0].lines if line.get_linestyle() == ":")
    np.testing.assert_allclose(hollow.get_ydata(), frame.sort_values("step")["hrci_repr_frozen"][2:])


def test_regimes_of_any_name_get_looks_of_their_own():
    found = looks([f"regime{i}" for i in range(9)] + ["sft"])
    assert len(found) == 10
    assert found["sft"] == looks(["sft"])["sft"]
    assert len({tuple(v.values()) for v in list(found.values())[:4]}) == 4


def test_the_script_writes_the_same_bytes_twice_or_says_what_lacks(study, tmp_path, monkeypatch):
    study["geometry"].to_csv(tmp_path / "geometry.csv", index=False)
    files = [tmp_path / "g.svg", tmp_path / "g.png"]
    command = ["figure.py", "--tables", str(tmp_path / "geometry.csv"), "--svg", str(files[0]), "--png", str(files[1])]
    runs = []
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", [*command, "--params", json.dumps({"name": "geometry"})])
        script.main()
        runs.append([file.read_bytes() for file in files])
    assert runs[0] == runs[1]
    svg, png = runs[0]
    assert svg.startswith(b"<?xml")
    assert png.startswith(b"\x89PNG")
    assert all(mark not in data for data in (svg, png) for mark in (b"dc:date", b"Software", b"Matplotlib v"))
    monkeypatch.setattr(sys, "argv", [*command, "--params", json.dumps({"name": "five_anchor"})])
    with pytest.raises(JobError, match="the table five_anchor is missing"):
        script.main()
