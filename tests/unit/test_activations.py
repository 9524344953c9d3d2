"""Recorded activations against hidden states of the plain model; evaluation layers against known answers."""

import pytest
import torch
from conftest import REQUESTS

from safety_geometry.geometry.activations import RunningMean, evaluation_layers, record, stream
from safety_geometry.models.chat import Rendered
from safety_geometry.models.positions import PositionError, position_indices
from safety_geometry.models.runner import Runner

POSITIONS = [-5, -2, -1, "t_inst"]


@pytest.mark.parametrize(("batch_size", "share"), [(1, 0), (2, 100), (5, 3)])
def test_record_equals_hidden_states(llama64, chat, batch_size, share):
    prompts = chat.render_many(REQUESTS)
    seen = []
    got = record(Runner(llama64), prompts, POSITIONS, batch_size, share, seen.append)
    assert got.dtype == torch.float32 and got.shape == (5, 4, 5, 32) and sum(seen) == 5
    outputs = []
    hook = llama64.model.layers[-1].register_forward_hook(lambda module, args, out: outputs.append(out))
    for i, prompt in enumerate(prompts):
        with torch.no_grad():
            states = llama64(torch.tensor([prompt.ids]), output_hidden_states=True, use_cache=False).hidden_states
        wanted = [*(s[0] for s in states[:-1]), outputs[-1][0]]  # the last stream is before the final norm
        for p, at in enumerate((-5, -2, -1, prompt.t_inst)):
            for layer, h in enumerate(wanted):
                torch.testing.assert_close(got[i, p, layer].double(), h[at], atol=1e-4, rtol=1e-5)
    hook.remove()


def test_streamed_batches_hold_each_prompt_once_and_no_more_than_a_batch(llama, chat):
    prompts, runner = chat.render_many(REQUESTS), Runner(llama)
    want, seen = record(runner, prompts, POSITIONS, 2, 100), []

    def sink(rows, values):
        assert len(rows) == len(values) <= 2 and torch.equal(values, want[rows])
        seen.extend(rows)

    stream(runner, prompts, POSITIONS, 2, sink, 100)
    assert sorted(seen) == list(range(5))


def test_a_running_mean_is_the_mean_in_float64_bit_for_bit():
    """Sums of float32 in float64 are exact for all values that a mean's float32 can tell apart, so their order does not count."""
    generator = torch.Generator().manual_seed(8)
    values = 30 * torch.randn(48, 3, 7, 20, generator=generator).exp() - 40
    mean = RunningMean(values.shape[1:])
    for rows in torch.randperm(48, generator=generator).split(5):
        mean.add(values[rows])
    assert torch.equal(mean.value(), values.double().mean(0).float())
    with pytest.raises(ValueError, match="mean of no prompts"):
        RunningMean((2, 2)).value()


def test_positions(chat):
    prompts = chat.render_many(REQUESTS[:2])
    table = position_indices(prompts, POSITIONS)
    assert table.tolist() == [[len(p.ids) - 5, len(p.ids) - 2, len(p.ids) - 1, p.t_inst] for p in prompts]
    with pytest.raises(PositionError, match=r"2 tokens too short for positions \[-5\]"):
        position_indices([Rendered((1, 2, 3), 0, 3, False)], [-5])


def test_evaluation_layers():
    """Layers whose class means have the lowest cosine; index ℓ+1 of the means is block ℓ's output."""
    angles = torch.tensor([3.0, 0.1, 0.9, 0.4, 1.2, 0.2])  # of the input and of five blocks
    harmful = torch.stack([torch.cos(angles), torch.sin(angles)], -1) * 7
    benign = torch.tensor([[2.0, 0.0]]).expand(6, 2)
    assert evaluation_layers(harmful, benign, 0.4) == [1, 3]
    assert evaluation_layers(harmful, benign, 0.2) == [3]
    assert evaluation_layers(harmful, benign, 0.01) == [3]  # at least one
    assert evaluation_layers(harmful, benign, 1.0) == [0, 1, 2, 3, 4]
