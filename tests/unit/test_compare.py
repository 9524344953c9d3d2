"""Two studies side by side: verdicts, estimates that lie apart, settings, and folders that are no study."""

import json
import math
import shlex
import subprocess
import sys
from pathlib import Path

import compare as script
import pandas as pd
import pytest
from figure_layout import unreadable

from safety_geometry.artefacts.recorded import differences, recorded
from safety_geometry.artefacts.tables.comparison import COMPARISON
from safety_geometry.artefacts.tables.files import read_table
from safety_geometry.claims.compare import axis_of, compared
from safety_geometry.figures.comparison import comparison
from safety_geometry.figures.draw import NoData
from safety_geometry.figures.style import styled

ROOT = Path(__file__).resolve().parents[2]
TEXTS = {"source": "here", "rule": "difference", "success_means": None, "twin": None, "by_seed": None, "reason": "why"}
HOSTILE = "$\\frac{1$ </td><script>alert(1)</script> \u202e & %s {0}"


def claims(**columns):
    rows = {
        "id": ["one", "two", "three", "four"], "claim": ["One.", "Two.", "Three.", "Four."],
        "quantity": ["any_refusal", "any_refusal", "log_odds", "log_odds"],
        "unit": ["share of look-alikes"] * 2 + ["log-odds of refusal"] * 2,
        "verdict": ["holds", "inconclusive", "no effect", "not applicable"],
        "verdict_over_seeds": ["not applicable"] * 4,
        "estimate": [0.3, 0.01, 0.1, None], "lo": [0.2, -0.1, -0.2, None], "hi": [0.4, 0.1, 0.3, None],
        "threshold": [0, 0, 0, None], "n": [30, 30, 6, None], "n_seeds": [1] * 4,
    }  # fmt: skip
    return pd.DataFrame(rows | {name: [value] * 4 for name, value in TEXTS.items()} | columns)


def study(folder, frame=None, **records):
    """A study's folder with a table of claims, and sidecars by name: (script, params, packages)."""
    (folder / "tables").mkdir(parents=True)
    (claims() if frame is None else frame).to_csv(folder / "tables/claims.csv", index=False)
    pd.DataFrame({"seed": [42]}).to_csv(folder / "tables/five_anchor.csv", index=False)
    for name, (made_by, params, packages) in records.items():
        record = {"script": f"{made_by}.py", "code": "c0de", "python": "3.11.7", "packages": packages, "params": params,
                  "inputs": {"sources/lookalikes.jsonl": "ab" * 32, "tables/tables/claims.csv": "cd" * 32}}  # fmt: skip
        (folder / f"{name}.provenance.json").write_text(json.dumps(record))
    return folder


def by_id(table):
    return {row["id"]: row for row in table.to_dict("records")}


def test_the_difference_is_zou_and_donners_interval():
    rows = by_id(
        compared(
            claims(), claims(estimate=[0.35, 0.3, 0.1, None], lo=[0.2, 0.2, -0.2, None], hi=[0.5, 0.45, 0.3, None])
        )
    )
    two = rows["two"]
    assert two["difference"] == pytest.approx(0.29)
    assert two["difference_lo"] == pytest.approx(0.29 - math.hypot(0.3 - 0.2, 0.1 - 0.01))
    assert two["difference_hi"] == pytest.approx(0.29 + math.hypot(0.45 - 0.3, 0.01 - -0.1))
    assert two["apart"] is True and rows["one"]["apart"] is False and rows["three"]["apart"] is False
    assert rows["four"]["apart"] is None
    assert by_id(compared(claims(estimate=[0.9] * 4, lo=0.8, hi=1.0), claims()))["two"]["apart"] is True  # B below A


def test_verdicts_by_which_study_they_apply_to():
    other = claims(verdict=["holds", "fails", "not applicable", "not applicable"], id=["one", "two", "three", "five"])
    rows = by_id(compared(claims(), other))
    found = {name: row["verdicts"] for name, row in rows.items()}
    assert found == {"one": "same", "two": "differ", "three": "only a", "four": "neither", "five": "neither"}
    assert list(rows) == ["one", "two", "three", "four", "five"] and not rows["five"]["comparable"]


@pytest.mark.parametrize("column", ["rule", "quantity", "unit", "success_means"])
def test_other_quantities_are_not_compared(column):
    rows = by_id(compared(claims(), claims(**{column: ["other"] * 4}, estimate=[9.0] * 4)))
    assert not any(row["comparable"] or row["apart"] for row in rows.values())
    assert rows["one"]["estimate_b"] == 9 and rows["one"]["verdicts"] == "same"


