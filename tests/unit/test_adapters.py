"""Adapters merged into copies of one base, against a fresh load of each; adapters of others, and targets, that are refused."""

import json

import pytest
import torch
from conftest import TEMPLATE, make_model, make_tokenizer
from safetensors.torch import load_file, save_file

from safety_geometry.models.adapter_intake import take_in
from safety_geometry.models.adapters import with_adapter
from safety_geometry.models.loading import ModelError, add_lora, load_model


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


# ----------------------------------------------------------------------------------------------- what others have made

ATTENTION = "base_model.model.model.layers.{}.self_attn.{}.lora_{}.weight"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    save_adapter(folder, 1)
    return folder


def altered(good, folder, tensors=lambda t: t, **settings):
    """A copy of a good adapter with other tensors and settings."""
    folder.mkdir()
    save_file(
        {k: v.contiguous() for k, v in tensors(load_file(good / "adapter_model.safetensors")).items()},
        folder / "adapter_model.safetensors",
    )
    values = json.loads((good / "adapter_config.json").read_text(encoding="utf-8")) | settings
    (folder / "adapter_config.json").write_text(json.dumps(values), encoding="utf-8")
    return folder


def renamed(change):
    return lambda tensors: {change(name): tensor for name, tensor in tensors.items()}


def without(part):
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if part not in name}


def plus(name, tensor):
    return lambda tensors: tensors | {name: tensor}


