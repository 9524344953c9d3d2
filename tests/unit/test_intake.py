"""Models that are damaged or meant to harm: each is refused by the rule's script in one sentence, in no time."""

import json
import shutil
import struct
import time

import pytest
import torch
from _job import JobError
from conftest import TEMPLATE, make_model, make_tokenizer
from safetensors.torch import load_file, save_file
from test_adapters import save_adapter
from test_folders import PARAMS, convert, edit

from safety_geometry.models.configuration import ModelError, read_config
from safety_geometry.models.loading import save_plain
from safety_geometry.models.templates import checked_format
from safety_geometry.models.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "model"
    save_plain(make_model(layers=2), make_tokenizer(), folder)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "source")


def configured(**values):
    return lambda folder: edit(folder / "config.json", **values)


def content(name: str, value: str | bytes):
    return lambda folder: (folder / name).write_bytes(value.encode() if isinstance(value, str) else value)


def weights(change):
    """`change`(tensors) edits what model.safetensors holds."""

    def edited(folder):
        tensors = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
        change(tensors)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    return edited


def value(name: str, number: float):
    return weights(lambda tensors: tensors[name].view(-1).__setitem__(3, number))


def header(text: str, size: int | None = None):
    return content("model.safetensors", struct.pack("<Q", len(text) if size is None else size) + text.encode())


UP, NORM = "model.layers.1.mlp.up_proj.weight", "model.norm.weight"
PLACE = '{"a": {"dtype": "F32", "shape": [4], "data_offsets": [%s]}}'
HOSTILE = {
    "NaN": (value(UP, float("nan")), "up_proj.weight in model.safetensors has values that are not finite"),
    "infinite": (value(NORM, float("-inf")), "norm.weight in model.safetensors has values that are not finite"),
    "negative width": (configured(hidden_size=-1), "hidden_size is -1, and has to be a whole number above 0"),
    "no width": (configured(hidden_size=0), "hidden_size is 0"),
    "half a block": (configured(num_hidden_layers=2.5), "num_hidden_layers is 2.5"),
    "width as text": (configured(hidden_size="32"), "hidden_size is '32'"),
    "true as a number": (configured(num_attention_heads=True), "num_attention_heads is True"),
    "a milliard of blocks": (configured(num_hidden_layers=10**9), "more than any model has"),
    "the same of a family with a list": (configured(model_type="qwen2", num_hidden_layers=10**9), "more than any model"),
    "blocks that are not there": (configured(num_hidden_layers=900), "is 900, and there are weights of 2 blocks"),
    "a huge vocabulary": (configured(vocab_size=10**12), "vocab_size is 1000000000000"),
    "shared heads": (configured(num_key_value_heads=3), "4 heads for 3 of keys and values, which do not share evenly"),
    "heads": (configured(num_attention_heads=6, num_key_value_heads=2, head_dim=None), "6 heads in a width of 32, which gives them no even width"),
    "odd heads": (configured(head_dim=7), "heads of width 7, and rotary positions need an even number"),
    "epsilon": (configured(rms_norm_eps=float("nan")), "rms_norm_eps is nan"),
    "kinds of blocks": (configured(layer_types=["full_attention"]), "layer_types is not a list"),
    "an unknown rope": (configured(rope_parameters={"rope_type": "spiral", "rope_theta": 1e4}), "spiral"),
    "another width": (configured(intermediate_size=64), r"down_proj.weight has shape \[32, 48\].*means \[32, 64\]"),
    "biases": (weights(lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(32)})), "q_proj.bias is among its weights"),
    "a weight less": (weights(lambda t: t.pop(UP)), f"{UP} is not among its weights"),
    "whole numbers": (weights(lambda t: t.update({UP: t[UP].to(torch.int8)})), "stored as int8: its weights are quantised"),
    "a list": (content("config.json", "[1, 2]"), "config.json is not an object of keys and values but a list"),
    "a number": (content("config.json", "7"), "not an object .* but a int"),
    "no JSON": (content("config.json", "model_type: llama"), "config.json is not JSON"),
    "deep JSON": (content("config.json", "[" * 200000), "config.json is not JSON"),
    "bytes": (content("config.json", b"\xff\xfe\x00"), "config.json is not JSON"),
    "small vocabulary": (configured(vocab_size=100), "do not belong together"),
    "header length": (header("", 2**62), "cannot be read as safetensors"),
    "header offsets": (header(PLACE % "0, 4000000000000"), "cannot be read as safetensors"),
    "header backwards": (header(PLACE % "16, 0"), "cannot be read as safetensors"),
    "header no JSON": (header("{" * 1000), "cannot be read as safetensors"),
    "index": (content("model.safetensors.index.json", '{"weight_map": [1]}'), "has no weight_map"),
    "index elsewhere": (content("model.safetensors.index.json", '{"weight_map": {"a": "../x.safetensors"}}'), "x.safetensors is missing"),
    "pickled": (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "pickled weights"),
    "another name": (lambda f: (f / "model.safetensors").rename(f / "mine.safetensors"), "mine.safetensors alone would not be loaded"),
    "tokenizer": (content("tokenizer.json", '{"model": 3}'), "its tokenizer cannot be read"),
    "tokenizer settings": (content("tokenizer_config.json", "[]"), "its tokenizer cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_refused_in_one_sentence(folder, tmp_path, monkeypatch, what):
    change, message = HOSTILE[what]
    change(folder)
    began = time.perf_counter()
    with pytest.raises(JobError, match=message) as refused:
        convert(monkeypatch, source=folder, folder=tmp_path / "out")
    assert time.perf_counter() - began < 5
    assert "\n" not in str(refused.value) and str(refused.value).startswith(
        f"error: {tmp_path.name}/out from source source: "
    )
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_good(folder, tmp_path, monkeypatch):
    weights(lambda t: t.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}))(
        folder
    )  # of older versions
    convert(monkeypatch, source=folder, folder=tmp_path / "out")
    assert (tmp_path / "out/model.safetensors").exists()


