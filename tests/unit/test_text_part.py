"""The text part of a multimodal checkpoint, against the whole model's own forward."""

import json
import shutil

import pytest
import torch
from conftest import VOCABULARY, make_model, make_tokenizer
from pipeline.costs.shapes import fetched
from safetensors.torch import load_file, save_file
from test_families import ROWS, TOLERANCE, check, plain
from test_folders import edit
from transformers import AutoConfig, Gemma3ForConditionalGeneration

from safety_geometry.models import text_part
from safety_geometry.models.configuration import ModelError
from safety_geometry.models.intake import make_model as take_in
from safety_geometry.models.loading import load_model


@pytest.fixture(scope="module")
def multimodal(tmp_path_factory):
    """A folder as the hub has Gemma 3 from 4B on, its parts in two files, and the model itself; its head is tied."""
    text = make_model("gemma3_text").config.to_dict()
    text |= {"rope_parameters": None, "rope_scaling": {"rope_type": "linear", "factor": 4.0}}
    text |= {"dtype": None, "final_logit_softcapping": None}  # as Gemma 3 has it; the whole model would not apply one
    vision = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
        "patch_size": 14, "model_type": "siglip_vision_model",
    }  # fmt: skip
    config = AutoConfig.for_model(
        "gemma3", text_config=text, vision_config=vision, mm_tokens_per_image=4, eos_token_id=[2, 3]
    )
    torch.manual_seed(3)
    model = Gemma3ForConditionalGeneration(config).eval().requires_grad_(False)
    for name, p in model.named_parameters():
        if "norm" in name:
            p += 0.2 * torch.randn(p.shape)
    folder = tmp_path_factory.mktemp("multimodal") / "source"
    model.save_pretrained(folder, max_shard_size="60KB")
    make_tokenizer().save_pretrained(folder)
    (folder / "processor_config.json").write_text("{}")
    return folder, model


def test_the_text_part_of_a_multimodal_model(multimodal, tmp_path, monkeypatch):
    """Answers to text as the whole model gives them, in a folder that needs nothing of it."""
    source, whole = multimodal
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    assert len(list(source.glob("*.safetensors"))) > 2
    monkeypatch.setattr(text_part, "LARGEST", 50_000)
    take_in(source, tmp_path / "model", "folder", "float32", None)
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before
    names = {name for path in (tmp_path / "model").glob("*.safetensors") for name in load_file(path)}
    assert len(list((tmp_path / "model").glob("*.safetensors"))) > 2 and "model.embed_tokens.weight" in names
    assert not any("vision" in name or "projector" in name or "language_model" in name for name in names)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (config["model_type"], config["vocab_size"], config["eos_token_id"]) == (
        "gemma3_text",
        VOCABULARY + 40,
        [2, 3],
    )
    assert config["architectures"] == ["Gemma3ForCausalLM"] and not (tmp_path / "model/processor_config.json").exists()
    model = load_model(tmp_path / "model").double()
    assert model.lm_head.weight is model.model.embed_tokens.weight
    for row in ROWS:
        torch.testing.assert_close(plain(model, row), plain(whole.double(), row), **TOLERANCE)
    assert model.config.rope_parameters["full_attention"]["rope_type"] == "linear"
    check(model)


def test_the_configuration_of_the_text_part_is_the_one_that_transformers_reads(tmp_path):
    """Of a file in the form of gemma-3-4b-it's, which leaves out what is usual."""
    text = {
        "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024,
    }  # fmt: skip
    outer = {"model_type": "gemma3", "eos_token_id": [1, 106], "torch_dtype": "bfloat16", "text_config": text}
    (tmp_path / "config.json").write_text(json.dumps(text_part._text_config(outer)))
    ours = AutoConfig.from_pretrained(tmp_path).to_dict()
    values = {key: value for key, value in outer.items() if key != "model_type"}
    theirs = AutoConfig.for_model("gemma3", **json.loads(json.dumps(values))).text_config.to_dict()
    different = {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}
    assert different <= {"_name_or_path", "architectures", "dtype", "eos_token_id", "transformers_version"}
    assert ours["eos_token_id"] == [1, 106] and str(ours["dtype"]).endswith("bfloat16")
    assert ours["layer_types"].count("full_attention") == 5 and fetched(tmp_path).parameters == 3_880_071_680


@pytest.mark.parametrize("form", ["4", "5"])
def test_names_of_weights_in_both_forms(multimodal, tmp_path, form):
    """Files of transformers 4 and of the hub begin with language_model, memory of transformers 5 with model."""
    source = shutil.copytree(multimodal[0], tmp_path / "source")
    tensors = {name: tensor for path in source.glob("*.safetensors") for name, tensor in load_file(path).items()}
    assert any(name.startswith("language_model.model.layers.0") for name in tensors)
    if form == "5":
        tensors = {k.replace("language_model.model.", "model.language_model."): v for k, v in tensors.items()}
        tensors = {f"model.{k}" if k.startswith(("vision", "multi")) else k: v for k, v in tensors.items()}
    for path in source.glob("model*.safetensors*"):
        path.unlink()
    save_file(tensors, source / "model.safetensors", {"format": "pt"})
    take_in(source, tmp_path / "model", "folder", "float32", None)
    torch.testing.assert_close(
        plain(load_model(tmp_path / "model"), ROWS[0]), plain(multimodal[1].float(), ROWS[0]), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: edit(f / "config.json", text_config=None), r"config.json \(gemma3\) has no text_config"),
        (lambda f: edit(f / "config.json", text_config={"num_hidden_layers": 10**9}), "num_hidden_layers is 1000000000, mo"),
        (lambda f: edit(f / "config.json", quantization_config={"bits": 4}), "quantised"),
        (lambda f: save_file({"model.other.weight": torch.zeros(1)}, f / "model.safetensors"), "weights of 0 blocks"),
    ],
)  # fmt: skip
def test_a_multimodal_model_that_cannot_be_used(multimodal, tmp_path, change, message):
    source = shutil.copytree(multimodal[0], tmp_path / "source")
    change(source)
    with pytest.raises(ModelError, match=message):
        take_in(source, tmp_path / "model", "folder", "float32", None)
