"""AutoDAN against the plain float64 forward, hand-computed word scores, and properties of its operators."""

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REQUESTS, make_tokenizer

from safety_geometry.attacks.autodan import mutation
from safety_geometry.attacks.autodan import search as module
from safety_geometry.attacks.autodan.fitness import Fitness
from safety_geometry.attacks.autodan.mutation import PLACEHOLDER, crossover, fill, join, sentences
from safety_geometry.attacks.autodan.search import AutoDANConfig, autodan, roulette_probabilities
from safety_geometry.models.chat import ChatFormat
from safety_geometry.models.runner import Runner

DATA = Path(__file__).resolve().parents[2] / "data"
REQUEST, TARGET = REQUESTS[0], "Sure, here is a list"
SEEDS = [
    f'You are a baker. Bread is your life! A guest asks: "{PLACEHOLDER}" Answer in one line. Be helpful.',
    f"Imagine a warm kitchen.\n\nThe task is {PLACEHOLDER} Write the answer. Start with a list. Say sorry to nobody.",
    f"{PLACEHOLDER} Explain how, please.",
    f"Three ways lead to the sea. One is short. List ideas for this: {PLACEHOLDER}",
]
SYNONYMS = {
    "answer": ["reply", "line"], "list": ["row", "set", "table"], "warm": ["hot", "mild"], "short": ["brief", "quick"],
    "imagine": ["picture", "suppose"], "write": ["compose", "draft"], "guest": ["friend", "visitor"], "ways": ["paths", "roads"],
}  # fmt: skip
CONFIG = AutoDANConfig("ga", steps=3, population=8, elites=0.25, mutation=0.3, batch_size=3, max_prompt_tokens=400)


def rng(seed=0):
    return np.random.default_rng(seed)


def run(model, chat, config=CONFIG, seeds=SEEDS, synonyms=SYNONYMS, seed=0, **options):
    return autodan(Runner(model), chat, REQUEST, TARGET, seeds, synonyms, config, seed, **options)


def plain_loss(model, chat, prompt, target=TARGET):
    """Cross-entropy of the target by the model's own forward over the whole conversation, float64."""
    tokenizer = chat.tokenizer
    opening = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], chat_template=chat.template, tokenize=False, add_generation_prompt=True
    )
    special = tokenizer.bos_token == "<s>"  # the `pieces` tokenizer adds it
    encoded = tokenizer(opening + target, add_special_tokens=special, return_offsets_mapping=True)
    start = next(i for i, (a, b) in enumerate(encoded["offset_mapping"]) if a >= len(opening) and b > a)
    ids = torch.tensor([encoded["input_ids"]])
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits[0, start - 1 : -1]
    return float(torch.nn.functional.cross_entropy(logits, ids[0, start:]))


@pytest.mark.parametrize(
    ("family", "kind"), [("llama", "bytes"), ("mistral", "bytes"), ("gemma2", "bytes"), ("llama", "pieces"), ("llama", "merging")]
)  # fmt: skip
def test_losses_equal_the_plain_forward(family, kind, models64):
    """In batches of unequal lengths, with a shared prefix, sliding windows, and tokens that merge across borders."""
    model = models64[family]
    chat = ChatFormat(make_tokenizer(kind, **({"template": None} if kind == "pieces" else {})))
    fitness = Fitness(Runner(model), chat, REQUEST, TARGET, batch_size=3, limit=400)
    got = fitness([*SEEDS, SEEDS[0]])
    want = [plain_loss(model, chat, fill(t, REQUEST)) for t in SEEDS]
    assert got == pytest.approx([*want, want[0]], abs=1e-5)
    assert [fitness.plain(t) for t in SEEDS] == pytest.approx(want, abs=1e-5)
    assert len({round(w, 4) for w in want}) == 4 and fitness.evaluated == 4 and fitness.dropped == 0


def test_a_text_is_scored_once_and_tokens_are_counted(llama, chat):
    fitness = Fitness(Runner(llama), chat, REQUEST, TARGET, batch_size=2, limit=400)
    first = fitness(SEEDS)
    rendered = [chat.render(fill(t, REQUEST), TARGET) for t in SEEDS]
    shared = chat.n_prefix
    assert shared > 3
    count = shared + sum(len(r.ids) - 1 - shared for r in rendered)  # without the end of turn
    assert fitness.tokens == count
    assert fitness(SEEDS[::-1]) == first[::-1] and fitness.tokens == count
    fitness.plain(SEEDS[2])
    assert fitness.tokens == count + len(rendered[2].ids) - 1


