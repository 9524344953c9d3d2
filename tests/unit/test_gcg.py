"""GCG against autograd through an explicit one-hot, brute-force re-tokenisation and the plain forward."""

from dataclasses import replace

import pytest
import torch
from conftest import REQUESTS, VOCABULARY, make_tokenizer

from safety_geometry.attacks.gcg import search as gcg
from safety_geometry.attacks.gcg.batches import BatchSize
from safety_geometry.attacks.gcg.candidates import propose
from safety_geometry.attacks.gcg.losses import uncached_loss
from safety_geometry.attacks.gcg.scoring import look, prefix, score
from safety_geometry.attacks.gcg.search import GCGConfig, attack
from safety_geometry.attacks.gcg.suffix import SuffixError, allowed_tokens, initial_suffix, place, surviving
from safety_geometry.models.chat import ChatFormat
from safety_geometry.models.runner import Runner

REQUEST, TARGET = REQUESTS[0], "Sure, here is a list"
CONFIG = GCGConfig(steps=4, width=24, top_k=40, suffix_length=5, batch_size=7)
SIZE = VOCABULARY + 40  # the model's vocabulary is larger than the tokenizer's


@pytest.fixture(scope="module")
def allowed(tokenizer):
    return allowed_tokens(tokenizer, SIZE)


@pytest.fixture
def suffix(chat):
    return initial_suffix(chat, REQUEST, TARGET, CONFIG.init, CONFIG.suffix_length)


def plain_loss(model, ids, target_start, embeds=None):
    """Cross-entropy of the target by the model's own forward over the whole conversation."""
    inputs = {"inputs_embeds": embeds} if embeds is not None else {"input_ids": torch.tensor([ids])}
    logits = model(**inputs, use_cache=False).logits[0, target_start - 1 : -1]
    return torch.nn.functional.cross_entropy(logits, torch.tensor(ids[target_start:]))


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2"])
def test_gradient_equals_autograd_through_a_one_hot(family, suffix, models64):
    model, runner = models64[family], Runner(models64[family])
    (current,) = look(runner, [suffix], [prefix(runner, suffix)], BatchSize(4), None)
    got = current.gradient
    assert got.dtype == torch.float64
    one_hot = torch.nn.functional.one_hot(torch.tensor(suffix.ids), SIZE).double()[None].requires_grad_(True)
    embedding = model.get_input_embeddings()
    scale = float(getattr(embedding, "embed_scale", 1.0))  # Gemma multiplies its embeddings; a factor of the gradient
    loss = plain_loss(model, suffix.ids, suffix.target_start, one_hot @ embedding.weight * scale)
    (want,) = torch.autograd.grad(loss, one_hot)
    torch.testing.assert_close(got.double(), want[0, suffix.start : suffix.stop] / scale, atol=1e-4, rtol=1e-3)
    assert all(p.grad is None for p in model.parameters())


def test_place(chat, tokenizer, suffix):
    assert suffix.text == " !" * 5 and suffix.stop - suffix.start == 5
    assert tokenizer.decode(list(suffix.ids[suffix.start : suffix.stop])) == " !" * 5
    assert tokenizer.decode(list(suffix.ids[suffix.target_start :])) == TARGET  # no end of turn after the target
    assert suffix.ids[: suffix.target_start] == chat.render(REQUEST + " !" * 5).ids
    assert suffix.ids[: suffix.start] == chat.render(REQUEST).ids[: suffix.start]
    assert suffix.prompt == REQUEST + " !" * 5


def test_a_suffix_that_merges_is_refused(chat, suffix):
    with pytest.raises(SuffixError, match="merges"):
        place(chat, "Write a poem about the sea and the w", TARGET, "ind ! !")
    with pytest.raises(SuffixError, match=r"5 × ' poem about' is \d+ tokens"):
        initial_suffix(chat, REQUEST, TARGET, " poem about", 5)
    for message in ("poem", "Sure"):
        with pytest.raises(SuffixError) as error:
            place(chat, "Write a poem about the sea and the w", TARGET, "ind ! !")
        assert message not in str(error.value)  # harmful text never reaches an error message


def test_allowed_tokens(tokenizer, allowed):
    assert allowed.shape == (SIZE,) and not allowed[len(tokenizer) :].any()
    for i in range(len(tokenizer)):
        text = tokenizer.decode([i])
        special = i in (0, 1, 2, 3)
        assert bool(allowed[i]) == (text.isascii() and text.isprintable() and text.strip() != "" and not special), text
    assert allowed.sum() > 100