def test_a_model_in_two_files(folder, tmp_path, monkeypatch):
    tensors = load_file(folder / "model.safetensors")
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    parts = [{k: v for i, (k, v) in enumerate(tensors.items()) if i % 2 == side} for side in (0, 1)]
    for name, part in zip(names, parts, strict=True):
        save_file(part, folder / name, {"format": "pt"})
    (folder / "model.safetensors").unlink()
    place = {key: name for name, part in zip(names, parts, strict=True) for key in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": place}), encoding="utf-8")
    save_file(
        {"old.name": torch.ones(2)}, folder / "consolidated.safetensors"
    )  # Mistral's other copy, which is not loaded
    convert(monkeypatch, source=folder, folder=tmp_path / "out")
    (folder / names[1]).unlink()
    with pytest.raises(JobError, match=f"{names[1]} is missing, one of 2 files"):
        convert(monkeypatch, source=folder, folder=tmp_path / "again")


def test_an_adapter_with_a_number_that_is_none(made, tmp_path, monkeypatch):
    save_adapter(tmp_path / "adapter", 1)
    file = tmp_path / "adapter/adapter_model.safetensors"
    tensors = load_file(file)
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, file)
    with pytest.raises(JobError, match=r"in adapter_model\.safetensors has values that are not finite"):
        convert(
            monkeypatch, PARAMS | {"format": "adapter"}, source=tmp_path / "adapter", base=made, folder=tmp_path / "out"
        )


@pytest.mark.parametrize(
    ("text", "message"), [("[]", "not an object"), ("{", "not JSON"), ('{"num_hidden_layers": -3}', "is -3")]
)
def test_layers_of_a_damaged_configuration(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=message):
        read_config(tmp_path)


# ------------------------------------------------------------------------------------------------------------ templates

LOOP = "{%% for i in range(99999) %%}{%% for j in range(99999) %%}%s{%% endfor %%}{%% endfor %%}"
TEMPLATES = {
    "includes": ("{% include 'other.jinja' %}" + TEMPLATE, "has a tag 'include' for another file"),
    "imports": ("{%- import '/etc/hosts' as x -%}" + TEMPLATE, "has a tag 'import'"),
    "imports from": ("{% from 'x' import y %}" + TEMPLATE, "has a tag 'from'"),
    "extends": ("{% extends 'base' %}", "has a tag 'extends'"),
    "never ends": (LOOP % "" + TEMPLATE, "does not end within 1 seconds"),
    "fills the memory": ("{{ 'x' * 10**11 }}" + TEMPLATE, "needs more memory"),
    "fills it slowly": (LOOP % "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" + TEMPLATE, "does not end|needs more memory"),
    "writes a book": ("{{ 'x' * 10**7 }}" + TEMPLATE, "writes 1000"),
    "divides by zero": ("{{ 1 // 0 }}" + TEMPLATE, "cannot be rendered"),
    "looks inside": ("{{ ''.__class__.__mro__[1].__subclasses__() }}" + TEMPLATE, "cannot be rendered"),
    "is no Jinja": ("{% for m in messages %}", "cannot be rendered"),
}


@pytest.mark.parametrize("what", TEMPLATES)
def test_templates(made, tmp_path, monkeypatch, what):
    template, message = TEMPLATES[what]
    monkeypatch.setattr("safety_geometry.models.templates.SECONDS", 1)
    (tmp_path / "t.jinja").write_text(template, encoding="utf-8")
    began = time.perf_counter()
    with pytest.raises(JobError, match=message) as refused:
        convert(monkeypatch, PARAMS, source=made, template=tmp_path / "t.jinja", folder=tmp_path / "out")
    assert time.perf_counter() - began < 8 and "\n" not in str(refused.value)


def test_a_template_that_only_speaks_of_other_files(made):
    tokenizer = load_tokenizer(made)
    tokenizer.chat_template = "{# {% include 'x' %} #}" + TEMPLATE.replace("helpful", "helpful: import, include")
    assert checked_format(tokenizer, None).render("hello").ids