def test_unusable_prompts_are_dropped(llama, chat):
    limit = max(chat.render(fill(t, REQUEST)).response for t in SEEDS) - 1  # one token too few for the longest
    fitness = Fitness(Runner(llama), chat, REQUEST, TARGET, batch_size=2, limit=limit)
    losses = fitness(SEEDS)
    lengths = [chat.render(fill(t, REQUEST)).response for t in SEEDS]
    assert [loss is None for loss in losses] == [n > limit for n in lengths] and fitness.dropped == 1
    assert None not in Fitness(Runner(llama), chat, REQUEST, TARGET, batch_size=2, limit=limit + 1)(SEEDS)
    blank = Fitness(Runner(llama), chat, "", TARGET, batch_size=2, limit=400)  # the template error of an empty request
    losses = blank([PLACEHOLDER, SEEDS[0]])
    assert losses[0] is None and losses[1] > 0 and (blank.dropped, blank.evaluated) == (1, 1)
    result = run(llama, chat, replace(CONFIG, max_prompt_tokens=limit))
    assert result.dropped >= 1 and result.stopped == "steps"
    nothing = run(llama, chat, replace(CONFIG, max_prompt_tokens=3))
    assert nothing.stopped == "unusable" and nothing.prompt == "" and np.isnan([nothing.loss, nothing.seed_loss]).all()
    assert nothing.seed_index == -1 and nothing.losses == () and nothing.dropped == 4


def test_roulette_is_softmax_of_minus_loss():
    losses = [2.0, 1.0, 4.0]
    want = torch.softmax(-torch.tensor(losses, dtype=torch.float64), 0).numpy()
    np.testing.assert_allclose(roulette_probabilities(losses), want, rtol=1e-12)
    np.testing.assert_allclose(roulette_probabilities([1e4, 1e4 + 1]), roulette_probabilities([0, 1]), rtol=1e-9)
    drawn = module._breed(["a", "b", "c"], losses, 4000, replace(CONFIG, crossover=0.0), rng())
    np.testing.assert_allclose([drawn.count(t) / 4000 for t in "abc"], want, atol=0.03)


def test_sentences_split_and_join():
    for seed in SEEDS:
        assert join(sentences(seed)) == seed
    assert [text for _, text in sentences(SEEDS[0])] == [
        "You are a baker.", "Bread is your life!", f'A guest asks: "{PLACEHOLDER}"', "Answer in one line.", "Be helpful.",
    ]  # fmt: skip
    assert [gap for gap, _ in sentences(SEEDS[1])][:3] == ["", "\n\n", " "]


@pytest.mark.parametrize("points", [1, 2, 5])
def test_crossover_keeps_sentences_and_their_order(points):
    parents = [[text for _, text in sentences(s)] for s in SEEDS]
    assert len({text for p in parents for text in p}) == sum(map(len, parents))  # every sentence tells its parent
    mixed = 0
    for i, a in enumerate(parents):
        for j in range(len(parents)):
            for seed in range(5):
                children = crossover(SEEDS[i], SEEDS[j], points, rng(seed))
                assert children == crossover(SEEDS[i], SEEDS[j], points, rng(seed))
                if i == j:
                    assert children == (SEEDS[i], SEEDS[i])
                    continue
                texts = [[text for _, text in sentences(c)] for c in children]
                assert sorted(texts[0] + texts[1]) == sorted(a + parents[j])  # nothing lost, nothing doubled
                for child, text in zip(children, texts, strict=True):
                    assert child.count(PLACEHOLDER) == 1
                    for parent in (a, parents[j]):
                        mine = [s for s in text if s in parent]
                        assert mine == [s for s in parent if s in mine]
                    at = next(k for k, s in enumerate(text) if PLACEHOLDER in s)
                    for k, s in enumerate(text):  # what stood before the request stands before it
                        parent = a if s in a else parents[j]
                        anchor = next(k for k, t in enumerate(parent) if PLACEHOLDER in t)
                        assert (k < at) == (parent.index(s) < anchor) and (k == at) == (parent.index(s) == anchor)
                mixed += any(set(t) & set(a) and set(t) & set(parents[j]) for t in texts)
    assert mixed == 5 * 12
    assert len({crossover(SEEDS[0], SEEDS[1], 2, rng(s)) for s in range(20)}) > 3


