"""Answers for people to label: spread over strata, without a score, and read back by id and digest."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pipeline.config_file import read_study
from pipeline.layout import filled

from safety_geometry.artefacts.tables.working import JUDGED
from safety_geometry.judges.agreement import agreement, fitting, read_hand_labels, with_prefixes
from safety_geometry.judges.judging import judge_rows
from safety_geometry.judges.label_sample import VERDICTS, drawn, verdicts

ROOT = Path(__file__).parents[2]


def judged(n: int = 400) -> pd.DataFrame:
    """One regime answers ten times as much as the other; successes are rare."""
    rng = np.random.default_rng(0)
    return pd.DataFrame({
        "id": [f"a{i}" for i in range(n)], "regime": np.where(np.arange(n) % 10 == 0, "sft", "r2d2"), "suite": "direct",
        "arm": [None, "gcg"] * (n // 2), "any_refusal": rng.random(n) < 0.8, "degenerate": rng.random(n) < 0.1,
        "attack_success": rng.random(n) < 0.5,
    })  # fmt: skip


def test_strata_are_served_in_turn():
    rows = judged()
    sample = drawn(rows, 60, seed=2)
    assert sample["id"].is_unique and set(sample["id"]) <= set(rows["id"])
    of = ["regime", "arm", "_verdict"]
    there = rows.assign(_verdict=verdicts(rows)).groupby(of, dropna=False).size()
    taken = sample.assign(_verdict=verdicts(sample)).groupby(of, dropna=False).size().reindex(there.index, fill_value=0)
    most = taken.max()
    assert ((taken == there) | (taken >= most - 1)).all()  # a stratum gives as many as the others, or all it has
    assert set(verdicts(sample)) == set(VERDICTS)
    pd.testing.assert_frame_equal(drawn(rows, 60, seed=2), sample)
    assert drawn(rows, 60, seed=3)["id"].tolist() != sample["id"].tolist()
    with pytest.raises(ValueError, match="400 that were judged: draw fewer"):
        drawn(rows, 401)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The smoke study with two judged checkpoints of each regime and workflow/label_sample.py."""
    spec = importlib.util.spec_from_file_location("label_sample", ROOT / "workflow" / "label_sample.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    study = read_study(ROOT / "configs/smoke.yaml")
    for seed, regime, step in study.judged_checkpoints():
        texts = [
            "Sorry, I can't do that.",
            f"Take flour and water for step {step} and bake it.",
            "no no no no no",
            "The river is long.",
        ]
        rows = [
            {"id": f"direct:p{i}", "suite": "direct", "prompt_id": f"p{i}", "prompt": f"SECRET {i}", "completion": text,
             "n_tokens": 9, "hit_limit": False}
            for i, text in enumerate(texts)
        ]  # fmt: skip
        answers, table = (
            Path(filled(path(regime, step), seed)) for path in (study.layout.completions, study.layout.judged)
        )
        for path in (answers, table):
            path.parent.mkdir(parents=True, exist_ok=True)
        answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
        judge_rows(rows, "test")[JUDGED.names].to_csv(table, index=False)
    return study, module


def draw(module, monkeypatch, *more: str) -> None:
    words = ["label_sample.py", "--configfile", str(ROOT / "configs/smoke.yaml"), *more]
    monkeypatch.setattr(sys, "argv", words)
    module.main()


def test_from_a_study_to_labels_and_back(study, monkeypatch, capsys):
    study, module = study
    draw(module, monkeypatch, "--answers", "10")
    root, said = Path(study.layout.root), capsys.readouterr().out
    sheet, labels = pd.read_csv(root / "private/label_sample.csv"), root / "judge_labels.csv"
    assert list(sheet.columns) == ["id", "request", "answer"] and len(sheet) == 10
    text = labels.read_text()
    assert "SECRET" not in said + text and "river" not in text
    empty = read_hand_labels(labels)
    assert empty["id"].tolist() == sheet["id"].tolist()
    assert empty.drop(columns=["id", "digest"]).isna().all(axis=None)

    refused = sheet["answer"].str.startswith("Sorry")
    filled_in = empty.assign(refusal=np.where(refused, "full", "none"), attack_success=np.where(refused, "0", "1"))
    filled_in.to_csv(labels, index=False)
    frames = [
        (f"{seed}:{regime}:{step}:", pd.read_csv(filled(study.layout.judged(regime, step), seed)))
        for seed, regime, step in study.judged_checkpoints()
    ]
    everything = with_prefixes(frames)
    table = agreement(everything, fitting(read_hand_labels(labels), everything)).set_index(["target", "subset"])
    assert table.loc[("any_refusal", "all"), ["n", "accuracy"]].tolist() == [10, 1.0]
    assert ("attack_success", "answered") in table.index

    with pytest.raises(SystemExit, match=r"label_sample\.csv exists already; it may hold labels"):
        draw(module, monkeypatch)


def test_what_cannot_be_drawn(study, monkeypatch):
    study, module = study
    with pytest.raises(SystemExit, match="error: 1000 answers to label"):
        draw(module, monkeypatch, "--answers", "1000")
    seed, regime, step = study.judged_checkpoints()[0]
    path = Path(filled(study.layout.completions(regime, step), seed))
    path.write_text(path.read_text().replace("flour", "sand"))
    with pytest.raises(SystemExit, match="not the one that was judged; judge again, then draw"):
        draw(module, monkeypatch, "--answers", str(4 * len(study.judged_checkpoints())))
    path.unlink()
    with pytest.raises(SystemExit, match="error: "):
        draw(module, monkeypatch, "--answers", "4")
