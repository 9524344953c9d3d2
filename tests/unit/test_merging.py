"""LoRA layers merged for a while: the same function, the same layers afterwards."""

import copy

import pytest
import torch
from conftest import make_model

from safety_geometry.models.loading import add_lora
from safety_geometry.models.merging import merged


@pytest.mark.parametrize("family", ["llama", "qwen2"])  # without and with a bias
def test_merged_for_a_while(family):
    model = copy.deepcopy(make_model(family, layers=2, window=None)).double()
    lora = add_lora(model, 4, 8, 0.0, ["q_proj", "v_proj"], 1).double().eval()
    for name, p in lora.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.2, generator=torch.Generator().manual_seed(0))
    ids = torch.arange(5, 25)[None]
    before = {name: p.clone() for name, p in lora.named_parameters()}
    layers = dict(model.named_modules())
    want = model(input_ids=ids).logits
    with merged(model):
        inside = model(input_ids=ids).logits
        torch.testing.assert_close(inside, want, atol=1e-10, rtol=1e-8)
        assert not inside.requires_grad and not any("lora" in name for name, _ in model.named_parameters())
    assert dict(model.named_modules()) == layers
    assert all(torch.equal(p, before[name]) for name, p in lora.named_parameters())
    with lora.disable_adapter():  # guards the comparison: the adapters do something
        assert (model(input_ids=ids).logits - want).abs().max() > 1e-2
    with pytest.raises(RuntimeError, match="stop"), merged(model):
        raise RuntimeError("stop")
    assert dict(model.named_modules()) == layers
