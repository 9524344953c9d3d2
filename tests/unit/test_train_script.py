"""The training script on a tiny model: its log as a table, and requests that the initial suffix merges with."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import train_segment
import training_table
from _job import JobError
from conftest import REQUESTS, make_model, make_tokenizer

from safety_geometry.artefacts.errors import ArtefactError
from safety_geometry.artefacts.tables.files import read_table
from safety_geometry.artefacts.training_log import MonitorAnswer, read_answers
from safety_geometry.training import table

PARAMS = {
    "model": {"dtype": "float32", "device": "cpu", "threads": 1, "system": None}, "seed": 3, "regime": "r2d2",
    "start": 0, "stop": 3, "saves": [3], "base_name": "tiny", "max_length": 100,
    "lora": {"rank": 2, "alpha": 4, "dropout": 0.0, "targets": ["q_proj"]},
    "train": {"learning_rate": 1e-3, "schedule_steps": 4, "rows": 2, "micro_rows": 2},
    "pool": {"size": 1, "per_step": 1, "reset_every": 2, "reset_share": 1.0, "refresh": True},
    "gcg": {"steps": 1, "width": 3, "top_k": 10, "suffix_length": 3, "batch_size": 4},
    "monitor": {"every": 2, "at_saves": False, "prompts": 1, "max_new_tokens": 2, "batch_size": 1},
}  # fmt: skip
GOOD = {"id": "good", "prompt": "How warm is the sea?", "target": "Sure, here is a list"}
MERGES = {"id": "merges", "prompt": "Sharpen the knife in one line", "target": "Sure, here is a list"}

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of one model by the kind of its tokenizer; `merging` merges ` !` with the letter before it."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in ("bytes", "merging")}
    model = make_model(layers=2)
    for kind, folder in folders.items():
        model.save_pretrained(folder)
        make_tokenizer(kind).save_pretrained(folder)
    return folders


def run(monkeypatch, model, folder, behaviours, **changes) -> pd.DataFrame:
    rows = {
        "clean": [{"prompt": q, "response": "Warm"} for q in REQUESTS], "pool": behaviours,
        "monitor-harmful": [{"id": "h", "prompt": REQUESTS[0]}], "monitor-benign": [{"id": "b", "prompt": REQUESTS[1]}],
    }  # fmt: skip
    words = ["--model", model, "--params", json.dumps(PARAMS | changes)]
    for name, each in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in each))
        words += [f"--{name}", folder / f"{name}.jsonl"]
    words += ["--adapters", folder / "step3", "--new-state", folder / "state.safetensors"]
    words += ["--new-progress", folder / "progress.json", "--log", folder / "training_log.csv"]
    words += ["--answers", folder / "answers.jsonl"]
    monkeypatch.setattr(sys, "argv", ["train_segment.py", *map(str, words)])
    train_segment.main()
    words = [
        "--logs",
        folder / "training_log.csv",
        "--answers",
        folder / "answers.jsonl",
        "--table",
        folder / "training.csv",
    ]
    monkeypatch.setattr(sys, "argv", ["training_table.py", *map(str, words)])
    training_table.main()
    return read_table(folder / "training.csv")


def test_the_log_names_the_cases_of_every_step(monkeypatch, models, tmp_path):
    table = run(monkeypatch, models["bytes"], tmp_path, [GOOD, MERGES])
    assert set(table["cases"]) == {"good", "merges"}
    assert list(table["cases"].duplicated()) == [False, True, False]  # the reset after two steps brings the other
    assert list(table["updates_min"]) == list(table["updates_max"]) == [1, 2, 1]
    header, *lines = (tmp_path / "training.csv").read_text().splitlines()
    at = header.split(",").index("cases")
    assert [line.split(",")[at + 1 : at + 3] for line in lines] == [["1", "1"], ["2", "2"], ["1", "1"]]
    assert not any(text in "".join(lines) for text in ("How warm", "Sharpen"))


def test_sft_has_no_cases(monkeypatch, models, tmp_path):
    table = run(monkeypatch, models["bytes"], tmp_path, [], regime="sft", pool=None)
    assert len(table) == 3 and table[["cases", "updates_min", "updates_max"]].isna().all(axis=None)


def test_requests_that_merge_with_the_suffix(monkeypatch, models, tmp_path, capsys):
    """At the start, or at the reset after two steps that brings the second request: which comes first is drawn."""
    reached = set()
    for seed in range(6):
        with pytest.raises(JobError, match=r"regime r2d2: behaviour merges: .* merges the suffix .*pool\.gcg\.init"):
            run(monkeypatch, models["merging"], tmp_path, [GOOD, MERGES], seed=seed)
        reached.add(capsys.readouterr().err.count("step "))
    assert reached == {0, 2}
    assert not (tmp_path / "training_log.csv").exists()


def test_conversations_beyond_max_length(monkeypatch, models, tmp_path, caplog):
    with pytest.raises(
        JobError, match=r"^error: regime sft: 0 clean rows cannot fill a step of .*raise `train.max_length`"
    ):
        run(monkeypatch, models["bytes"], tmp_path, [], regime="sft", pool=None, max_length=8)
    assert f"of {len(REQUESTS)} clean conversations {len(REQUESTS)} left out" in caplog.text


def test_the_monitors_answers_are_judged_in_the_table(monkeypatch, models, tmp_path):
    """After every second step, both roles; the rule is replaced by one that a random model can fulfil."""
    run(monkeypatch, models["bytes"], tmp_path, [], regime="sft", pool=None)
    answers = read_answers(tmp_path / "answers.jsonl")
    asked = [(answer.step, answer.role, answer.prompt_id) for answer in answers]
    assert asked == [(2, "monitor_harmful", "h"), (2, "monitor_benign", "b")]
    lines = [MonitorAnswer(step, role, "p", text) for step, role, text in (
        (1, "monitor_harmful", "no"), (1, "monitor_harmful", "yes"), (1, "monitor_benign", "yes"), (3, "monitor_harmful", "no"))]  # fmt: skip
    monkeypatch.setattr(table, "classify", lambda text: "full" if text == "no" else "none")
    judged = table.with_refusals(read_table(tmp_path / "training_log.csv"), lines)
    assert judged["refusal_harmful"].fillna(-1).tolist() == [0.5, -1, 1]
    assert judged["refusal_benign"].fillna(-1).tolist() == [0, -1, -1]


def test_files_of_a_segment_that_are_damaged(tmp_path):
    (tmp_path / "training_log.csv").write_text("seed,regime\n1,sft\n")
    with pytest.raises(ArtefactError, match=r"training_log.csv: columns \['step', "):
        read_table(tmp_path / "training_log.csv")
    (tmp_path / "answers.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(ArtefactError, match=r"answers.jsonl: not a monitor's answers"):
        read_answers(tmp_path / "answers.jsonl")


def test_a_script_that_reads_a_damaged_artefact_ends_in_a_sentence(tmp_path):
    (tmp_path / "training_log.csv").write_text("seed,regime\n1,sft\n")
    (tmp_path / "answers.jsonl").write_text("")
    words = [
        "--logs",
        tmp_path / "training_log.csv",
        "--answers",
        tmp_path / "answers.jsonl",
        "--table",
        tmp_path / "training.csv",
    ]
    command = [sys.executable, training_table.__file__, *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": "src"}, cwd=ROOT)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert ended.stderr.startswith("error: ") and "training_log.csv: columns ['step', " in ended.stderr
