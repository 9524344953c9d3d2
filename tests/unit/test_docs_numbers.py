"""Numbers that the documentation quotes are those of docs/results."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from safety_geometry.artefacts.tables.files import check_table, read_table
from safety_geometry.artefacts.tables.registry import TABLES

DOCS = Path(__file__).resolve().parents[2] / "docs"
RESULTS = DOCS / "results"


def said(page: str, pattern: str) -> list[float]:
    """The groups of the only match of `pattern` in a page, line breaks as spaces."""
    text = " ".join((DOCS / page).read_text().split())
    found = re.findall(pattern, text)
    assert len(found) == 1, f"docs/{page}: {pattern!r} is there {len(found)} times"
    return [float(x) for x in ([found[0]] if isinstance(found[0], str) else found[0])]


def test_monitor_refusals_of_the_reference_run():
    page = (DOCS / "hyperparameters.md").read_text()
    text = page.split("**Confirmation on a fresh seed**")[1].split("**R2D2's inner attack.**")[0]
    header, _, *rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    table = pd.read_csv(RESULTS / "tables/training.csv").set_index(["regime", "step"])
    steps = [int(re.search(r"\d+", cell).group()) for cell in header[1:]]
    assert [row[0] for row in rows] == ["r2d2", "sft_refusal"] and steps == [5, 10, 15, 20, 30]
    for regime, *cells in rows:
        for step, cell in zip(steps, cells, strict=True):
            wanted = table.loc[(regime, step), ["refusal_harmful", "refusal_benign"]].tolist()
            assert [float(x) for x in cell.split(" / ")] == pytest.approx(wanted, abs=0.0051), (regime, step)


def test_trials_with_clean_rows_of_another_author():
    table = pd.read_csv(RESULTS / "trials.csv").set_index(["trial", "regime", "step"])
    lines = (DOCS / "hyperparameters.md").read_text().split("**Clean rows of another author**")[1].splitlines()
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    steps, trial, compared = [int(re.search(r"\d+", cell).group()) for cell in header[3:]], 0, 0
    for number, _, regime, *cells in rows:
        trial = int(number or trial)
        for step, cell in zip(steps, cells, strict=True):
            if cell:
                wanted = table.loc[(trial, regime, step), ["refusal_harmful", "refusal_benign"]].tolist()
                assert [float(x) for x in cell.split(" / ")] == pytest.approx(wanted, abs=0.0051), (trial, regime, step)
                compared += 1
    assert compared == len(table.drop("sft", level="regime"))


def test_the_trial_of_the_inner_attack():
    table = pd.read_csv(RESULTS / "pool_trial.csv").set_index("variant")
    lines = (DOCS / "hyperparameters.md").read_text().split("| variant | differs by |")[1].splitlines()[2:]
    rows = [line.strip("| ").split(" | ") for line in lines[: len(table)]]
    assert {row[0] for row in rows} == set(table.index)
    for variant, _, gain, seconds, per_second in rows:
        measured = table.loc[variant]
        assert [float(value) for value in gain.split(" ± ")] == pytest.approx(
            [measured["gain"], measured["gain_se"]], abs=0.00051
        )
        assert float(seconds) == pytest.approx(measured["spent_s"], abs=0.051)
        assert float(per_second) == pytest.approx(measured["gain_s"], abs=0.00051)
    assert table["gain_s"].idxmax() == "narrow"


def test_reference_anchors():
    rule = pd.read_csv(RESULTS / "tables/reference_anchors.csv").set_index("regime")
    assert said(
        "hyperparameters.md", r"On the reference run it gives step (\d+) for R2D2 and no step for `sft_refusal`"
    ) == [rule.loc["r2d2", "by_rule"]]
    assert said("protocol.md", r"(\d+) \(R2D2\), as the rule gives") == [rule.loc["r2d2", "configured"]]
    assert rule.loc["r2d2", "configured"] == rule.loc["r2d2", "by_rule"]
    assert rule.loc[["sft", "sft_refusal"], "by_rule"].isna().all()


def test_judges():
    table = pd.read_csv(RESULTS / "tables/judges.csv").set_index(["judge", "dataset", "target"])
    n = {}
    explicit, n["explicit_refusal"], all_labels, n["refusal"] = said(
        "protocol.md", r"rules agree with (\.\d+) of the (\d+) human labels .* only (\.\d+) of all (\d+) labels"
    )
    for target, value in (("explicit_refusal", explicit), ("refusal", all_labels)):
        row = table.loc[("refusal_rules", "pyrit refusal", target)]
        assert (round(row["accuracy"], 3), row["n"]) == (value, n[target])
    (topic,) = said("protocol.md", r"A judge of rules and topic reaches (\.\d+) on all labels")
    assert round(table.loc[("off_topic_trained", "pyrit refusal", "refusal"), "accuracy"], 3) == topic


@pytest.mark.xfail(reason="the stored table lacks new columns; the next reference makes it anew", strict=True)
def test_the_table_of_judges_fits_its_schema():
    """The smoke study trains no judges, so no run in the tests makes this table."""
    check_table(read_table(RESULTS / "tables/judges.csv"), TABLES["judges"])


def test_performance():
    scoring, sweep = (json.loads((RESULTS / f"{name}_benchmark.json").read_text()) for name in ("scoring", "sweep"))
    cosines, kl = said("performance.md", r"Cosines agree within ([\de.-]+), the KL within ([\de.-]+) nats")
    assert max(scoring["difference_s_refuse"], scoring["difference_s_comply"]) <= cosines
    assert kl * 0.9 < scoring["difference_kl"] <= kl
    g = sweep["generation"]
    numbers = said(
        "performance.md",
        r"of the ([\d.]+) s, ([\d.]+) s \((\d+) %\) are the least time .*?, ([\d.]+) s \((\d+) %\) that of the prompts,"
        r" .*? and ([\d.]+) s \((\d+) %\) what the engine adds",
    )
    parts = [g["floor_steps_s"], g["floor_prompts_s"], g["engine_s"] - g["floor_steps_s"] - g["floor_prompts_s"]]
    assert numbers[0] == pytest.approx(g["engine_s"], abs=0.051)
    assert numbers[1::2] == pytest.approx(parts, abs=0.051)
    assert numbers[2::2] == pytest.approx([100 * part / g["engine_s"] for part in parts], abs=0.6)


def test_the_aligned_reference():
    anchors = pd.read_csv(RESULTS / "aligned/tables/aligned_anchors.csv").set_index("scope").loc["layer"]
    inversion = pd.read_csv(RESULTS / "aligned/tables/reply_inversion.csv").iloc[0]
    text = (RESULTS / "README.md").read_text()
    for ends in [
        anchors[[f"refusal_{name}", f"refusal_{name}_lo", f"refusal_{name}_hi"]]
        for name in ("baseline", "h_only", "r_only")
    ] + [inversion[["auroc", "auroc_lo", "auroc_hi"]]]:
        value, lo, hi = (f"{end:.2f}".removeprefix("0") for end in ends)
        assert re.search(rf"{re.escape(value)}\s+\[{re.escape(lo)}, {re.escape(hi)}\]", text), (value, lo, hi)
    assert f"(layer {anchors['layer_r']}, position −{-int(anchors['pos_r'])})" in text
