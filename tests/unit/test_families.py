"""Families: rotary scaling, windows, blocks without positions, norms behind the blocks, each against Hugging Face's own
forward in float64.

What holds for all families (hooks, restart, prefixes, positions, gradients, answers) is in test_runner,
test_generation, test_causal_engine and test_gcg_engine, which take each family of conftest.
"""

import pytest
import torch
from conftest import FAMILIES as TESTED
from conftest import make_model, make_tokenizer
from test_folders import edit
from test_generation import NEVER, alone
from transformers import AutoConfig, AutoModelForCausalLM

from safety_geometry.models.configuration import context_of
from safety_geometry.models.families import FAMILIES, Family, UnsupportedModel, family_of
from safety_geometry.models.folders import check_model_folder
from safety_geometry.models.generation import generate
from safety_geometry.models.intake import make_model as take_in
from safety_geometry.models.key_values import KeyValues
from safety_geometry.models.limits import Asked, faults
from safety_geometry.models.loading import add_lora, load_model
from safety_geometry.models.runner import ContextError, Runner, pack

TOLERANCE = {"atol": 2e-5, "rtol": 2e-5}
PREFIX = [1, 40, 41, 42, 43, 44, 45, 46]
ROWS = [[*PREFIX, *range(50, 60)], [*PREFIX, *range(60, 75)], [*PREFIX, 70]]  # 9 to 23 tokens, beyond 8


@torch.no_grad()
def plain(model, row) -> torch.Tensor:
    return model(input_ids=torch.tensor([row]), use_cache=False).logits[0]


@torch.no_grad()
def check(model, rows=ROWS) -> None:
    """Batched, behind a shared prefix, from a cached block on, and answered: what Hugging Face has for each alone."""
    runner = Runner(model)
    for share in (0, 5):
        batch, taps = pack(rows, share=share), {}
        h = runner.forward(batch, tap=lambda layer, x: taps.update({layer: x}))  # noqa: B023
        logits = runner.logits(h).double()
        for i, row in enumerate(rows):
            torch.testing.assert_close(logits[i, : len(row) - share], plain(model, row)[share:].double(), **TOLERANCE)
        past = KeyValues(runner.prefix(batch.prefix).past) if share else None
        again = runner.blocks(taps[2], start=2, cache=past, past=share)
        torch.testing.assert_close(again, h, **TOLERANCE)
    assert generate(runner, rows, NEVER, 5, batch_size=3, share=5) == [alone(model, row, NEVER, 5) for row in rows]


def test_every_family_is_tested_and_an_unknown_one_is_told_what_to_do():
    assert tuple(FAMILIES) == TESTED
    with pytest.raises(
        UnsupportedModel, match=r"'mamba' is not supported; supported are llama, .*phi3; docs/extending"
    ):
        family_of("mamba")


# ------------------------------------------------------------------------------------------------------ rotary scaling

LLAMA3 = {
    "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8, "rope_theta": 100.0,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8, "rope_theta": 100.0}
LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 100.0}
LONGROPE = {
    "rope_type": "longrope", "short_factor": [1.5, 3.0], "long_factor": [4.0, 9.0], "rope_theta": 100.0,
}  # fmt: skip


@pytest.mark.parametrize("scaling", [LLAMA3, YARN, LINEAR], ids=lambda scaling: scaling["rope_type"])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen3", "olmo2", "smollm3"])
def test_rotary_scaling(family, scaling):
    """Of rows beyond the length before scaling."""
    options = {"window": None, "max_position_embeddings": 32}
    model = make_model(family, rope_parameters=dict(scaling), **options).double()
    without = make_model(family, rope_parameters={"rope_type": "default", "rope_theta": 100.0}, **options).double()
    assert not torch.allclose(plain(model, ROWS[1])[-1], plain(without, ROWS[1])[-1], atol=1e-3)
    check(model)


@pytest.mark.parametrize(("family", "scaling"), [("olmo3", YARN), ("gemma3_text", LINEAR)])
def test_scaling_of_the_blocks_without_a_window_alone(family, scaling):
    """As Olmo 3 and Gemma 3 from 4B on have it, in the form of their files on the hub."""
    old = {k: v for k, v in scaling.items() if k != "rope_theta"}
    model = make_model(family, rope_scaling=old, rope_theta=100.0, max_position_embeddings=32).double()
    rope = model.config.rope_parameters
    assert [rope[kind]["rope_type"] for kind in ("full_attention", "sliding_attention")] == [
        old["rope_type"],
        "default",
    ]
    without = make_model(family, rope_theta=100.0, max_position_embeddings=32).double()
    assert not torch.allclose(plain(model, ROWS[1])[-1], plain(without, ROWS[1])[-1], atol=1e-3)
    check(model)


