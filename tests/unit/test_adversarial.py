"""R2D2's pool and rows: draws, resets, state, and what frozen and refreshed pools have in common."""

import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from conftest import VOCABULARY

from safety_geometry.attacks.gcg.losses import uncached_loss
from safety_geometry.attacks.gcg.search import GCGConfig, attack
from safety_geometry.attacks.gcg.suffix import allowed_tokens, place
from safety_geometry.models.runner import Runner
from safety_geometry.stats.seeds import derived_seed
from safety_geometry.training.pool import Pool, PoolCase, PoolConfig, adversarial_rows, clean_rows

ROOT = Path(__file__).resolve().parents[2]
GCG = GCGConfig(steps=1, width=6, top_k=30, suffix_length=4, batch_size=6)
CONFIG = PoolConfig(size=6, per_step=2, reset_every=4, reset_share=0.34, refresh=True)
BEHAVIOURS = [
    {"id": f"b{i}", "prompt": f"Write a poem about {i} kitchens", "target": f"Sure, here is poem {i}"}
    for i in range(12)
]


@pytest.fixture(scope="module")
def allowed(tokenizer):
    return allowed_tokens(tokenizer, VOCABULARY + 40)


def make(chat, seed=1, **changes) -> Pool:
    return Pool(replace(CONFIG, **changes), GCG, BEHAVIOURS, chat, seed)


def test_seeds_of_any_parts():
    seeds = [derived_seed(s, step, slot) for s in range(3) for step in range(40) for slot in range(20)]
    assert len(set(seeds)) == len(seeds) and all(0 <= s < 2**63 for s in seeds)
    assert derived_seed(1, 23) != derived_seed(12, 3) and derived_seed("a", 1) == derived_seed("a", 1)


def test_start(chat):
    pool = make(chat)
    assert [c.slot for c in pool.cases] == list(range(6))
    assert len({c.behaviour for c in pool.cases}) == 6 and {c.text for c in pool.cases} == {" !" * 4}
    assert {c.born for c in pool.cases} == {0} and {c.updates for c in pool.cases} == {0}
    assert [c.behaviour for c in make(chat).cases] == [c.behaviour for c in pool.cases]
    assert [c.behaviour for c in make(chat, 2).cases] != [c.behaviour for c in pool.cases]
    with pytest.raises(ValueError, match="train pool has no behaviour"):
        Pool(CONFIG, GCG, [], chat, 1)


def test_a_random_start_is_each_cases_own_and_of_its_seed(chat):
    pool, same, other = (Pool(CONFIG, replace(GCG, init="random"), BEHAVIOURS, chat, seed) for seed in (1, 1, 2))
    texts = [case.text for case in pool.cases]
    assert len(set(texts)) == 6 and texts == [case.text for case in same.cases] != [case.text for case in other.cases]
    pool.reset(CONFIG.reset_every)
    fresh = [case for case in pool.cases if case.born]
    assert fresh and not {case.text for case in fresh} & set(texts)  # a slot starts anew with another one


@pytest.mark.parametrize("options", [{"echo": 3}, {"merge": 3}, {"echo": 3, "merge": 3, "init": "random"}])
def test_the_pool_takes_what_a_search_takes(chat, llama, allowed, options):
    """Losses never rise from visit to visit, and a saved pool goes on as it was."""
    pool, state = Pool(CONFIG, replace(GCG, **options), BEHAVIOURS, chat, 1), None
    before = {}
    for step in range(4):
        taken = pool.step(step, Runner(llama), allowed)
        for case in (pool.cases[slot] for slot in pool.draw(step)):
            assert case.loss <= before.get((case.slot, case.born), case.first_loss) + 1e-6
            before[case.slot, case.born] = case.loss
        assert taken.log["pool_after"] <= taken.log["pool_before"]
        state = pool.state() if step == 2 else state
    again = Pool(CONFIG, replace(GCG, **options), BEHAVIOURS, chat, 1)
    again.restore(json.loads(json.dumps(state)))
    again.step(3, Runner(llama), allowed)
    assert again.state() == pool.state()


def test_fewer_behaviours_than_slots_serve_several_each(chat):
    counts = Counter(case.behaviour for case in make(chat, size=30).cases)
    assert sorted(counts) == list(range(12)) and set(counts.values()) == {2, 3}