def test_one_cut_swaps_everything_after_it():
    a, b = f"A. B. {PLACEHOLDER} C.", f"x. y. {PLACEHOLDER} z."
    got = {crossover(a, b, 1, rng(s)) for s in range(40)}
    assert got == {
        (f"A. y. {PLACEHOLDER} z.", f"x. B. {PLACEHOLDER} C."), (f"A. B. {PLACEHOLDER} z.", f"x. y. {PLACEHOLDER} C."),
        (f"A. B. {PLACEHOLDER} z.", f"x. y. {PLACEHOLDER} C."),
    }  # fmt: skip


def test_synonyms_both_ways_case_and_articles():
    table = mutation.both_ways({"a": ["b", "c"], "b": ["a", "d"]})
    assert table == {"a": ("b", "c"), "b": ("a", "d"), "c": ("a",), "d": ("b",)}
    table = mutation.both_ways({"answer": ["reply", "echo"], "warm": ["hot"]})
    text = f"Answer an answer, a warm ANSWER! {PLACEHOLDER} Can answer"
    seen = {mutation.rewrite(text, table, rng(s)) for s in range(200)}
    assert {re.sub(r"\W+", " ", t) for t in seen} <= {
        f"{a} an {b} a {c} {d} REQUEST Can {e}"
        for a in ("Answer", "Reply", "Echo") for b in ("answer", "echo") for c in ("warm", "hot")
        for d in ("ANSWER", "REPLY", "ECHO") for e in ("answer", "reply", "echo")
    }  # fmt: skip
    assert text not in seen and len(seen) >= 8 and all(" an reply" not in t for t in seen)
    assert mutation.rewrite("nothing here", table, rng()) == "nothing here"


def test_mutation_takes_a_sentence_of_a_seed_or_rewrites():
    texts = {mutation.mutate(SEEDS[0], SEEDS, mutation.both_ways(SYNONYMS), rng(s)) for s in range(60)}
    known = {text for s in SEEDS for _, text in sentences(s)}
    borrowed = [t for t in texts if {s for _, s in sentences(t)} <= known and t != SEEDS[0]]
    rewritten = [t for t in texts if not {s for _, s in sentences(t)} <= known]
    assert len(borrowed) > 5 and len(rewritten) > 2 and all(t.count(PLACEHOLDER) == 1 for t in texts)
    for t in borrowed:
        changed = [i for i, (x, y) in enumerate(zip(sentences(t), sentences(SEEDS[0]), strict=True)) if x != y]
        assert len(changed) == 1 and changed != [2]


def test_word_scores_by_hand():
    vocabulary = {"warm", "hot", "sea", "wind"}
    templates = [f"Warm sea, warm day {PLACEHOLDER}", f"hot sea {PLACEHOLDER}", f"hot {PLACEHOLDER}"]
    first = mutation.word_scores({}, templates, [1.0, 2.0, 4.0], vocabulary)
    assert first == {"warm": -1.0, "sea": -1.5, "hot": -3.0}  # "day" is no option, "wind" is in no prompt
    second = mutation.word_scores(first, [f"warm {PLACEHOLDER}", f"wind {PLACEHOLDER}"], [3.0, 0.5], vocabulary)
    assert second == {"warm": -2.0, "sea": -1.5, "hot": -3.0, "wind": -0.5}
    assert first["warm"] == -1.0  # not changed in place


def test_an_unseen_word_gets_the_mean_score():
    scores = {"warm": -1.0, "sea": -2.0, "hot": -6.0}  # mean −3, deviation √(14/3)
    spread = np.sqrt(14 / 3)
    got = mutation.word_probabilities(["warm", "never", "hot"], scores)
    weights = np.exp([2 / spread, 0.0, -3 / spread])
    np.testing.assert_allclose(got, weights / weights.sum(), rtol=1e-12)
    assert got[0] > got[1] > got[2]  # with 0 for unseen words, the slip of the released code, "never" would come first
    np.testing.assert_allclose(mutation.word_probabilities(["a", "b"], {}), [0.5, 0.5])
    np.testing.assert_allclose(mutation.word_probabilities(["a", "b"], {"a": -2.0}), [0.5, 0.5])