def test_dynamic_scaling_changes_nothing_within_the_context():
    """It begins beyond `max_position_embeddings`, and no text goes there: lengths would turn each other's positions."""
    dynamic = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 100.0}
    model = make_model(rope_parameters=dynamic, max_position_embeddings=28).double()
    without = make_model(rope_parameters={"rope_type": "default", "rope_theta": 100.0}).double()
    torch.testing.assert_close(plain(model, ROWS[1]), plain(without, ROWS[1]))
    check(model)  # up to 28 tokens, the whole context
    longer = [*PREFIX, *range(100, 121)]
    assert not torch.allclose(plain(model, longer)[-1], plain(without, longer)[-1], atol=1e-3)
    with pytest.raises(ContextError, match=r"29 tokens, .* context of 28 tokens \(max_position_embeddings\)"):
        Runner(model).forward(pack([longer]))
    check(model)  # whatever was run before


@pytest.mark.parametrize("family", ["llama", "phi3"])
def test_longrope_ends_where_its_factors_change(family):
    scaling, rest = dict(LONGROPE), {"partial_rotary_factor": 0.5}
    if family == "llama":
        scaling, rest = {**LONGROPE, "short_factor": [1.5, 2, 3, 4], "long_factor": [4, 5, 6, 9]}, {}
    options = {"original_max_position_embeddings": 28, "max_position_embeddings": 56, **rest}
    model = make_model(family, rope_parameters=scaling, **options).double()
    default = {"rope_type": "default", "rope_theta": 100.0}
    without = make_model(family, rope_parameters=default, **options).double()
    assert not torch.allclose(plain(model, ROWS[1])[-1], plain(without, ROWS[1])[-1], atol=1e-3)
    check(model)
    with pytest.raises(ContextError, match=r"29 tokens, .*28 tokens \(original_max.*beyond which longrope is another"):
        Runner(model).forward(pack([[1] * 29]))
    with pytest.raises(ContextError, match="less 6 for the answer"):
        generate(Runner(model), ROWS, NEVER, 6, batch_size=3)


def test_the_context_of_a_configuration():
    """Of files on the hub, old and new, before anything reads them."""
    longrope = {"type": "longrope", "short_factor": [1], "long_factor": [2]}
    values = {"max_position_embeddings": 131072, "original_max_position_embeddings": 4096}
    assert context_of(values) == (131072, "max_position_embeddings")
    assert context_of(values | {"rope_scaling": longrope})[0] == 4096
    inner = {"full_attention": {"rope_type": "longrope", "original_max_position_embeddings": 64}}
    assert context_of({"max_position_embeddings": 128, "rope_parameters": inner})[0] == 64
    assert context_of({"rope_scaling": "yarn", "max_position_embeddings": None}) == (None, "max_position_embeddings")
    (fault,) = faults("mine", values | {"rope_scaling": longrope}, Asked(context={"completions": 5000}))
    assert "context of model mine is 4096 tokens" in fault


# ------------------------------------------------------------------------------------- what a family has, and has not


@pytest.mark.parametrize("family", ["llama", "olmo2"])
def test_a_window_that_the_family_does_not_have(family):
    """Configurations that others made may keep keys of what they were made from. Hugging Face's forward does not look
    at them (its cache for `generate` does, and forgets tokens)."""
    model = make_model(family, sliding_window=4, layer_types=["sliding_attention"] * 4).double()
    assert Runner(model).window is None and set(Runner(model).kinds) == {"full_attention"}
    without = make_model(family).double()
    torch.testing.assert_close(plain(model, ROWS[1]), plain(without, ROWS[1]))
    assert generate(Runner(model), ROWS, NEVER, 5, 3, share=5) == [alone(without, row, NEVER, 5) for row in ROWS]


def test_a_kind_of_block_that_is_not_known():
    config = AutoConfig.for_model("olmo3", num_hidden_layers=2, layer_types=["full_attention", "linear_attention"])
    with pytest.raises(UnsupportedModel, match="olmo3: layer_types has blocks of kind 'linear_attention'"):
        Family(windows="listed").kinds(config)


@pytest.mark.parametrize("family", ["mistral", "qwen3", "olmo3", "smollm3", "phi3"])
def test_without_a_window(family):
    """Of SmolLM3 and Phi 3 that is what is released; Olmo 3 has one in each, wider than the rows here."""
    check(make_model(family, window=100 if family == "olmo3" else None).double())


