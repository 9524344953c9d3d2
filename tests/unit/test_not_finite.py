"""A model that overflows in half precision stops what reads it, with a sentence of what to do."""

import json
import sys

import clean_rows
import pytest
import torch
from conftest import REQUESTS, make_model, make_tokenizer

from safety_geometry.attacks.gcg.losses import uncached_loss
from safety_geometry.attacks.gcg.suffix import place
from safety_geometry.geometry.activations import record
from safety_geometry.models.generation import generate
from safety_geometry.models.loading import load_model, save_plain
from safety_geometry.models.runner import NotFinite, Runner

SENTENCE = "not finite in float16: its activations exceed what float16 can hold; set model.dtype to bfloat16 or float32"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model that float32 and bfloat16 can hold, and float16 cannot."""
    folder = tmp_path_factory.mktemp("large")
    model = make_model(layers=2)
    for layer in model.model.layers:
        layer.mlp.down_proj.weight.data.mul_(3e4)
    save_plain(model, make_tokenizer(), folder)
    return folder


def uses(runner, chat):
    prompts = chat.render_many(REQUESTS)
    return {
        "answers": lambda: generate(runner, [p.ids for p in prompts], chat.stop_ids, 4, 2, chat.n_prefix),
        "activations": lambda: record(runner, prompts, [-1, "t_inst"], 2),
        "attacks": lambda: uncached_loss(runner, place(chat, REQUESTS[0], "Sure, here", " ! !")),
    }


@pytest.mark.parametrize("what", ["answers", "activations", "attacks"])
def test_float16_that_overflows(folder, chat, what):
    for dtype in ("float32", "bfloat16"):
        uses(Runner(load_model(folder, dtype)), chat)[what]()
    with pytest.raises(NotFinite, match=SENTENCE):
        uses(Runner(load_model(folder, "float16")), chat)[what]()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_one_such_logit_is_seen(fresh_llama, value):
    runner = Runner(fresh_llama)
    h = torch.zeros(2, 3, runner.d)
    runner.logits(h)
    fresh_llama.model.norm.weight.data.fill_(1.0)
    fresh_llama.lm_head.weight.data[7, 3] = value
    h[1, 2, 3] = 1.0
    with pytest.raises(NotFinite, match="not finite in float32: its weights are damaged"):
        runner.logits(h)


def test_a_cap_does_not_hide_it(models64):
    runner = Runner(models64["gemma2"])
    with pytest.raises(NotFinite):
        runner.logits(torch.full((1, runner.d), torch.inf, dtype=torch.float64))
    assert runner.logits(torch.ones(0, runner.d, dtype=torch.float64)).shape[0] == 0


def test_a_job_ends_with_the_sentence(folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"id": "a", "prompt": REQUESTS[0]}) + "\n")
    model = {"dtype": "float16", "device": "cpu", "threads": 1, "system": None}
    words = ["--model", folder, "--prompts", tmp_path / "prompts.jsonl", "--rows", tmp_path / "rows.jsonl"]
    params = json.dumps({"model": model, "max_new_tokens": 4, "batch_size": 2})
    monkeypatch.setattr(sys, "argv", ["clean_rows.py", *map(str, words), "--params", params])
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    before = torch.get_num_threads()
    try:
        with pytest.raises(NotFinite) as stopped:
            clean_rows.main()
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(before)
    sys.excepthook(stopped.type, stopped.value, None)
    said = capsys.readouterr().err
    assert f"error: model {folder}: the model's logits are {SENTENCE}\n" in said and "Traceback" not in said
    assert not (tmp_path / "rows.jsonl").exists()