@pytest.mark.parametrize(("size", "per_step"), [(6, 2), (6, 3), (5, 5), (4, 1)])
def test_each_pass_visits_each_slot_once(chat, size, per_step):
    pool = make(chat, size=size, per_step=per_step)
    drawn = [slot for step in range(3 * size // per_step) for slot in pool.draw(step)]
    passes = [drawn[i : i + size] for i in range(0, 3 * size, size)]
    assert all(sorted(p) == list(range(size)) for p in passes)
    assert len({tuple(p) for p in passes}) > 1  # in an order drawn for each pass
    assert pool.draw(1) == drawn[per_step : 2 * per_step]  # a function of the step alone


def test_a_step_across_two_passes_never_holds_a_slot_twice(chat):
    pool = make(chat, size=5, per_step=3)
    for step in range(50):
        slots = pool.draw(step)
        assert len(set(slots)) == len(slots) and slots
    counts = Counter(slot for step in range(50) for slot in pool.draw(step))
    assert max(counts.values()) - min(counts.values()) <= 8


def test_resets(chat):
    pool = make(chat)
    assert pool.reset(0) == 0 and {c.born for c in pool.cases} == {0}
    assert [pool.reset(step) for step in (1, 2, 3)] == [0, 0, 0]
    before = list(pool.cases)
    pool.cases[0] = replace(pool.cases[0], text=" x x x x", updates=3, first_loss=2.0, loss=1.0)
    assert pool.reset(4) == 2  # ⌊0.34 · 6⌋
    fresh = [c for c in pool.cases if c.born == 4]
    assert [c.slot for c in fresh] == [0, 1]  # the oldest
    assert all(c.text == " !" * 4 and c.updates == 0 and c.first_loss is None and c.loss is None for c in fresh)
    assert not {c.behaviour for c in fresh} & {c.behaviour for c in before}
    assert pool.cases[2:] == before[2:]
    assert pool.reset(8) == 2 and [c.born for c in pool.cases] == [4, 4, 8, 8, 0, 0]
    assert len({c.behaviour for c in pool.cases}) == 6
    assert make(chat, reset_share=0.0).reset(4) == 0


def test_a_reset_with_few_spare_behaviours(chat):
    """Those that no slot has come first; then the leaving slots' own are dealt out anew, with fresh suffixes."""
    pool = make(chat, size=12)
    pool.cases = [replace(case, text=" x x x x", updates=2) for case in pool.cases]
    before = [case.behaviour for case in pool.cases]
    assert pool.reset(4) == 4  # ⌊0.34 · 12⌋
    assert {c.text for c in pool.cases[:4]} == {" !" * 4} and {c.updates for c in pool.cases[:4]} == {0}
    assert sorted(c.behaviour for c in pool.cases[:4]) == sorted(before[:4])
    assert [c.behaviour for c in pool.cases[4:]] == before[4:]
    pool = make(chat, size=11, reset_share=1.0)
    spare = set(range(12)) - {case.behaviour for case in pool.cases}
    assert pool.reset(4) == 11 and {pool.cases[0].behaviour} == spare


@pytest.mark.parametrize("seed", [42, *range(20)])
def test_how_often_the_cases_of_the_default_study_are_attacked(chat, seed):
    """docs/protocol.md: resets replace four of the twelve first cases, which then have had fewer than five updates."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    settings = {key: value for key, value in config["pool"].items() if key != "gcg"}
    rows = [row | {"id": f"c{i}"} for i, row in enumerate(BEHAVIOURS * 3)][
        : config["prompts"]["roles"]["train_pool"]["n"]
    ]
    pool = Pool(PoolConfig(**settings, refresh=True), GCGConfig(**config["pool"]["gcg"]), rows, chat, seed)
    drawn, ended = Counter(), Counter()  # draws by slot; updates of every case by (slot, born)
    for step in range(max(config["train"]["saves"])):
        pool.reset(step)
        for slot in pool.draw(step):
            drawn[slot] += 1
            ended[slot, pool.cases[slot].born] += 1
    assert set(drawn.values()) == {5} and len(drawn) == 12
    assert len(ended) == 16 and sum(ended.values()) == 60
    whole = {case: n for case, n in ended.items() if n == 5}
    assert len(whole) == 8 and {born for _, born in whole} == {0}
    assert {n for case, n in ended.items() if case not in whole} <= {1, 2, 3, 4}


def test_the_log_of_a_step_names_its_behaviours_and_counts_updates(chat, llama, allowed):
    """Against a tally of its own: slots 0 and 1 are reset at step 4, slots 2 and 3 at step 8."""
    runner, pool, frozen = Runner(llama), make(chat), make(chat, refresh=False)
    names = {row["prompt"]: row["id"] for row in BEHAVIOURS}
    counts, seen = [0] * 6, set()
    for step in range(10):
        for slot in {4: (0, 1), 8: (2, 3)}.get(step, ()):
            counts[slot] = 0
        for slot in pool.draw(step):
            counts[slot] += 1
        taken, still = pool.step(step, runner, allowed), frozen.step(step, runner, allowed)
        cases = " ".join(names[s.request] for s in taken.suffixes)
        assert cases == taken.log["cases"] == still.log["cases"]
        assert len(taken.suffixes) == 2
        assert (taken.log["updates_min"], taken.log["updates_max"]) == (min(counts), max(counts)), step
        assert (still.log["updates_min"], still.log["updates_max"]) == (0, 0)
        seen.add((min(counts), max(counts)))
    assert len(seen) > 3


def test_dynamic_step(chat, llama, allowed):
    runner, pool = Runner(llama), make(chat)
    slots = pool.draw(0)
    taken = pool.step(0, runner, allowed)
    assert [s.request for s in taken.suffixes] == [BEHAVIOURS[pool.cases[s].behaviour]["prompt"] for s in slots]
    for slot, suffix in zip(slots, taken.suffixes, strict=True):
        case = pool.cases[slot]
        assert case.text == suffix.text and case.updates == 1 and case.loss == suffix.loss <= case.first_loss
        assert uncached_loss(runner, suffix) == pytest.approx(suffix.loss, abs=1e-4)
        assert place(chat, suffix.request, suffix.target, suffix.text).ids == suffix.ids
    assert taken.log["pool_after"] < taken.log["pool_before"] and taken.log["attack_tokens"] > 0
    untouched = [c for c in pool.cases if c.slot not in slots]
    assert all(c.updates == 0 and c.loss is None for c in untouched)


def test_the_random_stream_of_a_case_is_its_own(chat, llama, allowed):
    """What a case is attacked with depends on (seed, step, slot): not on which cases are attacked before it."""
    runner = Runner(llama)
    pool = make(chat, per_step=3)
    slots = pool.draw(0)
    cases = list(pool.cases)
    taken = pool.step(0, runner, allowed)
    for slot, suffix in reversed(list(zip(slots, taken.suffixes, strict=True))):
        row = BEHAVIOURS[cases[slot].behaviour]
        start = place(chat, row["prompt"], row["target"], cases[slot].text)
        alone = attack(runner, chat, start, GCG, allowed, derived_seed(1, 0, slot)).suffix
        assert alone.ids == suffix.ids and alone.loss == pytest.approx(suffix.loss, abs=1e-5)
    # And two cases with the same behaviour are attacked with different candidates.
    row = BEHAVIOURS[0]
    start = place(chat, row["prompt"], row["target"], " !" * 4)
    found = {attack(runner, chat, start, GCG, allowed, derived_seed(1, 0, slot)).suffix.ids for slot in range(6)}
    assert len(found) > 1


def test_state_round_trip(chat, llama, allowed):
    runner, pool = Runner(llama), make(chat)
    for step in range(5):
        pool.step(step, runner, allowed)
    saved = json.loads(json.dumps(pool.state()))
    other = make(chat)
    other.restore(saved)
    assert other.cases == pool.cases and all(isinstance(c, PoolCase) for c in other.cases)
    for step in range(5, 9):
        assert other.step(step, runner, allowed) == pool.step(step, runner, allowed)
    assert other.state() == pool.state() != saved
    with pytest.raises(ValueError, match="6 cases and the config asks for 5"):
        make(chat, size=5).restore(saved)


def test_frozen_differs_from_dynamic_in_the_suffix_text_only(chat, llama, allowed):
    runner = Runner(llama)
    dynamic, frozen = make(chat), make(chat, refresh=False)
    differ = 0
    for step in range(9):
        a, b = dynamic.step(step, runner, allowed), frozen.step(step, runner, allowed)
        assert [(s.request, s.target) for s in a.suffixes] == [(s.request, s.target) for s in b.suffixes]
        assert all(s.text == " !" * 4 for s in b.suffixes)
        differ += any(s.text != " !" * 4 for s in a.suffixes)
        rows_a, rows_b = (adversarial_rows(chat, x.suffixes, CONFIG) for x in (a, b))
        for left, right in zip((*rows_a[0], *rows_a[1]), (*rows_b[0], *rows_b[1]), strict=True):
            assert len(left.ids) == len(right.ids) and left.label_from == right.label_from
            assert left.ids[left.label_from :] == right.ids[right.label_from :]
            assert sum(p != q for p, q in zip(left.ids, right.ids, strict=True)) <= GCG.suffix_length
        assert b.log["pool_before"] == b.log["pool_after"] and b.log["attack_tokens"] == b.log["rejected"] == 0
    assert differ == 9
    assert [(c.behaviour, c.born) for c in dynamic.cases] == [(c.behaviour, c.born) for c in frozen.cases]
    assert {c.updates for c in frozen.cases} == {0}


def test_rows(chat, tokenizer):
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    suffixes = [place(chat, row["prompt"], row["target"], " ! how") for row in BEHAVIOURS[:3]]
    away, toward = adversarial_rows(chat, suffixes, CONFIG)
    assert len(away) == len(toward) == 3
    for a, t, s in zip(away, toward, suffixes, strict=True):
        assert a.ids[: a.label_from] == t.ids[: t.label_from] == chat.render(s.prompt).ids  # the same prompt
        assert tokenizer.decode(list(a.ids[a.label_from :])) == s.target  # no end of turn
        assert tokenizer.decode(list(t.ids[t.label_from :])) == CONFIG.refusal + "<|end|>"
        assert a.ids[-1] != end and t.ids[-1] == end
        assert tokenizer.pad_token_id not in a.ids + t.ids
    _, toward = adversarial_rows(chat, suffixes, replace(CONFIG, plain_toward=True))
    assert [r.ids[: r.label_from] for r in toward[3:]] == [chat.render(s.request).ids for s in suffixes]
    assert len(toward) == 6


def test_clean_rows(chat, tokenizer):
    conversations = [
        {"prompt": "How warm?", "response": "Warm", "hit_limit": False},
        {"prompt": "How warm?", "response": "Warm and", "hit_limit": True},
        {"prompt": "How warm?", "response": "Warm"},
    ]
    done, cut, plain = clean_rows(chat, conversations, 200)
    assert tokenizer.decode(list(done.ids[done.label_from :])) == "Warm<|end|>"
    assert tokenizer.decode(list(cut.ids[cut.label_from :])) == "Warm and"  # a cut answer has no end of turn
    assert plain == done
    short = clean_rows(chat, conversations, done.label_from + 1)
    assert [len(r.ids) for r in short] == [done.label_from + 1] * 3 and short[0].ids == done.ids[: done.label_from + 1]
    assert clean_rows(chat, conversations, done.label_from) == []  # no label would be left
    assert clean_rows(chat, [], 10) == []


def test_clean_rows_that_are_cut_or_left_out_are_counted(chat, caplog):
    short, cut = ({"prompt": "How warm?", "response": text, "hit_limit": False} for text in ("Warm", "Warm " * 60))
    beyond, empty = short | {"prompt": "bread " * 60}, short | {"response": "", "hit_limit": True}
    limit = len(clean_rows(chat, [short], 200)[0].ids) + 2
    assert not caplog.messages
    assert len(clean_rows(chat, [short, cut, beyond, empty, beyond], limit)) == 2
    (said,) = caplog.messages
    assert said.startswith("of 5 clean conversations 2 left out, whose answers begin beyond train.max_length = ")
    assert "1 left out, whose answers have no tokens, 1 cut after train.max_length = " in said


def test_clean_rows_of_several_turns(chat, tokenizer):
    """Labels run from the first answer to the end of the last, whatever stands between."""
    turns = ["Name a colour", "Blue.", " Another? ", "Red, then."]
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]
    first = {"prompt": turns[0], "response": turns[1], "hit_limit": False}
    (short,), (long,) = (clean_rows(chat, [row], 400) for row in (first, first | {"messages": messages}))
    assert long.label_from == short.label_from and long.ids[: len(short.ids)] == short.ids
    text = tokenizer.decode(long.ids[long.label_from :])
    assert text == "Blue.<|end|>\n<|start|>user\nAnother?<|end|>\n<|start|>assistant\nRed, then.<|end|>"
    (cut,) = clean_rows(chat, [first | {"messages": messages}], len(short.ids) + 3)
    assert cut.ids == long.ids[: len(short.ids) + 3]
    two = clean_rows(chat, [first | {"messages": messages[:2]}], 400)
    assert two == [short]


def test_the_pool_loss_falls(chat, llama, allowed):
    """Under GCG, over the passes, on a model that does not change."""
    runner, pool = Runner(llama), make(chat, reset_every=1000, per_step=6)
    losses = [pool.step(step, runner, allowed).log["pool_after"] for step in range(4)]
    assert losses[-1] < losses[0] < 1e9 and all(b <= a + 1e-6 for a, b in itertools.pairwise(losses))
    assert torch.tensor([c.updates for c in pool.cases]).eq(4).all()
    assert all(c.loss < c.first_loss for c in pool.cases)