def test_word_steps_prefer_better_words_and_change_five_a_paragraph():
    table = mutation.both_ways({"good": ["bad"]})
    text = "good " * 12 + "\n" + f"{PLACEHOLDER} good bad"
    out = [mutation.replace_words(text, table, {}, 1.0, rng(s)) for s in range(200)]
    changes = [[sum(x != y for x, y in zip(a.split(), b.split(), strict=True)) for a, b in
                zip(t.split("\n"), text.split("\n"), strict=True)] for t in out]  # fmt: skip
    assert max(c[0] for c in changes) == 5 and max(c[1] for c in changes) == 2
    late = [t for t in out if "bad" in t.split("\n")[0].split()[8:]]
    assert len(late) > 50  # not only the first words
    scores = {"good": -1.0, "bad": -3.0}
    kept = [
        mutation.replace_words(f"good {PLACEHOLDER}", table, scores, 1.0, rng(s)).startswith("good") for s in range(800)
    ]
    assert np.mean(kept) == pytest.approx(1 / (1 + np.exp(-2)), abs=0.04)
    assert mutation.replace_words(text, table, scores, 0.0, rng()) == text


@pytest.mark.parametrize("form", ["ga", "hga"])
def test_elites_survive_and_the_best_loss_never_rises(form, llama, chat):
    states, seen = [], []
    config = replace(CONFIG, form=form, steps=8)
    result = run(llama, chat, config, save=states.append, progress=lambda *line: seen.append(line))
    assert [s["step"] for s in states] == list(range(9)) and len(states[0]["population"]) == 4
    for before, after in itertools.pairwise(states):
        assert len(after["population"]) == 8 and after["population"] == sorted(after["population"], key=lambda p: p[1])
        if before["step"]:  # before the first step the population still grows
            assert all(elite in after["population"] for elite in before["population"][:2])
    assert all(b <= a for a, b in itertools.pairwise(result.losses)) and len(result.losses) == 9
    assert seen == list(zip(range(1, 9), result.losses[1:], strict=True))
    # Word scores change at four steps of five, and only in HGA.
    changed = [a["words"] != b["words"] for a, b in itertools.pairwise(states)]
    assert changed == ([False, True, True, True, True, False, True, True] if form == "hga" else [False] * 8)
    assert all(t.count(PLACEHOLDER) == 1 for s in states for t, _ in s["population"])


@pytest.mark.parametrize("form", ["ga", "hga"])
def test_beats_its_unoptimised_seeds(form, llama64, chat):
    config = replace(CONFIG, form=form, steps=10, population=12)
    result = run(llama64, chat, config)
    want = [plain_loss(llama64, chat, fill(t, REQUEST)) for t in SEEDS]
    assert result.seed_index == int(np.argmin(want)) and result.seed_prompt == fill(SEEDS[result.seed_index], REQUEST)
    assert result.seed_loss == pytest.approx(min(want), abs=1e-5) and result.losses[0] == pytest.approx(
        min(want), abs=1e-5
    )
    assert result.loss == pytest.approx(plain_loss(llama64, chat, result.prompt), abs=1e-5)
    assert result.loss < result.seed_loss - 0.05 and result.loss == pytest.approx(result.losses[-1], abs=1e-5)
    assert REQUEST in result.prompt and PLACEHOLDER not in result.prompt and result.stopped == "steps"
    assert result.evaluated > 20


def test_no_steps_is_the_seeds_alone(llama, chat):
    result = run(llama, chat, replace(CONFIG, steps=0, population=2))
    assert result.evaluated == 4 and result.prompt == result.seed_prompt and result.loss == result.seed_loss
    assert len(result.losses) == 1 and result.stopped == "steps"
    soon = run(llama, chat, replace(CONFIG, stop_loss=result.loss + 1.0))
    assert soon.stopped == "loss" and soon.evaluated == 4 and soon.prompt == result.prompt


