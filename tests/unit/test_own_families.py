"""Checkpoints that others made, of four families: taken in, probed, asked, attacked, measured and swept, against Hugging Face's own
forward.

Gemma 3, Qwen2 and Olmo 3 have windows shorter than the prompts, Olmo 3 norms behind its blocks, Llama's and Olmo's heads are their
own matrices and the others' the embedding, and every embedding is longer than the tokenizer.
"""

import json
import sys
from types import SimpleNamespace

import attack_gcg
import carriers
import causal_tables
import complete
import convert_model
import pandas as pd
import probe
import probe_saves
import pytest
import sweep
import torch
import transfer
from conftest import REQUESTS, make_model, make_tokenizer
from safetensors.torch import load_file

from safety_geometry.artefacts.tables.files import write_table
from safety_geometry.artefacts.tables.working import JUDGED
from safety_geometry.attacks.gcg.suffix import allowed_tokens
from safety_geometry.models.chat import ChatFormat
from safety_geometry.models.loading import load_model
from safety_geometry.models.tokenizer import load_tokenizer

FAMILIES = {
    "llama": {"tie_word_embeddings": False},
    "qwen2": {"tie_word_embeddings": True, "window": 12},
    "gemma3_text": {"tie_word_embeddings": True, "window": 12},
    "olmo3": {"tie_word_embeddings": False, "window": 12},
}
MODEL = {"dtype": "float32", "device": "cpu", "threads": 1, "system": None}
PROBE = {"model": MODEL, "positions": [-2, -1], "dtype": "float32", "batch_size": 4, "keep": "all"}
SCORES = {"layers": [1, 2], "max_layer_fraction": 1.0, "candidate_positions": [-2, -1], "coefficient": 1.0,
          "evaluation_share": 0.3, "score_batch": 8, "removal": "layer", "answer_batch": 4,
          "selection": {"in_charge": "cosmic", "kl_max": 1e9, "beta_kl": 1.0, "min_gain": {"effect": 0.0, "cosmic": 0.0},
                        "validation": 4, "screen": 2, "finalists": 3, "null_sets": 2, "null_sites": 2, "openings": ["Sorry"],
                        "answer_tokens": 2, "require_gain": False, "seed": 1}}  # fmt: skip
CARRIERS = {
    "seed": 3, "regime": "mine", "steps": [1], "anchors": {"reference": 1}, "reference": 1, "scored_steps": [1],
    "settings": {
        "positions": [-2, -1], "h_position": -1, "h_score": "dprime", "selector": "cosmic", "kl_max": 1e9,
        "beta_kl": 1.0, "min_gain": {"effect": 0.0, "cosmic": 0.0}, "require_gain": False,
        "max_layer_fraction": 1.0, "subspace_k": 2, "tau": 4.0, "fixed_layers": [1, 2], "bootstrap": 4, "shuffles": 2, "splits": 2,
        "seed": 0,
    },
}  # fmt: skip
OPENINGS = ["Sorry", "I"]
SWEEP = {
    "model": MODEL, "seed": 3, "step": 1, "primary": [], "permutations": 0, "max_matched_lambda": 3.0, "openings": OPENINGS, "batch_size": 8,
    "targets": ["ablate:h_only:1:layer:1", "ablate:r_only:1:layer:1"],
    "controls": {"random": 1, "covariance": 1, "shuffled": 1, "wrong_layer": 1, "wrong_position": 1, "norm_matched": 0},
    "prompts": {"harmful": 4, "benign": 2}, "steer_scale": "unit", "subspace_positions": [-2, -1],
    "layer_scan": {"layers": [1, 3], "modes": ["r_only"], "family": "ablate", "lambda": [0.5, 1.0], "controls": {"random": 1}},
    "generate": {"cells": ["ablate:r_only:1:layer:1"], "controls": {}, "suites": {"direct": 2}, "max_new_tokens": 4, "batch_size": 4},
}  # fmt: skip
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
    assert tied == FAMILIES[own.model.config.model_type]["tie_word_embeddings"]
    if own.window:
        assert min(len(own.chat.render(q).ids) for q in REQUESTS) > own.window
        assert "sliding_attention" in own.model.config.layer_types


@pytest.fixture(scope="module")
def measured(own):
    """Folder with the activations, scores and carriers of the model, and the tables of carriers.py."""
    sets = {name: own.benign if name.endswith("benign") else own.prompts for name in SETS}
    tables = {
        name: own.root / f"{name}.csv"
        for name in ("coupling", "geometry", "coupling_controls", "profile", "selection", "separability")
    }
    with pytest.MonkeyPatch.context() as patch:
        run(patch, probe, PROBE | SCORES, model=own.folder, **sets, activations=own.root / "a", scores=own.root / "s")
        files = tables | {"controls": tables["coupling_controls"], "carriers": own.root / "c"}
        files.pop("coupling_controls")
        rulers = own.root / "rulers.csv"
        sides = {label: len(sets[f"select_{label}"].read_text().splitlines()) for label in ("harmful", "benign")}
        lines = [f"{label},1,0.5" for label, count in sides.items() for _ in range(count)]
        rulers.write_text("\n".join(["label,length,words", *lines]) + "\n")
        files["rulers"] = rulers
        run(patch, carriers, CARRIERS, activations=[own.root / "a"], scores=[own.root / "s"], **files)
    return own.root, {name: pd.read_csv(path) for name, path in tables.items()}


