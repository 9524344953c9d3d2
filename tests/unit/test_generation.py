"""Greedy decoding against Hugging Face's `generate`, one prompt at a time, in float64."""

import pytest
import torch
from conftest import FAMILIES, make_model

from safety_geometry.models.generation import DROP_BELOW, Completion, generate, length_batches
from safety_geometry.models.interventions import Intervention
from safety_geometry.models.runner import ContextError, Runner

PREFIX = [1, 40, 41, 42, 43]
PROMPTS = [
    [*PREFIX, 50, 51, 52],
    [*PREFIX, 60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70],
    [*PREFIX, 70],
    [*PREFIX, 71, 72, 73, 74, 75],
    [*PREFIX, 50, 51, 53],
]
NEVER = (3,)


def alone(model, prompt, stop_ids, limit) -> Completion:
    """Hugging Face's greedy answer to one unpadded prompt."""
    out = model.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), do_sample=False,
        max_new_tokens=limit, eos_token_id=list(stop_ids), pad_token_id=0,
    )[0, len(prompt) :].tolist()  # fmt: skip
    stopped = bool(out) and out[-1] in stop_ids
    return Completion(tuple(out[:-1] if stopped else out), not stopped)


def frequent_tokens(model, limit=6) -> list[int]:
    """Tokens that some answers hold in the middle: as stop tokens they end the rows at different steps."""
    answers = [alone(model, p, NEVER, limit).ids for p in PROMPTS]
    return [answers[0][2], answers[1][4], answers[3][0]]


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_hugging_face_and_does_not_depend_on_the_layout(family, models64):
    model = models64[family]
    runner, stops = Runner(model), frequent_tokens(model)
    want = [alone(model, p, stops, 6) for p in PROMPTS]
    assert {c.hit_limit for c in want} == {True, False} or family != "llama"
    for batch_size, share in ((2, 3), (5, 0), (5, 100)):
        assert generate(runner, PROMPTS, stops, 6, batch_size, share) == want, (batch_size, share)


def test_rows_end_at_different_steps_and_are_dropped(llama64):
    """Compaction: after rows have stopped, fewer rows go through the blocks, and the other answers stay the same."""
    runner, stops = Runner(llama64), frequent_tokens(llama64)
    widths, blocks = [], runner.blocks

    def counting(h, **kwargs):
        widths.append(tuple(h.shape[:2]))
        return blocks(h, **kwargs)

    runner.blocks = counting
    found = generate(runner, PROMPTS, stops, 6, 5, share=5)
    lengths = sorted(len(c.ids) + (not c.hit_limit) for c in found)  # tokens drawn, the stop token among them
    assert len(set(lengths)) > 1 and lengths[0] < 8
    assert widths[0] == (1, 5) and widths[1][0] == 5  # the prefix once, then the prompts
    there, want = 5, []
    for step in range(1, max(lengths)):
        unfinished = sum(n > step for n in lengths)
        there = unfinished if unfinished <= DROP_BELOW * there else there
        want.append(there)
    assert [w[0] for w in widths[2:]] == want and want[-1] < 3


def test_early_stop_when_all_rows_have_ended(llama64):
    firsts = [alone(llama64, p, NEVER, 1).ids[0] for p in PROMPTS]
    seen = []
    found = generate(Runner(llama64), PROMPTS, firsts, 50, 2, progress=seen.append)
    assert found == [Completion((), False)] * 5
    assert seen == [2, 2, 1]


def test_limit(llama64):
    runner = Runner(llama64)
    third = alone(llama64, PROMPTS[0], NEVER, 3).ids
    assert third[2] not in third[:2]
    assert generate(runner, PROMPTS[:1], NEVER, 3, 1) == [Completion(third, True)]
    assert generate(runner, PROMPTS[:1], [third[2]], 3, 1) == [Completion(third[:2], False)]  # ends at the limit itself
    assert generate(runner, PROMPTS[:1], [third[2]], 2, 1) == [Completion(third[:2], True)]
    assert generate(runner, PROMPTS[:1], NEVER, 1, 1) == [Completion(third[:1], True)]


def test_a_limit_for_each_prompt(llama64):
    """Rows of one batch that end at limits of their own, with stop tokens besides."""
    stops, limits = frequent_tokens(llama64), [1, 6, 2, 4, 3]
    for chosen in (NEVER, stops):
        want = [alone(llama64, p, chosen, n) for p, n in zip(PROMPTS, limits, strict=True)]
        for batch_size in (1, 2, 5):
            assert generate(Runner(llama64), PROMPTS, chosen, limits, batch_size, share=5) == want


def test_share_is_ignored_where_prompts_differ(llama64):
    prompts = [[1, 40, 41, 50], [1, 40, 55, 41, 50], [1]]
    want = [alone(llama64, p, NEVER, 4) for p in prompts]
    assert generate(Runner(llama64), prompts, NEVER, 4, 3, share=3) == want
    assert generate(Runner(llama64), prompts[:2], NEVER, 4, 2, share=3) == want[:2]


