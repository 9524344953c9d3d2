"""A tiny model with a known hole: it refuses, unless one certain token stands anywhere in the suffix."""

from dataclasses import replace

import pytest
import torch
from conftest import VOCABULARY, make_model

from safety_geometry.attacks.gcg.search import GCGConfig, attack_many
from safety_geometry.attacks.gcg.suffix import allowed_tokens, initial_suffix, place
from safety_geometry.models.runner import Runner

REQUEST, TARGET, REFUSAL = "Explain the wind", "Sure, here is a list", "Sorry, I can't do that"
SUFFIX, SEEDS = 6, [0, 1, 2, 3]
CONFIG = GCGConfig(steps=2, width=12, top_k=3, suffix_length=SUFFIX, batch_size=64, stop_exact=True)


@pytest.fixture(scope="module")
def hole(chat, tokenizer):
    """(model, trigger, start): trained for a few seconds on random suffixes, half of which hold the trigger."""
    allowed = allowed_tokens(tokenizer, VOCABULARY + 40)
    start = initial_suffix(chat, REQUEST, TARGET, " !", SUFFIX)
    refused = place(chat, REQUEST, REFUSAL, start.text)
    generator = torch.Generator().manual_seed(0)
    pool = allowed.nonzero()[:, 0]
    trigger = pool[torch.randint(len(pool), (1,), generator=generator)]
    pool = pool[pool != trigger]
    model = make_model(layers=2, initializer_range=0.08).requires_grad_(True)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(140):
        loss = 0.0
        for suffix, opens in ((start, True), (refused, False)):
            rows = pool[torch.randint(len(pool), (12, SUFFIX), generator=generator)]
            if step % 3 == 0:
                rows[:] = start.tokens[0]
            if opens:
                rows[torch.arange(12), torch.randint(SUFFIX, (12,), generator=generator)] = trigger
            ids = torch.tensor(suffix.ids).repeat(12, 1)
            ids[:, suffix.start : suffix.stop] = rows
            logits = model(input_ids=ids, use_cache=False).logits[:, suffix.target_start - 1 : -1]
            loss = loss + torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), ids[:, suffix.target_start :].flatten()
            )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.3
    return model.requires_grad_(False), int(trigger), start


def test_gcg_finds_the_hole_and_random_search_does_not(hole, chat, tokenizer):
    model, trigger, start = hole
    runner, allowed = Runner(model), allowed_tokens(tokenizer, VOCABULARY + 40)
    starts = [start] * len(SEEDS)
    found = attack_many(runner, chat, starts, CONFIG, allowed, SEEDS)
    assert [r.stopped for r in found] == ["exact"] * 4 and all(trigger in r.suffix.tokens for r in found)
    assert max(r.loss for r in found) < 0.1 and found[0].losses[0] > 0.5
    # The same search without the gradient's choice of tokens: any allowed one may come, at the same number of candidates.
    blind = attack_many(runner, chat, starts, replace(CONFIG, top_k=10**6), allowed, SEEDS)
    assert all(r.stopped == "steps" and trigger not in r.suffix.tokens for r in blind)
    assert min(r.loss for r in blind) > 2 * max(r.loss for r in found)
    again = attack_many(runner, chat, starts, CONFIG, allowed, SEEDS)
    assert again == found


def test_an_attack_that_never_succeeds_ends_with_a_clear_result(hole, chat, tokenizer):
    """The trigger is forbidden: the budget is used up, the best suffix is still reported with its true loss."""
    model, trigger, start = hole
    allowed = allowed_tokens(tokenizer, VOCABULARY + 40)
    allowed[trigger] = False
    (result,) = attack_many(Runner(model), chat, [start], CONFIG, allowed, [0])
    assert result.stopped == "steps" and len(result.losses) == CONFIG.steps + 1 and result.loss > 0.15
    assert result.scored + result.rejected == CONFIG.steps * CONFIG.width and result.tokens > 0
    assert result.loss == pytest.approx(result.losses[-1], abs=1e-4)
