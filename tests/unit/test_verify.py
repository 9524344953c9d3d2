"""A run against its reference: identical, within tolerance or interval, different, missing."""

import sys

import pandas as pd
import pytest
import verify as script

from safety_geometry.claims.verify import compare_tables

BASE = pd.DataFrame({
    "regime": ["a", "b", "c"], "x": [0.5, 0.25, 1.0], "x_lo": [0.4, 0.1, 0.9], "x_hi": [0.6, 0.4, 1.0], "layer": [3, 4, 5],
    "word": ["p", None, "q"],
})  # fmt: skip


def changed(**columns):
    return BASE.assign(**columns)


def column(found, name):
    return next(c for c in found.columns if c.name == name)


def test_identical():
    found = compare_tables(BASE.copy(), BASE, ["regime"])
    assert found.identical
    assert found.within


def test_inside_the_references_interval_is_let_pass_and_reported():
    found = compare_tables(changed(x=[0.5, 0.39, 1.0], x_lo=[0.4, 0.2, 0.9]), BASE, ["regime"])
    assert found.within
    assert not found.identical
    assert column(found, "x").largest == pytest.approx(0.14)
    assert column(found, "x").where == "b"
    assert column(found, "x_lo").outside == 0


def test_outside_the_interval_or_the_tolerance_is_not():
    assert not compare_tables(changed(x=[0.5, 0.41, 1.0]), BASE, ["regime"]).within
    assert not compare_tables(changed(layer=[3, 5, 5]), BASE, ["regime"]).within
    assert compare_tables(changed(layer=[3, 4.03, 5]), BASE, ["regime"]).within
    assert not compare_tables(changed(layer=[3, 4.03, 5]), BASE, ["regime"], tolerance=0.001).within


def test_text_and_empty_cells_have_to_agree():
    found = compare_tables(changed(word=["p", None, "r"]), BASE, ["regime"])
    assert (column(found, "word").outside, column(found, "word").where) == (1, "c")
    assert not compare_tables(changed(x=[0.5, None, 1.0]), BASE, ["regime"]).within


def test_rows_and_columns_have_to_be_the_same():
    found = compare_tables(BASE.iloc[:2], BASE, ["regime"])
    assert (found.missing, found.extra, found.within) == (["c"], [], False)
    assert compare_tables(BASE.drop(columns="word"), BASE, ["regime"]).problem == "columns differ: word"
    assert "not unique" in compare_tables(pd.concat([BASE, BASE]), BASE, ["regime"]).problem


def test_another_order_of_rows_is_not_identical_but_within():
    found = compare_tables(BASE.iloc[::-1], BASE, ["regime"])
    assert found.within
    assert not found.identical


def run(monkeypatch, capsys, results, reference):
    monkeypatch.setattr(sys, "argv", ["verify.py", "--results", str(results), "--reference", str(reference)])
    with pytest.raises(SystemExit) as end:
        script.main()
    return end.value.code, capsys.readouterr().out


def test_the_command(tmp_path, monkeypatch, capsys):
    results, reference = tmp_path / "results", tmp_path / "reference"
    code, text = run(monkeypatch, capsys, results, reference)
    assert code == 1
    assert "no reference tables in" in text
    reference.mkdir()
    leakage = pd.DataFrame({"role_a": ["a"], "role_b": ["b"], "n_a": [3], "max_jaccard": [0.2]})
    leakage.to_csv(reference / "leakage.csv", index=False)
    code, text = run(monkeypatch, capsys, results, reference)
    assert code == 1
    assert "run the study first" in text
    results.mkdir()
    leakage.to_csv(results / "leakage.csv", index=False)
    code, text = run(monkeypatch, capsys, results, reference)
    assert code == 0
    assert "leakage: identical" in text
    leakage.assign(max_jaccard=0.5).to_csv(results / "leakage.csv", index=False)
    code, text = run(monkeypatch, capsys, results, reference)
    assert code == 1
    assert "max_jaccard: 1 of 1 cells differ, 1 beyond tolerance; largest difference 0.3 at a/b" in text
    (results / "leakage.csv").unlink()
    code, text = run(monkeypatch, capsys, results, reference)
    assert code == 1
    assert "leakage: MISSING" in text


SEEDS = pd.DataFrame({
    "seed": [1, 2, 3, 1, 2, 3], "regime": ["a", "a", "a", "b", "b", "b"], "x": [0.1, 0.3, 0.2, 5.0, 7.0, 6.0], "word": list("pppqqq"),
})  # fmt: skip


def test_between_the_seeds_of_the_reference_is_let_pass():
    one = SEEDS[SEEDS.seed == 2]
    within = compare_tables(one.assign(x=[0.11, 5.1]), SEEDS, ["seed", "regime"])
    assert within.within and not within.missing and column(within, "x").n == 2
    assert column(compare_tables(one.assign(x=[0.09, 6.0]), SEEDS, ["seed", "regime"]), "x").outside == 1
    assert column(compare_tables(one.assign(x=[0.11, 0.2]), SEEDS, ["seed", "regime"]), "x").outside == 1  # a's range
    assert not compare_tables(one, one.assign(x=[0.1, 5.0]), ["seed", "regime"]).within  # one seed has no range


def test_a_run_of_one_seed_against_three(tmp_path):
    for name, frame in (("mine", SEEDS[SEEDS.seed == 2]), ("reference", SEEDS)):
        (tmp_path / name).mkdir()
        frame.assign(anchor="10").to_csv(tmp_path / name / "five_anchor.csv", index=False)
        frame[["regime"]].drop_duplicates().assign(n=len(frame)).to_csv(tmp_path / name / "claims.csv", index=False)
    lines, good = script.verify(tmp_path / "mine", tmp_path / "reference", 0.01)
    assert good and any("claims: over all seeds" in line for line in lines)
