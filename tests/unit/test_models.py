"""Loading and adapters on tiny folders; of the GGUF conversion the helpers."""

import json
from types import SimpleNamespace

import pytest
import torch
from conftest import make_model

from safety_geometry.models.loading import ModelError, add_lora, configure, load_model, save_plain
from safety_geometry.models.runner import Runner, pack
from safety_geometry.models.tokenizer import check_vocabulary, load_tokenizer

IDS = torch.tensor([[1, 50, 60, 70, 80]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory, llama, tokenizer):
    folder = tmp_path_factory.mktemp("model")
    llama.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_load(folder, llama, tokenizer):
    model = load_model(folder)
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, llama(IDS).logits)
    assert load_model(folder, "bfloat16").dtype == torch.bfloat16
    loaded = load_tokenizer(folder)
    assert loaded("Write a poem").input_ids == tokenizer("Write a poem").input_ids
    assert loaded.chat_template == tokenizer.chat_template


def test_errors(folder, tmp_path):
    with pytest.raises(ModelError, match="'float8' is not one of float32, bfloat16, float16"):
        load_model(folder, "float8")
    with pytest.raises(ModelError, match="not a model folder"):
        load_model(tmp_path)


def trained(model, seed=3):
    lora = add_lora(model, 4, 8.0, 0.0, ["q_proj", "o_proj"], seed).eval()
    generator = torch.Generator().manual_seed(7)
    for name, p in lora.named_parameters():
        if "lora_B" in name:
            p.data = 0.2 * torch.randn(p.shape, generator=generator)
    return lora


def test_a_saved_adapter_is_merged_at_load(folder, fresh_llama, llama, tmp_path):
    lora = trained(fresh_llama)
    lora.save_pretrained(tmp_path, save_embedding_layers=False)
    merged = load_model(folder, adapter=tmp_path)
    assert not any("lora" in name for name, _ in merged.named_parameters()) and type(merged) is type(llama)
    with torch.no_grad():
        want = lora(input_ids=IDS).logits
        torch.testing.assert_close(merged(IDS).logits, want, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(want, llama(IDS).logits, atol=1e-2)
        # The runner sees injected layers as well: it is what training runs.
        runner = Runner(fresh_llama)
        logits = runner.logits(runner.forward(pack(IDS.tolist(), share=2)))
        torch.testing.assert_close(logits[0], want[0, 2:], atol=1e-5, rtol=1e-5)


def test_lora_starts_as_the_base_model_and_from_its_seed(fresh_llama, llama):
    lora = add_lora(fresh_llama, 4, 8.0, 0.5, ["q_proj"], 3).eval()
    with torch.no_grad():
        assert torch.equal(lora(input_ids=IDS).logits, llama(IDS).logits)
    a = {name: p.clone() for name, p in lora.named_parameters() if p.requires_grad}
    assert a and all(("lora_A" in name) or not p.any() for name, p in a.items())
    torch.manual_seed(11)
    again, other = (add_lora(make_model(), 4, 8.0, 0.5, ["q_proj"], seed) for seed in (3, 4))
    assert all(torch.equal(p, a[name]) for name, p in again.named_parameters() if p.requires_grad)
    assert any(not torch.equal(p, a[name]) for name, p in other.named_parameters() if p.requires_grad)


def test_check_vocabulary(tokenizer):
    check_vocabulary(tokenizer, len(tokenizer))
    check_vocabulary(tokenizer, len(tokenizer) + 4)
    with pytest.raises(ModelError, match=f"{len(tokenizer)} tokens and the model {len(tokenizer) - 1}"):
        check_vocabulary(tokenizer, len(tokenizer) - 1)


def test_no_path_stays_in_a_config(tmp_path):
    file = tmp_path / "config.json"
    text = json.dumps({"b": 1, "_name_or_path": "somewhere", "a": [2]})
    model = SimpleNamespace(save_pretrained=lambda folder: file.write_text(text))
    save_plain(model, SimpleNamespace(save_pretrained=lambda folder: None), tmp_path)
    assert json.loads(file.read_text()) == {"a": [2], "b": 1} and file.read_text().endswith("}\n")


def test_configure():
    before = torch.get_num_threads()
    try:
        configure(1)
        assert torch.get_num_threads() == 1 and torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(before)


def test_a_gpu_that_torch_does_not_see_is_said(tmp_path):
    """Before anything is read: there is no model in the folder."""
    with pytest.raises(
        ModelError, match=r"model.device is cuda:99, and torch sees \d+ GPU\(s\) here; set another device"
    ):
        load_model(tmp_path, device="cuda:99")
