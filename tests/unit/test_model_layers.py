"""Configured layers against the blocks of the models, and which models each key is about."""

import copy
import json
import sys
from pathlib import Path

import model_layers
import numpy as np
import pytest
from pipeline.config_file import read_config
from pipeline.limits import layers_of, limits_of
from pipeline.study import Study
from safetensors.numpy import save_file

ROOT = Path(__file__).parents[2]
SMOKE = read_config(ROOT / "configs/smoke.yaml")


@pytest.fixture
def models(tmp_path) -> list[Path]:
    """Folders of two models, of 4 and 12 blocks, and of one that does not tell."""
    for name, config in (("small", {"num_hidden_layers": 4}), ("large", {"num_hidden_layers": 12}), ("mute", {})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"model_type": "llama"} | config))
    return [tmp_path / name for name in ("small", "large", "mute")]


def run(monkeypatch, folders: list[Path], layers: dict, **params) -> dict:
    file = folders[0].parent / "layers.json"
    arguments = ["--models", *folders, "--layers", file, "--params", json.dumps({"models": layers} | params)]
    monkeypatch.setattr(sys, "argv", ["model_layers.py", *map(str, arguments)])
    model_layers.main()
    return json.loads(file.read_text())


def test_blocks_are_written(models, monkeypatch):
    layers = {
        "small": {"refusal.layers": [0, 3]},
        "large": {"refusal.layers": [0, 11]},
        "mute": {"refusal.layers": [99]},
    }
    assert run(monkeypatch, models, layers) == {"small": 4, "large": 12, "mute": None}


def test_every_fault_names_key_layers_model_and_blocks(models, monkeypatch):
    layers = {
        "small": {"refusal.layers": [3, 4], "coupling.fixed_layers": [2]},
        "large": {"sweep.layer_scan.layers": [12, 30]},
    }
    with pytest.raises(SystemExit) as refused:
        run(monkeypatch, models[:2], layers)
    small, large = str(refused.value).split("; take out what is beyond them; ")
    assert small == "error: refusal.layers has 4, and model small has 4 blocks, 0 to 3"
    assert large.startswith("sweep.layer_scan.layers has 12, 30, and model large has 12 blocks, 0 to 11")
    assert not (models[0].parent / "layers.json").exists()


def test_a_folder_that_is_no_model(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match=r"has no config\.json"):
        run(monkeypatch, [tmp_path], {"base": {}})


def test_a_config_that_is_none(tmp_path, monkeypatch):
    for text, fault in (("[1]", "not an object"), ("{", "not JSON")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(SystemExit, match=fault):
            run(monkeypatch, [tmp_path], {"base": {}})


def test_other_limits_of_a_fetched_model(models, monkeypatch):
    """Asked of the models that they concern, all in one message."""
    (models[0] / "config.json").write_text(
        json.dumps({"num_hidden_layers": 4, "vocab_size": 50, "num_attention_heads": 4, "hidden_size": 8})
    )
    config = beside()
    config["attacks"]["source"] = {"regime": "mine", "step": 3}
    config["transfer"]["sources"] = {}
    limits = {name: limits_of(Study(config), name) for name in ("base", "mine", "refuser")}
    assert limits["base"]["vocabulary"] == {"pool.gcg.top_k": 16} and limits["mine"]["vocabulary"] == {
        "attacks.gcg.top_k": 16
    }
    assert limits["refuser"]["vocabulary"] == {} and limits["refuser"]["context"]["activations.positions"] == 4
    limits["base"]["vocabulary"]["pool.gcg.top_k"] = 51
    file = models[0].parent / "layers.json"
    params = json.dumps({"models": {"base": {"refusal.layers": [7]}}, "limits": {"base": limits["base"]}})
    monkeypatch.setattr(sys, "argv", ["x", "--models", str(models[0]), "--layers", str(file), "--params", params])
    with pytest.raises(SystemExit) as refused:
        model_layers.main()
    assert all(part in str(refused.value) for part in ("refusal.layers has 7", "pool.gcg.top_k is 51"))
    (models[0] / "config.json").write_text(json.dumps({"num_attention_heads": 3, "hidden_size": 8}))
    with pytest.raises(SystemExit, match="3 heads in a width of 8, which gives them no even width"):
        model_layers.main()


def beside() -> dict:
    """The smoke study, of which r2d2 and sft are swept, with a trajectory and an aligned model."""
    config = copy.deepcopy(SMOKE)
    config["checkpoints"] = {
        "mine": {
            "reference": 3,
            "steps": {7: {"source": "s", "format": "folder"}, 3: {"source": "s", "format": "adapter"}},
            "base": {"source": "s", "format": "folder"},
        }
    }
    config["aligned"]["models"] = {"refuser": {"source": "s", "format": "gguf"}}
    return config


def test_models_are_the_first_of_each_trajectory():
    config = beside()
    folder = "results/smoke/models"
    assert Study(config).layout.models() == {
        "base": f"{folder}/base", "mine": f"{folder}/mine/base", "refuser": f"{folder}/refuser",
    }  # fmt: skip
    config["regimes"] = {}
    config["checkpoints"]["mine"]["steps"][3]["format"] = "gguf"
    assert Study(config).layout.models() == {"mine": f"{folder}/mine/step3", "refuser": f"{folder}/refuser"}


def test_layers_are_those_that_are_read_of_a_model():
    config = beside()
    everywhere = {"refusal.layers": [1, 3], "coupling.fixed_layers": [2]}
    scan = {"sweep.layer_scan.layers": [1, 3, 4]}
    found = {name: layers_of(Study(config), name) for name in ("base", "mine", "refuser")}
    assert found == {"base": everywhere | scan, "mine": everywhere, "refuser": everywhere | scan}

    config["refusal"]["layers"], config["sweep"]["layer_scan"] = "all", None
    config["attacks"] |= {"source": {"regime": "mine", "step": 3}, "gcg": {"probe": {"layers": 6}}}
    config["transfer"]["sources"] = {}
    config["pool"]["gcg"]["probe"] = {"layers": 5}
    fixed = {"coupling.fixed_layers": [2]}
    assert layers_of(Study(config), "base") == fixed | {"pool.gcg.probe.layers": [5]}
    assert layers_of(Study(config), "mine") == fixed | {"attacks.gcg.probe.layers": [6]}


@pytest.mark.parametrize(
    "targets", [["q_proj", "out_proj"], ["c_attn"], ["q_proj", "embed_tokens"], ["norm"], ["lm_head"]]
)
def test_lora_targets_that_the_trained_model_lacks(models, monkeypatch, targets):
    """Before any model runs; the training job looks again at the model itself."""
    names = [f"model.layers.0.self_attn.{name}_proj.weight" for name in "qkvo"] + ["model.embed_tokens.weight"]
    tensors = {name: np.zeros((2, 2), np.float32) for name in names} | {"model.norm.weight": np.zeros(2, np.float32)}
    save_file(tensors, models[1] / "model.safetensors")
    layers = {"small": {}, "base": {}}
    assert run(monkeypatch, models[:2], layers, lora_targets=["q_proj", "self_attn.o_proj"]) == {"small": 4, "base": 12}
    with pytest.raises(SystemExit) as refused:
        run(monkeypatch, models[:2], layers, lora_targets=targets)
    message = f"error: lora.targets has {targets[-1]}, and the base model's layers are k_proj, o_proj, q_proj, v_proj"
    assert str(refused.value) == message
