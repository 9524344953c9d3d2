"""Candidate scores against one-candidate-at-a-time scoring through ordinary forward hooks, in float64."""

from types import SimpleNamespace

import pytest
import torch
from conftest import REQUESTS, make_model

from safety_geometry.geometry import candidate_scores
from safety_geometry.models.runner import Runner

HARMFUL = ["List three ways to sharpen a knife", "Explain how the kitchen works, please", "Write about the wind!"]
EVALUATION = [0, 2]
TOLERANCE = {"atol": 2e-5, "rtol": 2e-5}


def score_candidates(*arguments, **options):
    """As torch tensors, which the brute force is."""
    scores = candidate_scores.score_candidates(*arguments, **options)
    return SimpleNamespace(**{n: torch.as_tensor(v) for n, v in vars(scores).items() if n != "n_layers"})


def directions(d: int, layers=(0, 1, 3), positions=(-1,)) -> dict[tuple[int, int], torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {(ell, p): 2.0 * torch.randn(d, generator=generator) for ell in layers for p in positions}


@torch.no_grad()
def naive(model, ids, evaluation, layer=None, change=None):
    """(sum over evaluation layers of the last token's block output, log p of the next token) of one prompt."""
    outputs = {}
    hooks = [
        model.model.layers[e].register_forward_hook(lambda module, args, out, e=e: outputs.update({e: out[0, -1]}))
        for e in evaluation
    ]
    if change is not None:
        hooks.append(
            model.model.layers[layer].register_forward_pre_hook(lambda module, args: (change(args[0]), *args[1:]))
        )
    try:
        logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
    finally:
        for hook in hooks:
            hook.remove()
    last = len(model.model.layers) - 1  # its output is compared after the final norm
    outputs = {e: model.model.norm(value) if e == last else value for e, value in outputs.items()}
    return sum(outputs.values()), logits.log_softmax(-1)


def check(model, scores, vectors, harmful, benign, evaluation, coefficient):
    sites = sorted(vectors)
    assert list(zip(scores.layers.tolist(), scores.positions.tolist(), strict=True)) == sites
    clean_h = [naive(model, p.ids, evaluation) for p in harmful]
    clean_b = [naive(model, p.ids, evaluation) for p in benign]
    for c, site in enumerate(sites):
        r = vectors[site].double()
        u = r / r.norm()
        assert float(scores.norm[c]) == pytest.approx(float(r.norm()), rel=1e-6)

        def ablate(x, u=u):
            return x - (x @ u)[..., None] * u

        def add(x, r=r):
            return x + coefficient * r

        for i in range(len(harmful)):
            s, _ = naive(model, harmful[i].ids, evaluation, site[0], ablate)
            torch.testing.assert_close(scores.ablate_harmful[c, i].double(), s, **TOLERANCE)
            s, _ = naive(model, benign[i].ids, evaluation, site[0], add)
            torch.testing.assert_close(scores.add_benign[c, i].double(), s, **TOLERANCE)
            _, log_q = naive(model, benign[i].ids, evaluation, site[0], ablate)
            log_p = clean_b[i][1]
            kl = (log_p.exp() * (log_p - log_q)).sum()
            assert float(scores.kl[c, i]) == pytest.approx(float(kl), rel=1e-4, abs=1e-6)
    torch.testing.assert_close(scores.clean_harmful.double(), torch.stack([s for s, _ in clean_h]), **TOLERANCE)
    torch.testing.assert_close(scores.clean_benign.double(), torch.stack([s for s, _ in clean_b]), **TOLERANCE)


@pytest.mark.parametrize(("batch_size", "share", "coefficient"), [(96, 100, 1.0), (5, 3, -0.5), (1, 0, 1.0)])
def test_equals_hooks(llama64, chat, batch_size, share, coefficient):
    harmful, benign = chat.render_many(HARMFUL), chat.render_many(REQUESTS[:3])
    vectors, seen = directions(32) | directions(32, (1,), (-3,)), []
    scores = score_candidates(
        Runner(llama64), vectors, harmful, benign, EVALUATION, coefficient, batch_size, share, seen.append
    )
    assert sum(seen) == 3 * 3 * len(vectors)
    assert scores.kl.min() > 1e-3
    check(llama64, scores, vectors, harmful, benign, EVALUATION, coefficient)


@pytest.mark.parametrize("family", ["mistral", "gemma2", "gemma3_text"])
def test_equals_hooks_with_windows_and_softcaps(family, chat, models64):
    harmful, benign = chat.render_many(HARMFUL[:2]), chat.render_many(REQUESTS[:2])
    vectors = directions(32, (1, 2), (-1,))
    scores = score_candidates(Runner(models64[family]), vectors, harmful, benign, [1, 3], share=100)
    check(models64[family], scores, vectors, harmful, benign, [1, 3], 1.0)


def test_evaluation_layers_below_the_candidate_are_clean(llama64, chat):
    """Block 0 and 1 end before the input of block 3: neither ablation nor addition at 3 can reach them."""
    harmful, benign = chat.render_many(HARMFUL), chat.render_many(REQUESTS[:3])
    scores = score_candidates(Runner(llama64), directions(32, (3,), (-1,)), harmful, benign, [0, 1], share=100)
    assert torch.equal(scores.ablate_harmful[0], scores.clean_harmful)
    assert torch.equal(scores.add_benign[0], scores.clean_benign)
    assert scores.kl.min() > 0  # while the next-token distribution does change


def test_a_single_prompt_and_a_single_candidate(llama64, chat):
    vectors = directions(32, (2,), (-2,))
    harmful, benign = chat.render_many(HARMFUL[:1]), chat.render_many(REQUESTS[:1])
    check(
        llama64, score_candidates(Runner(llama64), vectors, harmful, benign, [3], share=50), vectors, harmful, benign,
        [3], 1.0,
    )  # fmt: skip


def test_float32_does_not_depend_on_the_batch(llama, chat):
    harmful, benign = chat.render_many(HARMFUL), chat.render_many(REQUESTS[:3])
    runs = [score_candidates(Runner(llama), directions(32), harmful, benign, EVALUATION, 1.0, n, 50) for n in (1, 64)]
    for name in ("ablate_harmful", "add_benign", "kl"):
        torch.testing.assert_close(getattr(runs[0], name), getattr(runs[1], name), atol=1e-4, rtol=1e-4)


def test_errors(llama, chat):
    prompts = chat.render_many(HARMFUL[:2])
    with pytest.raises(ValueError, match="unknown form of removal 'all'"):
        candidate_scores.Scorer(Runner(llama), prompts, prompts, [1], [0], removal="all")


def test_scores_on_a_model_of_more_layers(chat):
    """Evaluation sums run over listed layers only, in any order of the list."""
    model = make_model(layers=6).double()
    harmful, benign = chat.render_many(HARMFUL), chat.render_many(REQUESTS[:3])
    vectors = directions(32, (4,), (-1,))
    a = score_candidates(Runner(model), vectors, harmful, benign, [5, 1, 4], share=50)
    check(model, a, vectors, harmful, benign, [1, 4, 5], 1.0)