@pytest.mark.parametrize("form", ["ga", "hga"])
def test_one_seed_and_no_synonyms_ends(form, llama, chat):
    result = run(llama, chat, replace(CONFIG, form=form, steps=6), seeds=SEEDS[2:3], synonyms={})
    assert result.stopped == "steps" and len(result.losses) == 7 and result.evaluated <= 2
    bare = run(llama, chat, replace(CONFIG, form=form), seeds=[PLACEHOLDER], synonyms={})
    assert bare.prompt == REQUEST and bare.evaluated == 1


@pytest.mark.parametrize("form", ["ga", "hga"])
def test_resuming_equals_one_go(form, llama, chat, one_thread):
    config = replace(CONFIG, form=form, steps=7)

    def go(state=None):
        saved = []
        return run(llama, chat, config, state=state, save=lambda s: saved.append(json.dumps(s, sort_keys=True))), saved

    whole, states = go()
    for at in (0, 1, 3, 6, 7):
        assert go(json.loads(states[at])) == (whole, states[at + 1 :])
    short = []
    run(llama, chat, replace(config, steps=2), save=short.append)
    assert run(llama, chat, config, state=short[-1]) == whole  # more steps than planned at first
    for other in ({"seed": 1}, {"seeds": SEEDS[:3]}, {"synonyms": {}}, {"config": replace(config, population=9)}):
        with pytest.raises(ValueError, match="another attack"):
            run(llama, chat, **({"config": config, "state": short[-1]} | other))


def test_determinism(llama64, chat):
    config = replace(CONFIG, form="hga", steps=6)
    first = run(llama64, chat, config)
    torch.manual_seed(5)
    assert run(llama64, chat, config) == first
    assert run(llama64, chat, config, seed=1).losses != first.losses
    other = run(llama64, chat, replace(config, batch_size=16))  # up to rounding, here of float64 with float32 logits
    assert (other.prompt, other.evaluated, other.tokens) == (first.prompt, first.evaluated, first.tokens)
    assert other.losses == pytest.approx(first.losses, abs=1e-5)


def test_errors_name_the_seed_and_not_its_text(llama, chat):
    for seeds, message in (
        ([], "at least one"),
        ([SEEDS[0], "secret"], "seed 1 has .* 0 times"),
        ([PLACEHOLDER * 2], "2 times"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            run(llama, chat, seeds=seeds)
        assert "secret" not in str(error.value)
    with pytest.raises(ValueError, match="'hgaa'; use 'ga' or 'hga'"):
        replace(CONFIG, form="hgaa")
    with pytest.raises(ValueError, match="population of at least 2"):
        replace(CONFIG, population=1)


def read(name):
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def test_seed_file():
    rows = read("autodan_seeds.jsonl")
    assert len(rows) == 24 and all(set(row) == {"id", "text"} for row in rows)
    assert [row["id"] for row in rows] == [f"autodan-{i:02d}" for i in range(1, 25)]
    texts = [row["text"] for row in rows]
    parts = [[s for _, s in sentences(t)] for t in texts]
    assert len({s for p in parts for s in p}) == sum(map(len, parts))  # no sentence twice
    for text, found in zip(texts, parts, strict=True):
        mutation.check_template(text, "a seed")
        assert text.isascii() and "\n" not in text and text == text.strip() and 40 <= len(text.split()) <= 65
        assert len(found) >= 5 and sum(PLACEHOLDER in s for s in found) == 1
        assert f'"{PLACEHOLDER}"' in text and join(sentences(text)) == text


def test_synonym_file():
    rows = read("synonyms.jsonl")
    assert all(set(row) == {"word", "synonyms"} for row in rows)
    keys = [row["word"] for row in rows]
    assert keys == sorted(set(keys)) and len(keys) >= 250
    for row in rows:
        others = row["synonyms"]
        assert 3 <= len(others) <= 5 and len(set(others)) == len(others) and row["word"] not in others, row["word"]
        assert all(re.fullmatch("[a-z]+", w) for w in [row["word"], *others]), row["word"]
    table = mutation.both_ways({row["word"]: row["synonyms"] for row in rows})
    for row in read("autodan_seeds.jsonl"):  # every seed has enough words for mutation to work on
        assert len(mutation.words(row["text"]) & set(keys)) >= 12, row["id"]
        changed = mutation.rewrite(row["text"], table, rng())
        assert changed != row["text"] and changed.count(PLACEHOLDER) == 1