def test_earlier_rules_are_compared_with_their_like_only():
    earlier = claims().rename(columns={"estimate": "value"}).drop(columns=["rule", "quantity", "unit", "success_means"])
    assert not compared(claims(), earlier)["comparable"].any()
    alike = by_id(compared(earlier, earlier.assign(value=[0.9, 0.01, 0.1, None], lo=0.8, hi=0.95)))
    assert alike["one"]["comparable"] and alike["one"]["apart"] is True


def test_settings_that_differ_are_one_row_for_all_scripts(tmp_path):
    old = {"torch": "2.12", "numpy": "2.4"}
    a = study(
        tmp_path / "a",
        x=("probe", {"model": {"dtype": "float32"}, "n": 1}, old),
        y=("sweep", {"model": {"dtype": "float32"}}, old),
    )
    b = study(tmp_path / "b", x=("probe", {"model": {"dtype": "bfloat16"}, "n": 1}, old | {"torch": "2.13"}),
              y=("sweep", {"model": {"dtype": "bfloat16"}}, old), z=("follow_up", {"m": 2}, old))  # fmt: skip
    rows = differences(recorded(a), recorded(b))
    assert {(r["kind"], r["scripts"], r["key"], r["a"], r["b"]) for r in rows} == {
        ("setting", "probe, sweep", "model.dtype", '"float32"', '"bfloat16"'),
        ("package", "probe", "torch", "2.12", "2.13"),
        ("only in one", "follow_up", "follow_up", None, "ran"),
    }
    (tmp_path / "b/odd.provenance.json").write_text("[1]")
    (tmp_path / "b/broken.provenance.json").write_text("{")
    assert differences(recorded(a), recorded(b)) == rows
    assert differences(recorded(a), recorded(a)) == []


def test_many_values_are_counted(tmp_path):
    parts = {f"x{i}": ("probe", {"step": i, "long": "y" * 500}, {}) for i in range(9)}
    found = recorded(study(tmp_path / "a", **parts))
    assert found["setting", "probe", "step"] == "0 | 1 | 2 | 3 | … (9 values)"
    assert len(found["setting", "probe", "long"]) == 121 and found["data", "probe", "lookalikes.jsonl"] == "ab" * 8
    assert not any(key.endswith("claims.csv") for _, _, key in found)


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["compare.py", *map(str, words)])
    try:
        script.main()
    except SystemExit as end:
        return str(end.code), capsys.readouterr().out
    return "", capsys.readouterr().out


def test_the_command(tmp_path, monkeypatch, capsys):
    a = study(tmp_path / "a", x=("probe", {"n": 1}, {"torch": "2.12"}))
    b = study(tmp_path / "b", claims(verdict=["fails", "inconclusive", "no effect", "holds"], estimate=[0.3, 0.5, 0.1, 1],
              lo=[0.2, 0.4, -0.2, 0.9], hi=[0.4, 0.6, 0.3, 1.1]), x=("probe", {"n": 2}, {"torch": "2.13"}))  # fmt: skip
    error, text = run(monkeypatch, capsys, a, b, "--to", tmp_path / "out")
    assert not error and text.splitlines()[-1] == f"Table and figure: {tmp_path / 'out'}"
    lines = text.splitlines()
    assert lines[2:5] == ["1 of 3 verdicts differ:", "  one: A holds 0.3 [0.2, 0.4]; B fails 0.3 [0.2, 0.4]",
                          "1 of 3 other estimates lie apart (95 % interval of B less A):"]  # fmt: skip
    assert lines[5].startswith("  two: A inconclusive 0.01") and "claims that apply to B only: 1" in lines
    assert "  torch: 2.12 | 2.13" in lines and "  n (probe): 1 | 2" in lines and "Python: the same" in lines
    table = read_table(tmp_path / "out/comparison.csv", COMPARISON)
    assert list(table["verdicts"]) == ["differ", "same", "same", "only b"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "comparison.csv",
        "settings.csv",
        "comparison.svg",
        "comparison.png",
    }


def test_a_study_and_itself_differ_in_nothing(tmp_path, monkeypatch, capsys):
    a = study(tmp_path / "a", x=("probe", {"n": 1}, {"torch": "2.12"}))
    error, text = run(monkeypatch, capsys, a, a, "--to", tmp_path / "out")
    assert not error and "0 of 3 verdicts differ\n0 of 3 other estimates lie apart" in text
    assert "settings: the same" in text and "packages: the same" in text


