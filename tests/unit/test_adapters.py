"""Adapters merged into copies of one base, against a fresh load of each."""

import pytest
import torch
from conftest import make_model

from safety_geometry.adapters import with_adapter
from safety_geometry.models import add_lora, load_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory, llama, tokenizer):
    folder = tmp_path_factory.mktemp("base")
    llama.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_adapter(folder, seed: int) -> None:
    """A LoRA adapter of random weights, all layers of which do something."""
    lora = add_lora(make_model(), 4, 8.0, 0.1, ["q_proj", "o_proj"], seed)
    generator = torch.Generator().manual_seed(seed)
    for name, p in lora.named_parameters():
        if "lora_B" in name:
            p.data = 0.2 * torch.randn(p.shape, generator=generator)
    lora.save_pretrained(folder, save_embedding_layers=False)


def same(a, b) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(t, second[name]) for name, t in first.items())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_merged_copy_is_a_fresh_load_bit_for_bit(folder, tmp_path, dtype):
    for seed in (1, 2):
        save_adapter(tmp_path / str(seed), seed)
    base = load_model(folder, dtype)
    merged = [with_adapter(base, tmp_path / str(seed)) for seed in (1, 2, 1)]
    for model, seed in zip(merged, (1, 2, 1), strict=True):
        assert same(model, load_model(folder, dtype, adapter=tmp_path / str(seed)))
        assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert same(base, load_model(folder, dtype)) and not same(merged[0], merged[1])
    assert type(merged[0]) is type(base)


def test_only_from_the_cpu(folder, tmp_path):
    with pytest.raises(ValueError, match="merged on the CPU"):
        with_adapter(load_model(folder).to("meta"), tmp_path)
