"""The random model that studies are tried on: of the shape that was asked for, the same for the same seed."""

from dataclasses import replace

import pytest
import torch
from pipeline.costs.shapes import fetched, tiny
from transformers import LlamaConfig

from safety_geometry.models.loading import load_model
from safety_geometry.models.tiny import make_tokenizer, random_llama, write_tiny_model

TEXTS = ["a text of some words and of others"] * 20
SIZES = {"vocabulary": 300, "hidden": 32, "layers": 3, "heads": 4}


@pytest.mark.parametrize("more", [{}, {"intermediate": 80, "kv_heads": 1, "context": 1024, "deviation": 0.02}])
def test_the_folder_is_of_the_shape_that_costs_are_counted_for(tmp_path, more):
    write_tiny_model(tmp_path, TEXTS, seed=3, **SIZES, **more)
    assert replace(fetched(tmp_path), origin="") == replace(tiny(SIZES | more), origin="")
    model = load_model(tmp_path)
    assert model.config.max_position_embeddings == more.get("context", 512)
    spread = float(model.model.layers[1].mlp.up_proj.weight.std())
    assert spread == pytest.approx(more.get("deviation", 0.2), rel=0.1)


def test_every_id_has_a_text_that_gives_it_again(tmp_path):
    """Else the answers of a model with more ids than the texts gave would be shorter as texts."""
    tokenizer, made_up = make_tokenizer(TEXTS, 400), range(350, 400)
    assert len(tokenizer) == 400
    again = [tokenizer(tokenizer.decode([i]), add_special_tokens=False)["input_ids"] for i in made_up]
    assert again == [[i] for i in made_up]
    assert tokenizer(tokenizer.decode([399, 380, 399]), add_special_tokens=False)["input_ids"] == [399, 380, 399]


def test_the_dtype_is_that_of_the_weights_and_nothing_is_left_changed():
    config = LlamaConfig(vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                         dtype=torch.bfloat16)  # fmt: skip
    one, again, other = (random_llama(config, seed) for seed in (1, 1, 2))
    assert {p.dtype for p in one.parameters()} == {torch.bfloat16} and torch.get_default_dtype() == torch.float32
    assert torch.equal(one.lm_head.weight, again.lm_head.weight)
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)
    assert random_llama(config, 1, "meta").device.type == "meta"  # made where it is wanted