REFUSED = {
    "A without B": (without("lora_B"), {}, r"lacks .*layers.0.self_attn.o_proj.lora_B.weight \(8 such\)"),
    "half of the layers": (without(".layers.1."), {}, r"lacks .*layers.1.self_attn.o_proj.lora_A.weight \(4 such\)"),
    "one tensor": (without(ATTENTION.format(3, "q_proj", "A")), {}, r"lacks .*layers.3.self_attn.q_proj.lora_A.weight \(1 such\)"),
    "another rank": (lambda t: t, {"r": 8}, r"lora_\w.weight of shape \[.*\].* \(r, rank_pattern\) and its base it is \[.*8.*\]"),
    "an empty tensor": (plus(ATTENTION.format(0, "q_proj", "A"), torch.zeros(0)), {}, r"q_proj.lora_A.weight has the shape \[0\]: it is empty"),
    "a row for a matrix": (plus(ATTENTION.format(0, "q_proj", "B"), torch.ones(32)), {}, r"q_proj.lora_B.weight has the shape \[32\]"),
    "more layers than asked for": (lambda t: t, {"target_modules": ["q_proj"]}, "o_proj.lora_A.weight, which has no place"),
    "some layers asked for": (lambda t: t, {"layers_to_transform": [0, 1]}, "layers.2.self_attn.o_proj.lora_A.weight, which has no place"),
    "a vision tower": (plus("base_model.model.vision_tower.proj.weight", torch.ones(2, 2)), {}, "vision_tower.proj.weight, which has no place"),
    "other names": (renamed(lambda k: k.replace("lora_A", "lora_a")), {}, "lora_a.weight, which has no place"),
    "a longer embedding": (plus("base_model.model.model.embed_tokens.weight", torch.ones(430, 32)), {}, r"embed_tokens.weight of shape \[430, 32\]"),
    "a head that is not there": (lambda t: t, {"modules_to_save": ["lm_head"]}, "lacks base_model.model.lm_head.weight"),
    "NaN": (plus(ATTENTION.format(2, "q_proj", "B"), torch.full((32, 4), torch.nan)), {}, "layers.2.self_attn.q_proj.lora_B.weight.*not finite"),
    "no strength": (lambda t: t, {"lora_alpha": 0}, "lora_alpha 0, with which the adapter changes nothing"),
    "a strength of nothing": (lambda t: t, {"alpha_pattern": {"qproj": 64}}, "alpha_pattern names qproj, which is no layer"),
    "one name twice": (plus("model.layers.0.self_attn.q_proj.lora_A.weight", torch.ones(4, 32)), {}, "q_proj.lora_A.weight twice"),
    "settings that are none": (lambda t: t, {"r": "four"}, "adapter_config.json cannot be used with its base"),
    "targets of another family": (lambda t: t, {"target_modules": ["c_attn"]}, "adapter_config.json cannot be used with its base"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_an_adapter_of_which_something_would_be_left_out(folder, good, tmp_path, kind):
    tensors, settings, message = REFUSED[kind]
    adapter = altered(good, tmp_path / "adapter", tensors, **settings)
    with pytest.raises(ModelError, match=message) as refused:
        list(take_in(adapter, folder))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["[]", "{", "null", '"r"'])
def test_settings_that_are_no_object(folder, good, tmp_path, text):
    adapter = altered(good, tmp_path / "adapter")
    (adapter / "adapter_config.json").write_text(text)
    with pytest.raises(ModelError, match=r"adapter_config.json is (not an object|not JSON)"):
        list(take_in(adapter, folder))


@pytest.mark.parametrize("kind", ["A without B", "half of the layers", "another rank", "a vision tower", "other names"])
def test_such_an_adapter_is_not_loaded_either(folder, good, tmp_path, kind):
    tensors, settings, _ = REFUSED[kind]
    adapter = altered(good, tmp_path / "adapter", tensors, **settings)
    with pytest.raises(ModelError):
        load_model(folder, adapter=adapter)


@pytest.mark.parametrize(
    "change",
    [
        lambda k: k.replace(".weight", ".default.weight"),
        lambda k: k.replace(".weight", ".my-adapter.weight"),
        lambda k: k.removeprefix("base_model.model."),
        lambda k: k.replace("model.layers", "model.language_model.layers"),
        lambda k: k.replace("model.model.layers", "model.language_model.model.layers"),
        lambda k: k.replace("base_model.model.model.", "base_model.model.model._orig_mod."),
        lambda k: "module." + k,
        lambda k: k.removeprefix("base_model.model.model."),
    ],
)
def test_names_of_others_are_read_and_said(folder, good, tmp_path, change):
    adapter = altered(good, tmp_path / "adapter", renamed(change))
    (told,) = take_in(adapter, folder)
    assert told.startswith("16 of 16 tensors got the names that peft gives")
    assert same(load_model(folder, adapter=adapter), load_model(folder, adapter=good))
    assert not same(load_model(folder, adapter=adapter), load_model(folder))


def test_a_good_adapter_is_taken_as_it_is(folder, good, tmp_path):
    adapter = altered(good, tmp_path / "adapter")
    before = (adapter / "adapter_model.safetensors").read_bytes()
    assert list(take_in(adapter, folder)) == []
    assert (adapter / "adapter_model.safetensors").read_bytes() == before


def test_whole_matrices_of_an_adapter_are_used(folder, good, tmp_path):
    head = torch.randn(424, 32, generator=torch.Generator().manual_seed(0))
    for name, settings in (("resaved", {}), ("trained", {"modules_to_save": ["lm_head"]})):
        adapter = altered(good, tmp_path / name, plus("base_model.model.lm_head.weight", head), **settings)
        assert list(take_in(adapter, folder)) == []
        assert torch.equal(load_model(folder, adapter=adapter).lm_head.weight, head)


def test_other_forms_of_lora(folder, tmp_path):
    """DoRA, biases and single tokens keep tensors of other names beside A and B."""
    from peft import LoraConfig, get_peft_model

    forms = {"dora": {"use_dora": True}, "tokens": {"trainable_token_indices": [3, 7]}, "stable": {"use_rslora": True}}
    ids = torch.tensor([[1, 50, 3, 7]])
    for name, settings in forms.items():
        lora = get_peft_model(
            load_model(folder), LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM", **settings)
        )
        for p in lora.parameters():
            if p.requires_grad:
                p.data += 0.1
        lora.save_pretrained(tmp_path / name, save_embedding_layers=False)
        assert list(take_in(tmp_path / name, folder)) == []
        with torch.no_grad():
            merged = load_model(folder, adapter=tmp_path / name)(ids).logits
            torch.testing.assert_close(merged, lora.eval()(input_ids=ids).logits, atol=1e-4, rtol=1e-4)


def test_an_adapter_that_has_not_learned_yet_is_told_of(folder, good, tmp_path):
    zeros = lambda tensors: {k: v * ("lora_A" in k) for k, v in tensors.items()}  # noqa: E731
    adapter = altered(good, tmp_path / "adapter", zeros)
    assert list(take_in(adapter, folder)) == ["the adapter changes nothing: all of its lora_B are zero"]
    assert same(load_model(folder, adapter=adapter), load_model(folder))


def test_a_template_of_its_own(folder, good, tmp_path):
    other = TEMPLATE.replace("helpful", "kind")
    for place in ("chat_template.jinja", "tokenizer_config.json"):
        adapter = altered(good, tmp_path / place)
        text = other if place.endswith("jinja") else json.dumps({"chat_template": other})
        (adapter / place).write_text(text, encoding="utf-8")
        with pytest.raises(ModelError, match="chat template of its own, and its base has another: name a file"):
            list(take_in(adapter, folder))
        (told,) = take_in(adapter, folder, template_given=True)
        assert told.startswith("the chat template in the adapter's folder is not used")
        (adapter / place).write_text(text.replace("kind", "helpful"), encoding="utf-8")
        assert list(take_in(adapter, folder)) == []


def test_a_template_where_its_base_has_none(good, llama, tmp_path):
    llama.save_pretrained(tmp_path / "base")
    make_tokenizer(template=None).save_pretrained(tmp_path / "base")
    adapter = altered(good, tmp_path / "adapter")
    make_tokenizer().save_pretrained(adapter)
    with pytest.raises(ModelError, match="a base without one is asked in Zephyr's"):
        list(take_in(adapter, tmp_path / "base"))


def test_a_tokenizer_of_its_own(folder, good, tmp_path):
    adapter = altered(good, tmp_path / "same")
    make_tokenizer().save_pretrained(adapter)
    assert list(take_in(adapter, folder)) == []
    more = make_tokenizer()
    more.add_tokens(["<|tool|>"])
    adapter = altered(good, tmp_path / "more")
    more.save_pretrained(adapter)
    with pytest.raises(ModelError, match=r"gives '<\|tool\|>' the id 380, and that of its base does not"):
        list(take_in(adapter, folder))
    adapter = altered(good, tmp_path / "other")
    make_tokenizer("merging").save_pretrained(adapter)
    with pytest.raises(ModelError, match="the tokenizer in the adapter's folder"):
        list(take_in(adapter, folder))


@pytest.mark.parametrize(
    ("targets", "tied", "message"),
    [
        (["q_proj", "out_proj"], False, r"'out_proj', and the model has no layer of this name; it can be of down_proj, .*v_proj"),
        (["c_attn"], False, "'c_attn', and the model has no layer"),
        (["q_proj", "proj"], False, "'proj', and the model has no layer"),
        (["q_proj", "lm_head"], True, "'lm_head', and it is the embedding, or one matrix with it"),
        (["embed_tokens"], False, "'embed_tokens', and it is the embedding"),
        (["input_layernorm"], False, "'input_layernorm', and it is no linear layer"),
        (["self_attn"], False, "'self_attn', and it is no linear layer"),
    ],
)  # fmt: skip
def test_targets_that_could_not_be_trained_and_saved(targets, tied, message):
    with pytest.raises(ModelError, match=message):
        add_lora(make_model(tie_word_embeddings=tied), 4, 8.0, 0.0, targets, 1)


def test_a_head_of_its_own_is_saved_as_it_was_trained(folder, tmp_path):
    lora = add_lora(load_model(folder), 4, 8.0, 0.0, ["lm_head"], 1)
    for name, p in lora.named_parameters():
        if "lora_B" in name:
            p.data = torch.full_like(p, 0.1)
    lora.save_pretrained(tmp_path, save_embedding_layers=False)
    ids = torch.tensor([[1, 50, 60]])
    with torch.no_grad():
        merged = load_model(folder, adapter=tmp_path)(ids).logits
        torch.testing.assert_close(merged, lora.eval()(input_ids=ids).logits, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(merged, load_model(folder)(ids).logits, atol=1e-2)