def test_interventions_act_on_prompt_and_decoded_tokens(llama64):
    """Per-row edits against forward pre-hooks on the whole growing sequence without any cache."""
    runner, generator = Runner(llama64), torch.Generator().manual_seed(3)
    d = runner.d
    unit = torch.nn.functional.normalize(torch.randn(2, d, generator=generator), dim=-1)
    plans = [
        Intervention("ablate", 1, unit[:1]), Intervention("steer", 2, 3.0 * unit[1:], 1.5), None,
        Intervention("ablate", 3, unit[1:], 0.7), Intervention("steer", 1, 4.0 * unit[:1]),
    ]  # fmt: skip

    def hooked(prompt, plan):
        def change(module, args):
            x, u = args[0], plan.basis[0].double()
            new = x - plan.strength * (x @ u)[..., None] * u if plan.family == "ablate" else x + plan.strength * u
            return (new, *args[1:])

        hook = llama64.model.layers[plan.layer].register_forward_pre_hook(change) if plan else None
        ids = list(prompt)
        with torch.no_grad():
            for _ in range(6):
                ids.append(int(llama64(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        if hook is not None:
            hook.remove()
        return Completion(tuple(ids[len(prompt) :]), True)

    want = [hooked(p, plan) for p, plan in zip(PROMPTS, plans, strict=True)]
    plain = [alone(llama64, p, NEVER, 6) for p in PROMPTS]
    assert sum(a != b for a, b in zip(want, plain, strict=True)) >= 3 and want[2] == plain[2]
    # Not only the first token: the edit also acts while decoding, and on the shared prefix.
    edits = [() if plan is None else (plan,) for plan in plans]
    for batch_size in (1, 2, 5):
        assert generate(runner, PROMPTS, NEVER, 6, batch_size, share=5, edits=edits) == want


def test_observed_columns_are_the_prompts_own_tokens(llama64):
    """Every token after the shared prefix, at every layer, against the plain forward of each prompt alone."""
    runner, seen = Runner(llama64), {}

    def observe(rows, layer, h, offset):
        for b, i in enumerate(rows):
            for t in range(5, len(PROMPTS[i])):
                seen[i, layer, t] = h[b, t + int(offset[b])]

    generate(runner, PROMPTS, NEVER, 1, 3, share=5, observe=observe)
    for i, prompt in enumerate(PROMPTS):
        with torch.no_grad():
            states = llama64(input_ids=torch.tensor([prompt]), output_hidden_states=True).hidden_states
        for layer in range(runner.n_layers):  # Hugging Face norms the last state
            for t in range(5, len(prompt)):
                torch.testing.assert_close(seen[i, layer, t], states[layer][0, t], atol=1e-9, rtol=1e-9)


def test_interventions_follow_their_rows_when_others_have_stopped(llama64):
    runner = Runner(llama64)
    u = torch.nn.functional.normalize(torch.randn(5, 1, runner.d, generator=torch.Generator().manual_seed(4)), dim=-1)
    edits = [(Intervention("steer", 1, 4.0 * u[i]),) for i in range(5)]
    free = generate(runner, PROMPTS, NEVER, 6, 1, edits=edits)
    stops = [free[0].ids[1], free[2].ids[3]]
    assert generate(runner, PROMPTS, stops, 6, 5, edits=edits) == generate(runner, PROMPTS, stops, 6, 1, edits=edits)


def test_sliding_window_with_ragged_rows_and_a_shared_prefix():
    """A window that reaches from short rows back into the shared prefix while longer rows lie beyond it."""
    model = make_model("gemma3_text", window=9).double()
    want = [alone(model, p, NEVER, 5) for p in PROMPTS]
    assert generate(Runner(model), PROMPTS, NEVER, 5, 5, share=5) == want


def test_length_batches():
    assert length_batches([5, 2, 5, 1], 2) == [[3, 1], [0, 2]]
    assert length_batches([], 2) == []
    assert length_batches([1, 1, 1], 5) == [[0, 1, 2]]


def test_prompts_that_leave_no_room_for_an_answer():
    """A short prompt with a long answer beside a long prompt with a short one fits, whatever the padding."""
    runner = Runner(make_model(layers=2, max_position_embeddings=20))
    prompts = [list(range(1, 19)), [1, 40, 41]]
    assert [len(c.ids) for c in generate(runner, prompts, [300], [2, 17], 2)] == [2, 17]
    with pytest.raises(
        ContextError, match=r"prompt 1 of 2 has 18 tokens, more than .* 20 tokens .* less 3 for the answer"
    ):
        generate(runner, prompts, [300], [3, 17], 2)