def test_blocks_without_positions():
    """SmolLM3's: the test could not tell them from others unless they mattered."""
    model = make_model("smollm3", window=None).double()
    assert model.config.no_rope_layers == [1, 0, 1, 0]
    other = make_model("smollm3", window=None, no_rope_layers=[1, 1, 1, 1]).double()
    assert not torch.allclose(plain(model, ROWS[1])[-1], plain(other, ROWS[1])[-1], atol=1e-3)
    order = torch.tensor([0, *torch.randperm(9, generator=torch.Generator().manual_seed(0)) + 1, 10])
    nowhere = Runner(make_model("smollm3", window=None, no_rope_layers=[0] * 4, layers=1).double())
    h = nowhere.embed(torch.tensor([ROWS[0][:11]]))
    a, b = nowhere.blocks(h)[0, -1], nowhere.blocks(h[:, order])[0, -1]
    torch.testing.assert_close(a, b)  # the last token sees a set


@torch.no_grad()
def test_both_soft_caps():
    """Of attention and of logits, each low enough to matter."""
    model = make_model("gemma2", attn_logit_softcapping=0.5).double()
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        without = make_model("gemma2", **{"attn_logit_softcapping": 0.5, key: None}).double()
        assert not torch.allclose(plain(model, ROWS[1])[-1], plain(without, ROWS[1])[-1], atol=1e-3)
    check(model)


@torch.no_grad()
def test_the_scale_of_embeddings():
    """Gemma's: the stream at block 0 is √d times the table, here as in Hugging Face's own states."""
    model = make_model("gemma3_text").double()
    scaled = Runner(model).embed(torch.tensor([ROWS[0]]))[0]
    torch.testing.assert_close(scaled, model.model.embed_tokens.weight[ROWS[0]] * 32**0.5, atol=1e-6, rtol=1e-6)
    (states,) = model(torch.tensor([ROWS[0]]), output_hidden_states=True, use_cache=False).hidden_states[0]
    torch.testing.assert_close(scaled, states)


NORMED_OUTPUT = ("gemma2", "gemma3_text", "olmo2", "olmo3")


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_what_stands_between_the_stream_and_a_block(family):
    """What `interventions` says of the families: a block's input is the stream itself; OLMo's halves read it as it is;
    and where a half's output is normed, a direction that its last matrix cannot write is written all the same."""
    model = make_model(family).double()
    block, runner = model.model.layers[0], Runner(model)
    direction = torch.nn.functional.normalize(torch.linspace(-1, 2, runner.d, dtype=torch.float64), dim=0)
    block.mlp.down_proj.weight.zero_()
    last = block.self_attn.o_proj.weight
    last -= torch.outer(direction, direction @ last)
    h, seen = runner.embed(torch.tensor([ROWS[0]])), []
    block.self_attn.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["hidden_states"]), with_kwargs=True
    )
    added = runner.blocks(h, stop=1) - h
    assert torch.equal(seen[0], h) == (family in ("olmo2", "olmo3"))
    share = (added @ direction).norm() / added.norm()
    assert share > 0.01 if family in NORMED_OUTPUT else share < 1e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_of_each_family_is_taken_in(family, tmp_path):
    model = make_model(family)
    model.save_pretrained(tmp_path / "source")
    make_tokenizer().save_pretrained(tmp_path / "source")
    edit(tmp_path / "source/config.json", auto_map={"AutoModelForCausalLM": "mine.Mine"})  # code that is never run
    take_in(tmp_path / "source", tmp_path / "model", "folder", "float32", None)
    check_model_folder(tmp_path / "model")
    torch.testing.assert_close(plain(load_model(tmp_path / "model"), ROWS[0]), plain(model, ROWS[0]))
    assert type(AutoModelForCausalLM.from_pretrained(tmp_path / "model")) is type(model)


@pytest.mark.parametrize(
    ("family", "targets"),
    [("phi3", ["qkv_proj", "gate_up_proj", "o_proj"]), ("olmo3", ["q_proj", "down_proj"]), ("smollm3", ["v_proj"])],
)
def test_an_adapter_with_gradients_and_merged(family, targets, tmp_path):
    """Phi 3's queries, keys and values are one matrix, and so are gate and up."""
    make_model(family).save_pretrained(tmp_path / "base")
    lora = add_lora(load_model(tmp_path / "base"), 4, 8.0, 0.0, targets, seed=1)
    torch.manual_seed(2)
    for name, p in lora.named_parameters():
        if "lora_B" in name:
            p.data = 0.2 * torch.randn(p.shape)
    runner, batch = Runner(lora.base_model.model), pack(ROWS, share=5)
    logits = runner.logits(runner.forward(batch))
    logits.sum().backward()
    assert all(p.grad.abs().max() > 0 for name, p in lora.named_parameters() if "lora_" in name)
    lora.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    merged = load_model(tmp_path / "base", adapter=tmp_path / "adapter")
    for i, row in enumerate(ROWS):
        torch.testing.assert_close(logits[i, : len(row) - 5], plain(merged, row)[5:], atol=1e-3, rtol=1e-3)
