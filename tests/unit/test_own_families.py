"""Checkpoints that others made, of three families: taken in, probed, asked and attacked, against Hugging Face's own forward.

Gemma 3 and Qwen2 have windows shorter than the prompts, Llama's head is its own matrix and the others' the embedding, and every
embedding is longer than the tokenizer.
"""

import json
import sys
from types import SimpleNamespace

import attack_gcg
import complete
import convert_model
import pandas as pd
import probe
import probe_saves
import pytest
import torch
from conftest import REQUESTS, make_model, make_tokenizer
from safetensors.torch import load_file

from safety_geometry.chat import ChatFormat
from safety_geometry.models import load_model, load_tokenizer
from safety_geometry.suffix import allowed_tokens

FAMILIES = {
    "llama": {"tie_word_embeddings": False},
    "qwen2": {"tie_word_embeddings": True, "window": 12},
    "gemma3_text": {"tie_word_embeddings": True, "window": 12},
}
MODEL = {"dtype": "float32", "device": "cpu", "threads": 1, "system": None}
PROBE = {"model": MODEL, "positions": [-2, -1], "dtype": "float32", "batch_size": 4, "keep": "all"}
SCORES = {"layers": [1, 2], "max_layer_fraction": None, "candidate_positions": [-2, -1], "validation": 3, "coefficient": 1.0,
          "evaluation_share": 0.3, "score_batch": 8}  # fmt: skip
SETS = ("fit_harmful", "fit_benign", "select_harmful", "select_benign")

pytestmark = pytest.mark.usefixtures("one_thread")


def run(monkeypatch, script, params: dict, **files) -> None:
    words = [script.__name__ + ".py"]
    for name, paths in files.items():
        words += [f"--{name.replace('_', '-')}", *map(str, paths if isinstance(paths, list) else [paths])]
    monkeypatch.setattr(sys, "argv", [*words, "--params", json.dumps(params)])
    script.main()


@pytest.fixture(scope="module", params=FAMILIES)
def own(request, tmp_path_factory):
    """A model's folder as it was fetched, what convert_model made of it, and prompts."""
    root = tmp_path_factory.mktemp(request.param)
    make_model(request.param, **FAMILIES[request.param]).save_pretrained(root / "source")
    make_tokenizer().save_pretrained(root / "source")
    rows = [{"id": f"p{i}", "prompt": q, "target": "Sure, here is a list"} for i, q in enumerate(REQUESTS)]
    (root / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [row | {"prompt": row["prompt"] + " Be kind."} for row in rows]
    (root / "benign.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.MonkeyPatch.context() as patch:
        params = {"format": "folder", "dtype": "float32", "threads": 1, "system": None}
        run(patch, convert_model, params, source=root / "source", folder=root / "model")
    tokenizer = load_tokenizer(root / "model")
    return SimpleNamespace(
        root=root, folder=root / "model", model=load_model(root / "model"), tokenizer=tokenizer, chat=ChatFormat(tokenizer),
        window=FAMILIES[request.param].get("window"), prompts=root / "prompts.jsonl",
        benign=root / "benign.jsonl",
    )  # fmt: skip


def states(own, request: str, model=None) -> torch.Tensor:
    """Hugging Face's inputs of the blocks at the last two positions, [2, L, d]."""
    ids = torch.tensor([own.chat.render(request).ids])
    with torch.no_grad():
        hidden = (model or own.model)(ids, output_hidden_states=True, use_cache=False).hidden_states
    return torch.stack([h[0, -2:].float() for h in hidden[:-1]], dim=1)  # the last of its states is normed


def test_it_is_what_the_fixture_says(own):
    assert len(own.tokenizer) < own.model.config.vocab_size
    tied = own.model.lm_head.weight is own.model.model.embed_tokens.weight
    assert tied == (own.model.config.model_type != "llama")
    if own.window:
        assert min(len(own.chat.render(q).ids) for q in REQUESTS) > own.window
        assert "sliding_attention" in own.model.config.layer_types


def test_probed_and_scored(own, tmp_path, monkeypatch):
    sets = {name: own.benign if name.endswith("benign") else own.prompts for name in SETS}
    files = {"activations": tmp_path / "a", "scores": tmp_path / "s"}
    run(monkeypatch, probe, PROBE | SCORES, model=own.folder, **sets, **files)
    found, scores = load_file(tmp_path / "a")["fit.harmful"], load_file(tmp_path / "s")
    for i, request in enumerate(REQUESTS):
        torch.testing.assert_close(found[i, :2, :-1], states(own, request), atol=1e-4, rtol=1e-4)
    assert scores["layers"].tolist() == [1, 1, 2, 2] and all(t.isfinite().all() for t in scores.values())
    run(
        monkeypatch, probe_saves, PROBE, model=own.folder, **sets, activations=[tmp_path / "b"]
    )  # a step that is no anchor
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_asked(own, tmp_path, monkeypatch, dtype):
    params = {
        "model": MODEL | {"dtype": dtype},
        "suites": {"direct": 5},
        "batch_size": 3,
        "positions": [-1, "t_inst"],
        "dtype": dtype,
    }
    files = {"completions": tmp_path / "c.jsonl", "activations": tmp_path / "a"}
    run(monkeypatch, complete, params, model=own.folder, prompts=[own.prompts], **files)
    rows = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()]
    found = load_file(tmp_path / "a")["prompts"]
    assert found.dtype == {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]
    rounded = load_model(own.folder, dtype)
    for i, (row, request) in enumerate(zip(rows, REQUESTS, strict=True)):
        wanted = states(own, request)[1]
        if dtype == "bfloat16":  # as far from the unrounded states as Hugging Face's own are
            error = (states(own, request, rounded)[1] - wanted).norm()
            assert (found[i, 0].float() - wanted).norm() < 2 * error and 0 < error < 0.2 * wanted.norm()
            continue
        torch.testing.assert_close(found[i, 0], wanted, atol=1e-4, rtol=1e-4)
        ids = torch.tensor([own.chat.render(request).ids])
        out = own.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=5, do_sample=False, eos_token_id=list(own.chat.stop_ids), pad_token_id=0
        )[0, ids.shape[1] :]  # fmt: skip
        assert row["completion"] == own.tokenizer.decode(out, skip_special_tokens=True).strip()


def test_attacked(own, tmp_path, monkeypatch):
    gcg = {"steps": 2, "width": 6, "top_k": 400, "suffix_length": 4, "batch_size": 8}
    params = {"model": MODEL, "seed": 3, "source": "mine:1", "behaviours": 2, "gcg": gcg}
    files = {"attacks": tmp_path / "attacks.jsonl", "table": tmp_path / "t.csv"}
    run(monkeypatch, attack_gcg, params, model=own.folder, behaviours=own.prompts, **files)
    table = pd.read_csv(tmp_path / "t.csv")
    assert len(table) == 2 and (table["loss"] <= table["loss_start"]).all() and (table["candidates"] > 0).all()


def test_no_padded_token_is_a_candidate(own):
    allowed = allowed_tokens(own.tokenizer, own.model.config.vocab_size)
    assert allowed.any() and not allowed[len(own.tokenizer) :].any() and len(allowed) == own.model.config.vocab_size


def test_taken_in_as_it_was(own):
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (own.folder / name).read_bytes() == (own.root / "source" / name).read_bytes()
