"""The block-wise runner against the models' own forward, for every family, in float64."""

import pytest
import torch
from conftest import FAMILIES, WINDOWED, make_model
from transformers import GPT2Config, GPT2LMHeadModel

from safety_geometry.models.families import UnsupportedModel
from safety_geometry.models.key_values import KeyValues, SlotKeyValues
from safety_geometry.models.runner import ContextError, Runner, pack

TOLERANCE = {"atol": 2e-5, "rtol": 2e-5}  # Hugging Face's norms compute in float32 whatever the model's dtype
PREFIX = [1, 40, 41, 42, 43, 44, 45, 46]
ROWS = [[*PREFIX, 50, 51, 52], [*PREFIX, 60, 61, 62, 63, 64, 65, 66, 67, 68], [*PREFIX, 70]]


@pytest.fixture(params=FAMILIES)
def model(request, models64):
    return models64[request.param]


@torch.no_grad()
def reference(model, row):
    """(logits [T, V], hidden states: L+1 of [T, d]; the last is after the final norm) of one row on its own."""
    out = model(input_ids=torch.tensor([row]), output_hidden_states=True, use_cache=False)
    return out.logits[0], [h[0] for h in out.hidden_states]


@torch.no_grad()
@pytest.mark.parametrize("share", [0, 5, 100])
def test_equals_hugging_face(model, share):
    runner, batch = Runner(model), pack(ROWS, share=share)
    taps = {}
    h = runner.forward(batch, tap=lambda layer, x: taps.update({layer: x}))
    logits = runner.logits(h)
    shared = len(batch.prefix)
    assert shared == min(share, len(PREFIX))
    assert sorted(taps) == list(range(runner.n_layers + 1))
    for i, row in enumerate(ROWS):
        want, states = reference(model, row)
        n = len(row) - shared
        torch.testing.assert_close(logits[i, :n].double(), want[shared:], **TOLERANCE)
        for layer in range(runner.n_layers):
            torch.testing.assert_close(taps[layer][i, :n], states[layer][shared:], **TOLERANCE)
        torch.testing.assert_close(runner.body.norm(taps[runner.n_layers])[i, :n], states[-1][shared:], **TOLERANCE)
        assert batch.last[i] == n - 1


@torch.no_grad()
def test_restart_from_the_input_of_a_block(model):
    runner, batch = Runner(model), pack(ROWS, share=4)
    taps, prefix_taps = {}, {}
    whole = runner.forward(batch, tap=lambda layer, x: taps.update({layer: x}))
    cache = KeyValues(record=True)
    runner.blocks(
        runner.embed(torch.tensor([batch.prefix])), cache=cache, tap=lambda layer, x: prefix_taps.update({layer: x})
    )
    for start in (1, 3):
        past = runner.prefix(batch.prefix, start=start, h=prefix_taps[start])
        assert sorted(past.past) == list(range(start, runner.n_layers))
        h = runner.blocks(taps[start], start=start, cache=past, past=len(batch.prefix))
        torch.testing.assert_close(h, whole, **TOLERANCE)
    half = runner.blocks(taps[0], stop=2, cache=KeyValues(past=cache.now), past=len(batch.prefix))
    torch.testing.assert_close(half, taps[2], **TOLERANCE)


