"""One suffix for several requests: against single losses and brute force; kept, resumed; and starts drawn by seed."""

import json
from dataclasses import replace

import pytest
import torch
from conftest import REQUESTS, VOCABULARY

from safety_geometry.attacks.gcg import universal
from safety_geometry.attacks.gcg.batches import BatchSize
from safety_geometry.attacks.gcg.config import GCGConfig
from safety_geometry.attacks.gcg.losses import uncached_loss
from safety_geometry.attacks.gcg.numbers import numbers
from safety_geometry.attacks.gcg.scoring import look, prefix
from safety_geometry.attacks.gcg.search import attack
from safety_geometry.attacks.gcg.suffix import (
    RANDOM,
    SuffixError,
    allowed_tokens,
    common_start,
    initial_suffix,
    place,
    surviving,
)
from safety_geometry.attacks.gcg.universal import attack_together
from safety_geometry.attacks.operations import operations
from safety_geometry.models.chat import ChatFormat
from safety_geometry.models.runner import Runner

PAIRS = list(zip(REQUESTS, ["Sure, here is a list", "Sure", "Sure, here is a short poem"], strict=False))
CONFIG = GCGConfig(steps=4, width=20, top_k=40, suffix_length=4, batch_size=9)
SEED = 5

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def allowed(tokenizer):
    return allowed_tokens(tokenizer, VOCABULARY + 40)


@pytest.fixture(scope="module")
def starts(chat):
    return common_start(chat, PAIRS, " !", CONFIG.suffix_length)


def mean_plain(runner, chat, text) -> float:
    """The objective by whole conversations, one at a time."""
    return sum(uncached_loss(runner, place(chat, *pair, text)) for pair in PAIRS) / len(PAIRS)


@pytest.mark.parametrize("options", [{}, {"merge": 3}, {"mellowmax": 2.0}], ids=["plain", "merge", "mellowmax"])
def test_the_loss_is_the_mean_of_the_requests_own(llama64, chat, starts, allowed, options):
    runner = Runner(llama64)
    result = attack_together(runner, chat, starts, replace(CONFIG, **options), allowed, SEED)
    assert len({s.text for s in result.suffixes}) == 1 and [s.request for s in result.suffixes] == [q for q, _ in PAIRS]
    assert result.loss == pytest.approx(mean_plain(runner, chat, result.text), abs=1e-6)
    assert result.losses[-1] == pytest.approx(sum(s.loss for s in result.suffixes) / 3, abs=1e-6)
    if "mellowmax" not in options:
        assert result.losses[-1] == pytest.approx(result.loss, abs=2e-5)
        assert result.losses[0] == pytest.approx(mean_plain(runner, chat, " !" * 4), abs=2e-5)
    for suffix, pair in zip(result.suffixes, PAIRS, strict=True):  # one text, which stands for itself behind each
        assert place(chat, *pair, result.text).ids == suffix.ids


def test_a_step_against_brute_force(llama64, chat, starts, allowed):
    """Every substitution of one token, scored by plain passes: a step that proposes them all finds the best."""
    runner, short = Runner(llama64), [place(chat, *pair, " ! !") for pair in PAIRS]
    allowed = allowed & (allowed.cumsum(0) > int(allowed.sum()) - 25)  # twenty-five of them
    every = int(allowed.sum()) - 1
    config = replace(CONFIG, steps=1, suffix_length=2, top_k=every, width=20 * every)
    candidates = [[t, short[0].tokens[1]] for t in allowed.nonzero()[:, 0].tolist()]
    candidates += [[short[0].tokens[0], t] for t in allowed.nonzero()[:, 0].tolist()]
    behind = surviving(chat, short, [candidates] * 3)
    texts = {texts[0] for texts in zip(*behind, strict=True) if None not in texts}
    best = min(mean_plain(runner, chat, text) for text in texts)
    result = attack_together(runner, chat, short, config, allowed, SEED)
    assert result.losses[1] == pytest.approx(best, abs=2e-5) and result.losses[1] < result.losses[0]


def test_the_gradient_is_that_of_the_mean(llama64, chat, starts):
    """By torch's own gradient through whole conversations, of the sum over the requests, for every token at a place."""
    runner = Runner(llama64)
    looked = look(runner, starts, [prefix(runner, s) for s in starts], BatchSize(8), None)
    gradient = torch.stack([c.gradient for c in looked]).sum(0)
    table, expected = runner.body.embed_tokens.weight.detach(), 0
    for s in starts:
        embedded = runner.embed(torch.tensor([s.ids])).detach().requires_grad_()
        logits = runner.logits(runner.blocks(embedded)[0, s.target_start - 1 : -1])
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(s.ids[s.target_start :]))
        (slope,) = torch.autograd.grad(loss, embedded)
        expected = expected + slope[0, s.start : s.stop] @ table.T
    torch.testing.assert_close(gradient, expected.to(gradient.dtype), atol=1e-5, rtol=1e-4)


def test_the_best_is_kept(llama64, chat, starts, allowed, monkeypatch):
    runner = Runner(llama64)
    result = attack_together(runner, chat, starts, replace(CONFIG, steps=8, width=6), allowed, SEED)
    assert result.losses == sorted(result.losses, reverse=True) and result.losses[-1] < result.losses[0]
    score = universal.score
    monkeypatch.setattr(  # every candidate is worse: nothing moves
        universal, "score", lambda *a: [replace(each, losses=each.losses + 100) for each in score(*a)]
    )
    stays = attack_together(runner, chat, starts, replace(CONFIG, steps=2), allowed, SEED)
    assert stays.text == starts[0].text and len(set(stays.losses)) == 1