def test_reference_folders(tmp_path, monkeypatch, capsys):
    """Tables only: settings are unknown."""
    error, text = run(monkeypatch, capsys, ROOT / "docs/results", ROOT / "docs/results/full", "--to", tmp_path / "out")
    assert not error and "r2d2_over_refuses: A holds" in text and "unknown of" in text
    assert "A: " in text and "seeds 42)" in text and "seeds 42, 43" in text


def test_rules_of_an_earlier_version(tmp_path, monkeypatch, capsys):
    """Beside present ones: no estimate is compared."""
    names = ["r2d2_over_refuses", "r2d2_refusal_falls"]
    old = claims().rename(columns={"rule": "test", "estimate": "value"}).drop(columns=["quantity", "unit", "by_seed"])
    old = study(tmp_path / "old", old.assign(id=[*names, "v", "w"]))
    present = study(tmp_path / "new", claims(id=[*names, "x", "y"]))
    error, text = run(monkeypatch, capsys, old, present, "--to", tmp_path / "out")
    assert not error and "2 claims were decided by other rules" in text
    assert (tmp_path / "out/comparison.svg").stat().st_size > 1000  # says that there is nothing to draw


def test_folders_that_are_no_study(tmp_path, monkeypatch, capsys):
    good = study(tmp_path / "good")
    (tmp_path / "empty").mkdir()
    odd = study(tmp_path / "odd")
    (odd / "tables/claims.csv").write_text("id,claim\n1,2\n")
    twice = study(tmp_path / "twice", claims(id=["one"] * 4))
    cases = {
        tmp_path / "gone": "is no folder",
        tmp_path / "empty": "it has no tables/claims.csv; run the study to its end",
        good / "tables": f"it has no tables/claims.csv; give {good}",
        odd: "is no table of claims: it lacks",
        twice: "claims stand in it twice",
        "": "name two studies",
    }
    for folder, message in cases.items():
        error, _ = run(monkeypatch, capsys, good, folder, "--to", tmp_path / "out")
        assert error.startswith("error: ") and message in error, (folder, error)
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    error, _ = run(monkeypatch, capsys, good, good, "--to", tmp_path / "file/x")
    assert "cannot be written" in error and "TO=" in error


def test_names_are_text_in_figure_and_table(tmp_path, monkeypatch, capsys):
    a = study(tmp_path / "a $x_{$", claims(claim=[HOSTILE] * 4))
    error, _ = run(monkeypatch, capsys, a, a, "--to", tmp_path / "out")
    assert not error
    assert read_table(tmp_path / "out/comparison.csv", COMPARISON)["claim"][0] == HOSTILE
    assert "<script>" not in (tmp_path / "out/comparison.svg").read_text()


def drawn(table, **columns):
    words = {f"words_{side}": "inconclusive −0.123 [−0.456, 0.789]" for side in "ab"}
    return table.assign(axis=table["unit"].fillna("").map(axis_of), **words, **columns)


def test_the_figure_can_be_read():
    long = "A sentence of a claim that is long enough to need two lines at the left of a panel, as most are."
    a, b = claims(claim=[long] * 4), claims(verdict=["fails", "inconclusive", "holds", "holds"])
    with styled():
        figure = comparison(drawn(compared(a, b)), "results/one", "results/a-much-longer-name-of-a-study")
    assert unreadable(figure) == []
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["share", "log-odds of refusal"]
    labels = [text.get_text() for ax in figure.axes for text in ax.get_yticklabels()]
    assert [label.startswith("≠") for label in labels] == [True, False, True]
    with styled():
        own = comparison(drawn(compared(a, b).assign(unit=None)), "x", "y")
    assert unreadable(own) == [] and len(own.axes) == 1
    ends = [float(x) for line in own.axes[0].lines for x in line.get_xdata()]
    assert max(ends) <= 1 and min(ends) >= 0


def test_no_claim_in_common_is_said():
    with pytest.raises(NoData, match="no claim applies to both"):
        comparison(drawn(compared(claims(), claims(id=list("wxyz")))), "a", "b")


@pytest.mark.parametrize("name", ["my study", "a'b", "x; touch PWN", "$(touch PWN)"])
def test_make_hands_on_names_as_they_are(name):
    command = ["make", "-n", "-o", ".venv/.run", "compare", f"A=results/{name}", f"B={name}", f"TO={name}/out"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    words = shlex.split(done.stdout)
    assert words[words.index("--to") + 1] == f"{name}/out" and words[-3:] == ["--", f"results/{name}", name]