def test_an_unnamed_special_token_is_not_allowed():
    """An end of turn that is not the end of sequence (Gemma) has no name in the tokenizer."""
    other = make_tokenizer()
    other.eos_token = "<s>"
    assert not allowed_tokens(other, SIZE)[other.convert_tokens_to_ids("<|end|>")]


def test_candidates_differ_in_one_allowed_token(suffix, allowed):
    gradient = torch.randn(5, SIZE, generator=torch.Generator().manual_seed(0))
    current = torch.tensor(suffix.ids[suffix.start : suffix.stop])
    gradient[torch.arange(5), current] = -100.0  # the current token looks best, and a forbidden one
    gradient[:, 2] = -200.0
    config = replace(CONFIG, width=83, top_k=8)
    candidates = propose(gradient, suffix, config, allowed, torch.Generator().manual_seed(1))
    changed = candidates != current
    assert candidates.shape == (83, 5) and (changed.sum(1) == 1).all()
    counts = changed.sum(0)
    assert counts.max() - counts.min() <= 1  # spread evenly over the positions
    for row, where in zip(candidates, changed, strict=True):
        p = int(where.nonzero())
        token = int(row[p])
        better = allowed & (torch.arange(SIZE) != current[p]) & (gradient[p] < gradient[p, token])
        assert allowed[token] and better.sum() < 8  # among the top_k most negative
    assert not gradient.isinf().any()  # not changed in place
    few = propose(gradient, suffix, replace(CONFIG, width=3), allowed, torch.Generator().manual_seed(1))
    assert (few != current).sum() == 3 and ((few != current).sum(0) <= 1).all()


def test_more_top_k_than_allowed_tokens(suffix):
    only = torch.zeros(SIZE, dtype=torch.bool)
    only[[suffix.ids[suffix.start], 50, 51]] = True
    gradient = torch.randn(5, SIZE, generator=torch.Generator().manual_seed(0))
    candidates = propose(gradient, suffix, CONFIG, only, torch.Generator().manual_seed(1))
    assert set(candidates.flatten().tolist()) == {suffix.ids[suffix.start], 50, 51}


@pytest.mark.parametrize("kind", ["bytes", "merging", "pieces"])
def test_survivors_are_those_that_retokenise_to_themselves(kind):
    """Brute force: render the conversation with the candidate's text as a user would send it, compare all ids."""
    tokenizer = make_tokenizer(kind)
    chat = ChatFormat(tokenizer)
    request = "List 123 567"
    config = replace(CONFIG, width=150, top_k=200, init="#" if kind == "merging" else " !")
    start = initial_suffix(chat, request, TARGET, config.init, config.suffix_length)
    allowed = allowed_tokens(tokenizer, SIZE)
    generator = torch.Generator().manual_seed(2)
    gradient = torch.randn(5, SIZE, generator=generator)
    candidates = propose(gradient, start, config, allowed, generator)
    (texts,) = surviving(chat, [start], [candidates.tolist()])
    survivors = 0
    for row, text in zip(candidates.tolist(), texts, strict=True):
        ids = start.ids[: start.start] + tuple(row) + start.ids[start.stop :]
        if text is not None:
            survivors += 1
            assert place(chat, request, TARGET, text).ids == ids
            # What is trained on and asked later: the same prompt tokens, without and with another answer.
            assert chat.render(request + text).ids == ids[: start.target_start]
            assert chat.render(request + text, "Sorry").ids[: start.target_start] == ids[: start.target_start]
            assert ids.count(tokenizer.bos_token_id) == start.ids.count(tokenizer.bos_token_id)
        else:  # rejected for a reason: the text of these very tokens gives others
            whole = tokenizer.decode(list(ids[start.start - 1 : start.stop]), skip_special_tokens=False)
            head = tokenizer.decode([ids[start.start - 1]], skip_special_tokens=False)
            rendered = chat.render(request + whole[len(head) :], TARGET).ids
            assert rendered[: len(ids)] != ids or len(rendered) > len(ids) + 1
    assert survivors > 30 and (survivors < 150 or kind == "pieces")


def test_attack_on_a_sentencepiece_tokenizer(llama64):
    """Decoding a slice of such tokens drops its leading space; the attack must not lose all candidates to that."""
    tokenizer = make_tokenizer("pieces", template=None)
    chat = ChatFormat(tokenizer)
    start = initial_suffix(chat, REQUEST, TARGET, CONFIG.init, CONFIG.suffix_length)
    result = attack(Runner(llama64), chat, start, CONFIG, allowed_tokens(tokenizer, SIZE), seed=0)
    assert result.scored > 40 and result.suffix.loss < result.losses[0]
    assert result.suffix.ids.count(tokenizer.bos_token_id) == 1 and result.suffix.ids[0] == tokenizer.bos_token_id
    assert place(chat, REQUEST, TARGET, result.suffix.text).ids == result.suffix.ids


