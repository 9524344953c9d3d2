"""Attention of attacks' gradients: another kernel on a GPU, the same numbers."""

import contextlib

import torch
from test_gcg_engine import cases  # noqa: F401  (a fixture)

from safety_geometry.attacks.gcg import scoring
from safety_geometry.attacks.gcg.batches import BatchSize
from safety_geometry.models.attention import repeatable_attention
from safety_geometry.models.runner import Runner


def test_a_cpu_keeps_its_kernels_and_a_gpu_gets_the_plain_one():
    assert isinstance(repeatable_attention(torch.device("cpu")), contextlib.nullcontext)
    with repeatable_attention(torch.device("cuda")):
        assert torch.backends.cuda.math_sdp_enabled()
        assert not torch.backends.cuda.mem_efficient_sdp_enabled() and not torch.backends.cuda.flash_sdp_enabled()


def test_gradients_of_an_attack_are_the_same(llama64, cases, monkeypatch):  # noqa: F811
    runner = Runner(llama64)

    def looked():
        return scoring.look(runner, cases, [scoring.prefix(runner, s) for s in cases], BatchSize(8), None)

    want = looked()
    monkeypatch.setattr(scoring, "repeatable_attention", lambda device: repeatable_attention(torch.device("cuda")))
    for one, other in zip(want, looked(), strict=True):
        torch.testing.assert_close(other.gradient, one.gradient, rtol=1e-9, atol=1e-12)
        assert abs(one.loss - other.loss) < 1e-9
