"""A run against its reference: identical, within tolerance or interval, different, missing."""

import sys
from pathlib import Path

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


def claims(**columns):
    """Two claims as claims.csv has them, as far as the comparison reads."""
    rows = {"id": ["first", "second"], "verdict": ["holds", "no effect"], "verdict_over_seeds": ["holds", "inconclusive"],
            "estimate": [0.3, 0.01], "lo": [0.2, -0.05], "hi": [0.4, 0.05], "lo_seeds": [0.1, -0.2], "hi_seeds": [0.5, 0.2]}  # fmt: skip
    return pd.DataFrame(rows | columns)


def five_anchor(**columns):
    rows = {"seed": [1, 1], "regime": ["sft", "r2d2"], "step": [5, 5], "anchor": ["reference"] * 2, "any_refusal": [0.1, 0.4],
            "any_refusal_lo": [0.05, 0.3], "any_refusal_hi": [0.2, 0.5], "any_refusal_n": [60, 60]}  # fmt: skip
    return pd.DataFrame(rows | columns)


def written(folder, **tables):
    folder.mkdir(exist_ok=True)
    for name, frame in tables.items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    return folder


LEAKAGE = pd.DataFrame({"seed": [1], "role_a": ["a"], "role_b": ["b"], "n_a": [3], "max_jaccard": [0.2]})


def test_the_command(tmp_path, monkeypatch, capsys):
    results, reference = tmp_path / "results", tmp_path / "reference"
    code, text = run(monkeypatch, capsys, results, reference)
    assert code == 1 and "no reference tables in" in text
    written(reference, leakage=LEAKAGE, claims=claims(), five_anchor=five_anchor())
    code, text = run(monkeypatch, capsys, results, reference)
    assert code == 1 and "run the study first" in text
    written(results, leakage=LEAKAGE, claims=claims(), five_anchor=five_anchor())
    code, text = run(monkeypatch, capsys, results, reference)
    assert code == 0 and "leakage: identical" in text
    assert "This run agrees with the reference" in text.splitlines()[1]


def test_bytes_that_another_processor_writes_are_no_contradiction(tmp_path, monkeypatch, capsys):
    """Other tables differ, and values within intervals: exit 0 and a plain sentence."""
    reference = written(tmp_path / "reference", leakage=LEAKAGE, claims=claims(), five_anchor=five_anchor())
    near = five_anchor(any_refusal=[0.1167, 0.45])
    results = written(tmp_path / "results", leakage=LEAKAGE.assign(max_jaccard=0.5), claims=claims(estimate=[0.22, 0.04]),
                      five_anchor=near)  # fmt: skip
    code, text = run(monkeypatch, capsys, results, reference)
    assert code == 0 and "verdicts are the same" in text
    assert "max_jaccard: 1 of 1 cells differ, 1 beyond tolerance; largest difference 0.3 at 1/a/b" in text
    (results / "leakage.csv").unlink()
    code, text = run(monkeypatch, capsys, results, reference)
    assert code == 0 and "leakage: missing" in text


@pytest.mark.parametrize(
    ("table", "frame", "first"),
    [
        (
            "claims",
            claims(verdict=["holds", "inconclusive"]),
            "claim second: inconclusive, the reference has no effect",
        ),
        (
            "claims",
            claims(verdict_over_seeds=["fails", "inconclusive"]),
            "claim first over seeds: fails, the reference has holds",
        ),
        (
            "claims",
            claims(estimate=[0.52, 0.01]),
            "claim first: 0.52 lies outside [0.1, 0.5] about the reference's 0.3",
        ),
        ("claims", claims(estimate=[None, 0.01]), "claim first: nan lies outside"),
        ("claims", claims().iloc[:1], "claim second: not in this run"),
        (
            "five_anchor",
            five_anchor(any_refusal=[0.1, 0.6]),
            "any_refusal of r2d2:5, seed 1: 0.6 lies outside [0.3, 0.5]",
        ),
    ],
)
def test_what_contradicts_the_reference_is_named_first(tmp_path, monkeypatch, capsys, table, frame, first):
    tables = {"claims": claims(), "five_anchor": five_anchor(), "leakage": LEAKAGE}
    reference = written(tmp_path / "reference", **tables)
    results = written(tmp_path / "results", **tables | {table: frame})
    code, text = run(monkeypatch, capsys, results, reference)
    assert code == 1 and text.splitlines()[1].startswith(first)
    assert text.splitlines()[-1].startswith("This run does not agree with the reference")


def test_verdicts_stand_before_values(tmp_path, monkeypatch, capsys):
    reference = written(tmp_path / "reference", claims=claims(), five_anchor=five_anchor())
    worse = claims(estimate=[0.9, 0.01], verdict=["holds", "fails"])
    results = written(tmp_path / "results", claims=worse, five_anchor=five_anchor(any_refusal=[0.9, 0.4]))
    _, text = run(monkeypatch, capsys, results, reference)
    assert [line.split(":")[0] for line in text.splitlines()[1:4]] == [
        "claim second",
        "claim first",
        "any_refusal of sft",
    ]


def test_a_reference_of_earlier_rules_is_not_held_against_a_run(tmp_path, monkeypatch, capsys):
    earlier = pd.DataFrame({"id": ["first"], "value": [0.3], "verdict": ["inconclusive"]})
    reference = written(tmp_path / "reference", claims=earlier, five_anchor=five_anchor())
    results = written(tmp_path / "results", claims=claims(), five_anchor=five_anchor())
    code, text = run(monkeypatch, capsys, results, reference)
    assert code == 0 and "decided by earlier rules: not compared" in text and "verdicts are the same" not in text


def test_the_stored_reference_agrees_with_itself():
    """Whatever rules its claims were decided by."""
    tables = Path(__file__).resolve().parents[2] / "docs/results/tables"
    lines, good = script.verify(tables, tables, 0.01)
    assert good and any("five_anchor: identical" in line for line in lines)


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
    """Claims are over all seeds and are not compared; a rate between the reference's seeds is let pass."""
    three = pd.concat([five_anchor(seed=[s, s], any_refusal=[0.1, rate]) for s, rate in ((1, 0.4), (2, 0.7), (3, 0.5))])
    reference = written(tmp_path / "reference", claims=claims(), five_anchor=three)
    results = written(
        tmp_path / "mine", claims=claims(verdict=["fails", "fails"]), five_anchor=five_anchor(any_refusal=[0.1, 0.65])
    )
    lines, good = script.verify(results, reference, 0.01)
    assert good and any("over all seeds, and those differ ([1], [1, 2, 3])" in line for line in lines)
    far = written(tmp_path / "far", claims=claims(), five_anchor=five_anchor(any_refusal=[0.1, 0.8]))
    assert not script.verify(far, reference, 0.01)[1]