def test_attack_lowers_the_loss_and_keeps_the_best(llama64, chat, suffix, allowed, tokenizer):
    runner, seen = Runner(llama64), []
    result = attack(runner, chat, suffix, replace(CONFIG, steps=8), allowed, 3, lambda *line: seen.append(line))
    assert all(b <= a for a, b in zip(result.losses, result.losses[1:], strict=False))
    assert result.losses[-1] < result.losses[0] - 0.3 and result.stopped == "steps"
    assert seen == list(zip(range(1, 9), result.losses[1:], strict=True))
    assert result.scored + result.rejected == 8 * 24 and result.tokens > 0
    best = result.suffix
    assert place(chat, REQUEST, TARGET, best.text).ids == best.ids  # still what its text says
    assert (best.start, best.stop, best.target_start) == (suffix.start, suffix.stop, suffix.target_start)
    with torch.no_grad():
        want = float(plain_loss(llama64, best.ids, best.target_start))
        assert result.losses[0] == pytest.approx(float(plain_loss(llama64, suffix.ids, suffix.target_start)), abs=1e-5)
    assert best.loss == pytest.approx(want, abs=1e-5)
    assert uncached_loss(runner, best) == pytest.approx(want, abs=1e-5)
    assert best.ids.count(tokenizer.bos_token_id) == chat.render(REQUEST).ids.count(tokenizer.bos_token_id)


def test_candidate_losses_equal_the_plain_forward(llama64, chat, suffix, allowed):
    runner = Runner(llama64)
    gradient = torch.randn(5, SIZE, generator=torch.Generator().manual_seed(0))
    candidates = propose(gradient, suffix, CONFIG, allowed, torch.Generator().manual_seed(1))
    (current,) = look(runner, [suffix], [prefix(runner, suffix)], BatchSize(4), None)
    (scored,) = score(runner, [current], [candidates], BatchSize(7), None)
    got = scored.losses
    assert got.shape == (24,)
    for row, loss in zip(candidates.tolist(), got, strict=True):
        ids = suffix.ids[: suffix.start] + tuple(row) + suffix.ids[suffix.stop :]
        with torch.no_grad():
            assert float(loss) == pytest.approx(float(plain_loss(llama64, ids, suffix.target_start)), abs=1e-5)


def test_seeds(llama, chat, suffix, allowed):
    runner = Runner(llama)
    first, again, other = (attack(runner, chat, suffix, CONFIG, allowed, seed) for seed in (1, 1, 2))
    assert first.suffix == again.suffix and first.losses == again.losses
    assert first.losses[1:] != other.losses[1:]
    torch.manual_seed(99)  # the global stream plays no part, nor does the size of a batch in what is proposed
    assert attack(runner, chat, suffix, replace(CONFIG, batch_size=3), allowed, 1).suffix.ids == first.suffix.ids


def test_stuck_when_no_candidate_survives(llama, chat, suffix, monkeypatch, allowed):
    monkeypatch.setattr(gcg, "surviving", lambda chat, suffixes, candidates: [[None] * len(c) for c in candidates])
    result = attack(Runner(llama), chat, suffix, CONFIG, allowed, 1)
    assert result.stopped == "stuck" and result.scored == 0 and result.rejected == 4 * 24
    assert result.suffix.ids == suffix.ids and result.suffix.text == suffix.text and len(set(result.losses)) == 1


def test_stop_loss(llama64, chat, suffix, allowed):
    runner = Runner(llama64)
    free = attack(runner, chat, suffix, replace(CONFIG, steps=6), allowed, 3)
    assert free.losses[2] < free.losses[1]
    bar = (free.losses[1] + free.losses[2]) / 2
    result = attack(runner, chat, suffix, replace(CONFIG, steps=6, stop_loss=bar), allowed, 3)
    assert result.stopped == "loss" and result.losses == free.losses[:3]
    last = attack(runner, chat, suffix, replace(CONFIG, steps=2, stop_loss=bar), allowed, 3)
    assert last.stopped == "loss"  # also when the last step reaches it
    none = attack(runner, chat, suffix, replace(CONFIG, stop_loss=1e9), allowed, 3)
    assert none.stopped == "loss" and none.losses == [free.losses[0]] and none.scored == 0


def test_no_steps(llama, chat, suffix, allowed):
    result = attack(Runner(llama), chat, suffix, replace(CONFIG, steps=0), allowed, 1)
    assert result.losses == [result.suffix.loss] and result.suffix.ids == suffix.ids and result.stopped == "steps"
