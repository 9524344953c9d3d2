"""workflow/scripts/attack.py on a tiny model: its two outputs, and a killed job that goes on where it was."""

import json
import sys

import _resume
import attack as script
import pandas as pd
import pytest
from _job import Job, JobError
from _resume import Progress
from conftest import REQUESTS, make_model, make_tokenizer

PARAMS = {
    "model": {"dtype": "float32", "device": "cpu", "threads": 1, "system": None}, "seed": 3, "source": "sft:4",
    "behaviours": 3, "refusal_tokens": 4, "require_refusal": False, "batch_size": 4,
    "gcg": {"steps": 4, "width": 8, "top_k": 30, "suffix_length": 4, "batch_size": 16, "merge": 3},
}  # fmt: skip
ROWS = [{"id": f"b{i}", "prompt": q, "target": "Sure, here is a list"} for i, q in enumerate(REQUESTS)]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    make_model(layers=2).save_pretrained(folder / "model")
    make_tokenizer().save_pretrained(folder / "model")
    (folder / "behaviours.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return folder


def run(monkeypatch, inputs, out, params=PARAMS):
    monkeypatch.setattr(sys, "argv", [
        "attack.py", "--model", str(inputs / "model"), "--behaviours", str(inputs / "behaviours.jsonl"),
        "--attacks", str(out / "private/fixed.jsonl"), "--table", str(out / "attacks.csv"), "--params", json.dumps(params),
    ])  # fmt: skip
    script.main()
    return (out / "private/fixed.jsonl").read_bytes(), (out / "attacks.csv").read_bytes()


def test_a_killed_attack_goes_on(monkeypatch, inputs, tmp_path, capsys):
    whole = run(monkeypatch, inputs, tmp_path / "whole")
    save, saves = Progress.save, []

    def dies(self, state):
        save(self, state)
        saves.append(state["step"])
        if len(saves) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        run(monkeypatch, inputs, tmp_path / "killed")
    assert [p.name for p in (tmp_path / "killed/private").iterdir()] == [".fixed.jsonl.progress"]
    assert not (tmp_path / "killed/attacks.csv").exists()
    capsys.readouterr()
    assert run(monkeypatch, inputs, tmp_path / "killed") == whole
    assert saves == [1, 2, 3, 4] and "going on after step 2 of 4" in capsys.readouterr().err
    assert not (tmp_path / "killed/private/.fixed.jsonl.progress").exists()

    table = pd.read_csv(tmp_path / "whole/attacks.csv")
    assert list(table["behaviour"]) == ["b0", "b1", "b2"] and (table["loss"] < table["loss_start"]).all()
    assert set(table["stopped"]) == {"steps"} and set(table["batch_size"]) == {16} and (table["tokens"] > 0).all()
    lines = [json.loads(line) for line in whole[0].decode().splitlines()]
    assert [(row["id"], row["arm"]) for row in lines[:2]] == [("b0", "gcg"), ("b0", "gcg_init")]
    assert lines[1]["prompt"] == REQUESTS[0] + " !" * 4 != lines[0]["prompt"]


def test_progress_of_another_job_is_not_used(monkeypatch, inputs, tmp_path):
    def job(**params):
        monkeypatch.setattr(sys, "argv", ["x", "--model", str(inputs / "model"), "--out", str(tmp_path / "out"), "--params", json.dumps(params)])  # fmt: skip
        return Job("", inputs=["model"], outputs=["out"])

    mine = Progress(job(a=1), tmp_path / "out")
    assert mine.load() is None
    mine.save({"step": 3})
    assert Progress(job(a=1), tmp_path / "out").load() == {"step": 3}
    assert Progress(job(a=2), tmp_path / "out").load() is None
    mine.file.write_text(mine.file.read_text()[:-5])  # cut
    assert mine.load() is None
    monkeypatch.setattr(_resume, "recorded_digest", lambda path: "other")
    mine.save({"step": 3})
    assert Progress(job(a=1), tmp_path / "out").load() is None
    mine.clear()
    mine.clear()


def test_a_start_that_cannot_be_placed(monkeypatch, inputs, tmp_path):
    params = PARAMS | {"gcg": PARAMS["gcg"] | {"init": " poem about"}}
    with pytest.raises(JobError, match=r"attacks.gcg on b0: 4 × ' poem about' is \d+ tokens"):
        run(monkeypatch, inputs, tmp_path, params)