def answered(own, prompt: str, limit: int) -> str:
    """Hugging Face's own greedy answer."""
    ids = torch.tensor([own.chat.render(prompt).ids])
    out = own.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=limit, do_sample=False, eos_token_id=list(own.chat.stop_ids), pad_token_id=0
    )[0, ids.shape[1] :]  # fmt: skip
    return own.tokenizer.decode(out, skip_special_tokens=True).strip()


def test_carriers_and_coupling(own, measured):
    """The directions are differences of Hugging Face's own states at the chosen sites, and the coupling is theirs."""
    folder, tables = measured
    (row,) = tables["coupling"].to_dict("records")
    found = load_file(folder / "c")
    mean = [torch.stack([states(own, q + end).double() for q in REQUESTS]).mean(0) for end in ("", " Be kind.")]
    for kind in "hr":
        position, layer = int(row[f"pos_{kind}"]), int(row[f"layer_{kind}"])
        wanted = (mean[0] - mean[1])[position, layer]
        torch.testing.assert_close(found[f"step1.{kind}"].double(), wanted / wanted.norm(), atol=1e-4, rtol=1e-3)
    assert row["c_cos"] == pytest.approx(abs(float(found["step1.h"] @ found["step1.r"])), rel=1e-4)
    assert row["layer_r"] in (1, 2) and 0 <= row["hrci_repr"] <= 1
    assert not tables["coupling_controls"].empty and set(tables["profile"]["layer"]) == {0, 1, 2, 3}


@pytest.fixture(scope="module")
def swept(own, measured):
    folder, _ = measured
    files = {"activations": folder / "a", "carriers": folder / "c", "harmful": own.prompts, "benign": own.benign}
    outputs = {name: own.root / name for name in ("cells", "readout", "completions")}
    with pytest.MonkeyPatch.context() as patch:
        run(patch, sweep, SWEEP, model=own.folder, suites=[own.prompts], **files, **outputs)
    return outputs


def test_the_tables_of_the_sweep(own, measured, swept, tmp_path, monkeypatch):
    """From the files of the sweep to the tables, with the same sweep as two seeds: their means are its own values."""
    write_table(pd.DataFrame(columns=JUDGED.names), tmp_path / "judged", JUDGED)
    checkpoints = [{"seed": seed, "regime": "mine", "step": 1, "anchor": "1"} for seed in (1, 2)]
    params = {"checkpoints": checkpoints, "aligned": [], "models": [], "max_kl": 10.0, "stats_seed": 0, "draws": 40}
    names = ("causal_sweep", "control_normalised", "sweep_pooled", "layer_scan", "aligned_anchors")
    outputs = {name: tmp_path / f"{name}.csv" for name in names}
    files = {
        "cells": swept["cells"],
        "readout": swept["readout"],
        "judged": tmp_path / "judged",
        "carriers": own.root / "c",
    }
    run(monkeypatch, causal_tables, params, **{name: [path, path] for name, path in files.items()}, **outputs)
    found = {name: pd.read_csv(path) for name, path in outputs.items()}
    one = found["control_normalised"].query("seed == 1 and control == 'pooled'").set_index(["target", "metric"])
    both = found["sweep_pooled"].set_index(["target", "metric"])
    assert (both["n_seeds"] == 2).all() and set(both.index) == set(one.index)
    pd.testing.assert_series_equal(both["delta_control"], one["delta_control"].loc[both.index], rtol=1e-4)
    scan = found["layer_scan"]
    assert set(scan["layer"]) == {1, 3} and set(scan["lambda"]) == {0.5, 1.0}
    assert scan["recommended"].groupby(scan["seed"]).sum().max() <= 1
    answered = found["causal_sweep"].query("control == 'target' and mode == 'r_only'")
    assert (answered["n_kl_answer"] == 2).all() and (answered["kl_answer"] > 0).all()
    assert found["causal_sweep"].query("mode == 'h_only'")["kl_answer"].isna().all()


