"""Weights orthogonal to a direction: nothing is written along it, and the model is that of hooks that project it out."""

import copy

import numpy as np
import pytest
import torch
from conftest import REQUESTS, make_model

from safety_geometry.causal.cost import cost, measure
from safety_geometry.models.configuration import ModelError
from safety_geometry.models.language_model import LanguageModel
from safety_geometry.models.orthogonal import orthogonalise
from safety_geometry.models.runner import Runner

DIRECTION = np.random.default_rng(0).standard_normal(32)
UNIT = torch.from_numpy(DIRECTION / np.linalg.norm(DIRECTION))
IDS = torch.arange(5, 17)[None]


def hooked_logits(model) -> torch.Tensor:
    """Of the model whose embedding and blocks have what they write projected, by transformers' own forward."""

    def project(module, inputs, out):
        return out - (out @ UNIT)[..., None] * UNIT

    written = [part for layer in model.model.layers for part in (layer.self_attn.o_proj, layer.mlp.down_proj)]
    hooks = [part.register_forward_hook(project) for part in (model.model.embed_tokens, *written)]
    try:
        return model(IDS).logits
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [False, True])
@torch.inference_mode()
def test_as_hooks_that_project(family, tied):
    model = make_model(family, tie_word_embeddings=tied).double()
    want, clean = hooked_logits(model), model(IDS).logits
    orthogonalise(model, 7 * DIRECTION)
    got = model(IDS, output_hidden_states=True)
    assert torch.allclose(got.logits, want, atol=1e-10) and not torch.allclose(want, clean, atol=1e-2)
    for stream in got.hidden_states[:-1]:  # the last is behind the final norm
        assert (stream @ UNIT).abs().max() < 1e-10


def test_a_bias_is_projected_too():
    model = make_model("llama", attention_bias=True, mlp_bias=True).double()
    for layer in model.model.layers:
        for part in (layer.self_attn.o_proj, layer.mlp.down_proj):
            part.bias.data.normal_()
    want = hooked_logits(model)
    orthogonalise(model, DIRECTION)
    assert torch.allclose(model(IDS).logits, want, atol=1e-10)


def test_a_tied_model_is_saved_as_it_is(tmp_path):
    from transformers import AutoModelForCausalLM

    model = make_model("llama", tie_word_embeddings=True)
    orthogonalise(model, DIRECTION)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again(IDS).logits, model(IDS).logits)
    assert not torch.equal(again.lm_head.weight, again.model.embed_tokens.weight)


def test_what_cannot_be_made_orthogonal():
    for family in ("gemma2", "gemma3_text"):
        with pytest.raises(ModelError, match="has norms behind attention and MLP"):
            orthogonalise(make_model(family), DIRECTION)
    with pytest.raises(ModelError, match=r"the direction has \(3,\) numbers, and the model's stream is 32 wide"):
        orthogonalise(make_model("llama"), np.ones(3))


def test_the_cost_is_measured_before_and_after(llama, chat):
    model = LanguageModel(Runner(copy.deepcopy(llama)), chat)
    rows = [{"id": f"p{i}", "prompt": text} for i, text in enumerate(REQUESTS)]
    benign = [row | {"must": [["e"]], "min_words": 1} for row in rows]
    asked = (rows[:3], benign, {"direct": 4, "utility": 4}, 4)
    nothing = cost(model, lambda: None, *asked)
    assert nothing["kl"] == 0 and (nothing["harmful"], nothing["benign"]) == (3, 5)
    assert nothing["utility_before"] == nothing["utility_after"]
    log_p = measure(model, *asked).log_p
    spent = cost(model, lambda: orthogonalise(model.model, DIRECTION), *asked)
    ids = [prompt.ids for prompt in model.render_rows(benign)]
    for changed, rows_of in ((llama, log_p), (model.model, measure(model, *asked).log_p)):
        for prompt, row in zip(ids, rows_of, strict=True):
            with torch.inference_mode():
                want = torch.log_softmax(changed(torch.tensor([prompt])).logits[0, -1].double(), -1)
            assert torch.allclose(row, want, atol=1e-4)
    after = measure(model, *asked).log_p
    assert spent["kl"] == pytest.approx(float((log_p.exp() * (log_p - after)).sum(-1).mean())) and spent["kl"] > 0.01
    assert 0 <= spent["refused_harmful_after"] <= 1 and 0 <= spent["utility_after"] <= 2