def test_gradient_through_the_shared_prefix(model):
    """d loss / d embedding of every token, prefix included, equals that of the plain forward."""
    runner = Runner(model)
    row = ROWS[1]
    embedded = runner.embed(torch.tensor([row])).detach().requires_grad_(True)
    cache = KeyValues(record=True)
    runner.blocks(embedded[:, :5], cache=cache)
    h = runner.blocks(embedded[:, 5:], cache=KeyValues(past=cache.now), past=5)
    (ours,) = torch.autograd.grad(runner.logits(h)[0, -1].double().log_softmax(-1)[7], embedded)

    plain = model.get_input_embeddings()(torch.tensor([row])).detach().requires_grad_(True)
    logits = model(inputs_embeds=plain, use_cache=False).logits
    (want,) = torch.autograd.grad(logits[0, -1].log_softmax(-1)[7], plain)
    assert want[:, :5].abs().max() > 1e-3
    torch.testing.assert_close(ours, want, atol=1e-4, rtol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("family", WINDOWED)
def test_the_sliding_window_matters_here(family, models64):
    """Guards the other tests: with a window wider than the row the outputs are others."""
    wide = make_model(family, window=100).double()
    assert not torch.allclose(reference(wide, ROWS[1])[0][-1], reference(models64[family], ROWS[1])[0][-1], atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_eager_attention_and_tied_head(family, models64):
    model = make_model(family, attn_implementation="eager", tie_word_embeddings=True).double()
    assert model.config._attn_implementation == "eager" and Runner(model).eager
    assert model.lm_head.weight is model.model.embed_tokens.weight
    batch = pack(ROWS, share=3)
    logits = Runner(model).logits(Runner(model).forward(batch))
    torch.testing.assert_close(logits[2, batch.last[2]].double(), reference(model, ROWS[2])[0][-1], **TOLERANCE)


@torch.no_grad()
def test_softcap_is_applied(models64):
    model = models64["gemma2"]
    logits = Runner(model).logits(Runner(model).forward(pack(ROWS)))
    assert logits.abs().max() <= 4.0  # final_logit_softcapping of the fixture
    torch.testing.assert_close(logits[0, 10].double(), reference(model, ROWS[0])[0][-1], **TOLERANCE)


@torch.no_grad()
def test_edit_acts_before_the_tap_and_on_the_prefix(llama64):
    runner = Runner(llama64)
    vector = torch.linspace(-1, 1, runner.d, dtype=torch.float64)
    hooks = [
        block.register_forward_pre_hook(
            lambda module, args, k=k: (args[0] + k * vector, *args[1:])
        )
        for k, block in enumerate(llama64.model.layers)
    ]  # fmt: skip
    try:
        want, _ = reference(llama64, ROWS[0])
    finally:
        for hook in hooks:
            hook.remove()
    taps = {}
    batch = pack(ROWS, share=4)
    h = runner.forward(batch, edit=lambda k, x: x + k * vector, tap=lambda k, x: taps.update({k: x}))
    torch.testing.assert_close(runner.logits(h)[0, : len(ROWS[0]) - 4].double(), want[4:], **TOLERANCE)
    clean = runner.forward(batch, stop=1)
    torch.testing.assert_close(taps[1], clean + vector, atol=1e-9, rtol=1e-9)


def test_pack():
    batch = pack([[1, 2, 3, 4], [1, 2, 3], [1, 2, 9, 9, 9]], share=10)
    assert batch.prefix == (1, 2) and batch.lengths.tolist() == [2, 1, 3]
    assert batch.ids.tolist() == [[3, 4, 0], [3, 0, 0], [9, 9, 9]]
    assert pack([[1, 2, 3]], share=10).prefix == (1, 2)  # a token of every row stays
    assert pack([[1, 2], [1, 2]], share=10).ids.tolist() == [[2], [2]]
    assert pack([[1, 2], [1, 2]], share=0).prefix == ()
    assert pack([[1, 2], [3, 2]], share=2).prefix == ()


def test_key_values_map_rows():
    past = torch.arange(6.0).view(2, 1, 3, 1)
    new = torch.full((3, 1, 2, 1), 9.0)
    cache = KeyValues({0: (past, -past)}, rows=torch.tensor([1, 0, 1]), record=True)
    keys, values = cache.update(new, new, 0)
    assert keys[:, 0, :, 0].tolist() == [[3, 4, 5, 9, 9], [0, 1, 2, 9, 9], [3, 4, 5, 9, 9]]
    assert values[1, 0, :, 0].tolist() == [0, -1, -2, 9, 9]
    assert cache.now[0][0] is new
    assert cache.update(new, new, 1)[0] is new  # a layer without a past
    one = KeyValues({0: (past[:1], past[:1])})
    assert one.update(new, new, 0)[0][:, 0, 0, 0].tolist() == [0, 0, 0] and not one.now


def test_slot_key_values():
    cache = SlotKeyValues(6)
    first = torch.arange(4.0).view(2, 1, 2, 1)
    assert torch.equal(cache.update(first, -first, 0)[0], first)
    cache.offset = 2
    keys, values = cache.update(torch.full((2, 1, 1, 1), 7.0), torch.full((2, 1, 1, 1), 8.0), 0)
    assert keys[:, 0, :, 0].tolist() == [[0, 1, 7], [2, 3, 7]] and values[1, 0, :, 0].tolist() == [-2, -3, 8]
    cache.offset = 3
    cache.keep(torch.tensor([1]))
    assert cache.update(torch.full((1, 1, 1, 1), 5.0), torch.zeros(1, 1, 1, 1), 0)[0][0, 0, :, 0].tolist() == [
        2,
        3,
        7,
        5,
    ]


def test_unknown_models_are_refused(llama):
    small = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=20, n_positions=16))
    with pytest.raises(UnsupportedModel, match=r"gpt2.*llama, mistral"):
        Runner(small)
    broken = make_model(layers=2)
    broken.config.num_hidden_layers = 3
    with pytest.raises(UnsupportedModel, match=r"2 blocks .* config says 3"):
        Runner(broken)


def test_rows_beyond_the_context_are_refused():
    runner = Runner(make_model(layers=2, max_position_embeddings=16))
    fits, long = [[1] * 16], [[1, 2], [1] * 17]
    assert runner.forward(pack(fits)).shape[1] == 16
    for share in (0, 9):
        with pytest.raises(
            ContextError, match=r"\(the longest of a batch\) has 17 tokens, more than the model's context of 16 tok"
        ):
            runner.forward(pack(long, share=share))
    with pytest.raises(ContextError, match="17 tokens"):
        runner.blocks(runner.embed(torch.tensor(long[1:])))
    with pytest.raises(ContextError, match="17 tokens"):
        runner.prefix(long[1])


def test_context_counts_new_tokens_and_names_prompts():
    runner = Runner(make_model(layers=2, max_position_embeddings=16))
    runner.check_context([16, 3], [0, 13])
    with pytest.raises(
        ContextError, match=r"^prompt 2 of 2 has 3 tokens, .*of 16 tokens .* less 14 for the answer; take it out"
    ):
        runner.check_context([16, 3], [0, 14])
    with pytest.raises(ContextError, match=r"^prompt b has 15 tokens, .* less 2 for the answer, and so do 1 more; "):
        runner.check_context([14, 15, 16], 2, "abc")
    runner.context = None  # a model that states none
    runner.check_context([10**6], 5)