def test_of_one_request_it_is_gcg(llama64, chat, starts, allowed):
    runner, config = Runner(llama64), replace(CONFIG, merge=3)
    alone = attack(runner, chat, starts[0], config, allowed, SEED)
    together = attack_together(runner, chat, starts[:1], config, allowed, SEED)
    assert together.text == alone.suffix.text and together.losses == pytest.approx(alone.losses, abs=1e-6)
    assert (together.scored, together.rejected, together.tokens) == (alone.scored, alone.rejected, alone.tokens)


@pytest.mark.parametrize("options", [{}, {"merge": 3}, {"width": 2}], ids=["plain", "merge", "few"])
def test_resumed_equals_one_go(llama, chat, starts, allowed, options):
    config, states = replace(CONFIG, **options), []
    whole = attack_together(Runner(llama), chat, starts, config, allowed, SEED, save=states.append)
    assert len(states) == 4
    for state in states:
        torch.manual_seed(99)
        again = attack_together(Runner(llama), chat, starts, config, allowed, SEED, state=json.loads(json.dumps(state)))
        assert again == whole
    fewer = attack_together(Runner(llama), chat, starts, replace(config, steps=2), allowed, SEED)
    assert fewer.losses == whole.losses[:3]
    for other in ({"seed": 6}, {"config": replace(config, top_k=3)}, {"starts": starts[::-1]}):
        given = {"starts": starts, "config": config, "seed": SEED} | other
        with pytest.raises(ValueError, match="another universal attack"):
            attack_together(
                Runner(llama), chat, given["starts"], given["config"], allowed, given["seed"], state=states[0]
            )


def test_it_ends_at_its_loss_or_where_no_candidate_survives(llama64, chat, starts, allowed, monkeypatch):
    runner = Runner(llama64)
    at_once = attack_together(runner, chat, starts, replace(CONFIG, stop_loss=100.0), allowed, SEED)
    assert at_once.stopped == "loss" and len(at_once.losses) == 1 and at_once.scored == 0
    right = universal.surviving

    def one_fails(chat, suffixes, rows):  # behind one of the requests only
        behind = right(chat, suffixes, rows)
        return [*behind[:-1], [None] * len(behind[-1])]

    monkeypatch.setattr(universal, "surviving", one_fails)
    stuck = attack_together(runner, chat, starts, CONFIG, allowed, SEED)
    assert (stuck.stopped, stuck.scored, stuck.rejected) == ("stuck", 0, CONFIG.steps * CONFIG.width)
    assert stuck.text == starts[0].text


def test_what_it_does_not_do_is_refused(llama64, chat, starts, allowed):
    for options in ({"echo": 2}, {"buffer": 1}, {"probe": {"layers": 1}}, {"momentum": 0.5}):
        with pytest.raises(ValueError, match="has no echo, buffer, probe or momentum"):
            attack_together(Runner(llama64), chat, starts, replace(CONFIG, **options), allowed, SEED)
    other = [starts[0], place(chat, *PAIRS[1], " a ! ! !")]
    for wrong in (other, []):
        with pytest.raises(ValueError, match="one for all requests"):
            attack_together(Runner(llama64), chat, wrong, CONFIG, allowed, SEED)


def test_operations_are_two_a_weight_and_token(llama64, chat, starts, allowed):
    runner = Runner(llama64)
    result = attack_together(runner, chat, starts, CONFIG, allowed, SEED)
    weights = {p.data_ptr(): p.numel() for p in llama64.parameters()}
    row = numbers(runner, CONFIG, starts, result)
    assert row["operations"] == operations(llama64, result.tokens) == 2 * sum(weights.values()) * result.tokens
    assert (row["behaviours"], row["steps"], row["loss_start"]) == (3, 4, result.losses[0])
    # Prefixes, looks at three tokens' work a token, candidates from their first change on, and the last passes.
    looks = CONFIG.steps * 3 * sum(len(s.ids) - 1 - s.start for s in starts)
    least = looks + sum(s.start + len(s.ids) for s in starts)
    longest = sum(len(s.ids) - 1 - s.start for s in starts)
    assert least < result.tokens <= least + result.scored * longest


@pytest.mark.parametrize("kind", ["bytes", "merging", "pieces"])
def test_a_random_start_is_words_of_the_seed(kind):
    from conftest import make_tokenizer

    chat = ChatFormat(make_tokenizer(kind))
    one, two, again = (initial_suffix(chat, REQUESTS[0], "Sure", RANDOM, 6, seed) for seed in (1, 2, 1))
    assert one == again and one.text != two.text and one.text.startswith(" ")
    assert one.stop - one.start == 6 and len(set(one.tokens)) > 1
    behind = common_start(chat, PAIRS, RANDOM, 6, 3)
    assert len({s.text for s in behind}) == 1 and {s.stop - s.start for s in behind} == {6}
    assert place(chat, *PAIRS[2], behind[2].text).ids == behind[2].ids


def test_starts_that_cannot_be_placed(chat, monkeypatch):
    with pytest.raises(SuffixError, match=r"4 × ' poem about' is \d+ tokens"):
        common_start(chat, PAIRS, " poem about", 4)
    monkeypatch.setattr("safety_geometry.attacks.gcg.suffix._words", lambda tokenizer: ())
    with pytest.raises(SuffixError, match="no token that begins a word"):
        common_start(chat, PAIRS, RANDOM, 4)