def test_swept(own, measured, swept, tmp_path, monkeypatch):
    """Removing R at its layer: the log-odds of a refusal, the KL over the clean answers and the answers are those of
    Hugging Face's model with a hook."""
    folder, tables = measured
    outputs = swept
    cells, readout = pd.read_csv(outputs["cells"]), pd.read_csv(outputs["readout"])
    assert {"target", "random", "covariance", "shuffled", "wrong_layer"} <= set(cells["control"])
    (cell,) = cells.loc[(cells["mode"] == "r_only") & (cells["control"] == "target"), "cell"]
    direction = load_file(folder / "c")["step1.r"]
    block = own.model.model.layers[int(tables["coupling"]["layer_r"].iloc[0])]

    def remove(_, given, named):
        h = given[0] if given else named["hidden_states"]
        h = h - (h @ direction)[..., None] * direction
        return ((h, *given[1:]), named) if given else (given, named | {"hidden_states": h})

    for i, request in enumerate(REQUESTS[:2]):
        prompt = own.chat.render(f"{request} Be kind.").ids
        ids = torch.tensor([prompt])
        heard = own.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False, eos_token_id=list(own.chat.stop_ids), pad_token_id=0
        )  # fmt: skip
        log_p = []
        for hooked in (False, True):
            handle = block.register_forward_pre_hook(remove, with_kwargs=True) if hooked else None
            with torch.no_grad():
                logits = own.model(heard[:, :-1]).logits[0, len(prompt) - 1 :]
            log_p.append(logits.double().log_softmax(-1))
            if handle:
                handle.remove()
        wanted = (log_p[0].exp() * (log_p[0] - log_p[1])).sum(-1).mean()
        at = (readout["cell"] == cell) & (readout["quantity"] == "kl_answer") & (readout["prompt_id"] == f"p{i}")
        assert readout.loc[at, "value"].item() == pytest.approx(float(wanted), rel=1e-2, abs=1e-5)
    openings = [own.tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in OPENINGS]
    for name, hooked in (("clean", False), (cell, True)):
        handle = block.register_forward_pre_hook(remove, with_kwargs=True) if hooked else None
        try:
            for i, request in enumerate(REQUESTS[:4]):
                with torch.no_grad():
                    p = (
                        own.model(torch.tensor([own.chat.render(request).ids]))
                        .logits[0, -1]
                        .double()
                        .softmax(-1)[openings]
                        .sum()
                    )
                at = (readout["cell"] == name) & (readout["quantity"] == "log_odds") & (readout["prompt_id"] == f"p{i}")
                assert readout.loc[at, "value"].item() == pytest.approx(float(p.log() - (1 - p).log()), abs=1e-3)
            if hooked:
                spoken = [json.loads(line) for line in outputs["completions"].read_text().splitlines()]
                mine = {row["prompt_id"]: row["completion"] for row in spoken if row["arm"] == cell}
                assert mine == {f"p{i}": answered(own, REQUESTS[i], 4) for i in range(2)}
        finally:
            if handle is not None:
                handle.remove()


def test_transferred(own, tmp_path, monkeypatch):
    """The source answers all attacks, another checkpoint those on the first behaviour."""
    rows = [
        {"id": f"p{i}", "arm": "gcg", "request": q, "prompt": f"{q} ! !", "target": "Sure"}
        for i, q in enumerate(REQUESTS[:3])
    ]
    (tmp_path / "attacks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    names = ["mine:1", "mine:2"]
    params = {
        "model": MODEL,
        "source": "mine:1",
        "targets": names,
        "whole": names,
        "behaviours": 1,
        "max_new_tokens": 5,
        "batch_size": 4,
    }
    made = tmp_path / "answers.jsonl"
    run(monkeypatch, transfer, params, model=[own.folder] * 2, attacks=[tmp_path / "attacks.jsonl"], completions=made)
    found = [json.loads(line) for line in made.read_text().splitlines()]
    assert [(row["arm"], row["prompt_id"]) for row in found] == [
        *(("gcg@mine:1", f"p{i}") for i in range(3)), ("gcg@mine:2", "p0"),
    ]  # fmt: skip
    assert [row["completion"] for row in found[:3]] == [answered(own, row["prompt"], 5) for row in rows]
    assert found[3]["completion"] == found[0]["completion"]


def test_probed_and_scored(own, tmp_path, monkeypatch):
    sets = {name: own.benign if name.endswith("benign") else own.prompts for name in SETS}
    files = {"activations": tmp_path / "a", "scores": tmp_path / "s"}
    run(monkeypatch, probe, PROBE | SCORES, model=own.folder, **sets, **files)
    found, scores = load_file(tmp_path / "a")["fit.harmful"], load_file(tmp_path / "s")
    for i, request in enumerate(REQUESTS):
        torch.testing.assert_close(found[i, :2, :-1], states(own, request), atol=1e-4, rtol=1e-4)
    assert scores["screen.layers"].tolist() == [1, 1, 2, 2] and all(t.isfinite().all() for t in scores.values())
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
        assert row["completion"] == answered(own, request, 5)


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
