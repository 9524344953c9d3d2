"""The training script on a tiny model: what it registers of batches that memory made smaller."""

import json
import sys

import pytest
import train_segment as script
from conftest import REQUESTS, make_model, make_tokenizer
from test_memory import Small

from safety_geometry.training import monitor, segment

PARAMS = {
    "model": {"dtype": "float32", "device": "cpu", "threads": 1, "system": None}, "seed": 1, "regime": "r2d2", "start": 0, "stop": 1, "saves": [1],
    "lora": {"rank": 2, "alpha": 4, "dropout": 0.0, "targets": ["q_proj"]}, "base_name": "tiny", "max_length": 64,
    "train": {"learning_rate": 0.01, "schedule_steps": 2, "rows": 2, "micro_rows": 1, "weight_decay": 0.0, "clip": 1.0},
    "monitor": {"every": 1, "at_saves": False, "prompts": 3, "max_new_tokens": 2, "batch_size": 3},
    "pool": {"size": 2, "per_step": 1, "reset_every": 3, "reset_share": 0.5, "refresh": True, "away": True},
    "gcg": {"steps": 1, "width": 8, "top_k": 20, "suffix_length": 3, "batch_size": 16},
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.filterwarnings("ignore::safety_geometry.models.memory.LessMemory")
def test_a_segment_says_that_memory_was_short(monkeypatch, tmp_path):
    make_model(layers=2).save_pretrained(tmp_path / "model")
    make_tokenizer().save_pretrained(tmp_path / "model")
    rows = [
        {"id": f"b{i}", "prompt": q, "target": "Sure, here is a list", "response": "Warm"}
        for i, q in enumerate(REQUESTS)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    inputs = {"model": "model"} | dict.fromkeys(("clean", "pool", "monitor-harmful", "monitor-benign"), "rows.jsonl")
    outputs = {"adapters": "adapter", "new-state": "state", "new-progress": "progress.json", "log": "training_log.csv",
               "answers": "answers.jsonl"}  # fmt: skip
    words = [word for name, file in (inputs | outputs).items() for word in (f"--{name}", str(tmp_path / file))]
    monkeypatch.setattr(sys, "argv", ["train_segment.py", *words, "--params", json.dumps(PARAMS)])
    for module in (segment, monitor):
        monkeypatch.setattr(module, "Runner", Small)
    monkeypatch.setattr(Small, "most", 2)
    monkeypatch.setattr(
        segment.AttackBatches, "on", classmethod(lambda cls, device, rows, ranks, grows: cls(rows, True, ranks))
    )
    script.main()
    for name in outputs.values():
        changed = json.loads((tmp_path / f"{name}.provenance.json").read_text())["layout_changed"]
        assert changed["GCG's candidates"]["asked"] == 16 and changed["GCG's candidates"]["used"] <= 2
        assert changed["monitor's answers"] == {"asked": 3, "used": 1}
