"""Out of memory halves the batch, says so, and gives the same results: with a runner that takes only so many rows."""

import json
import sys

import clean_rows
import numpy as np
import pytest
import torch
from conftest import REQUESTS
from test_adapters import folder  # noqa: F401  (a fixture)
from test_generation import NEVER, PROMPTS
from test_scoring import directions

from safety_geometry.attacks.autodan.fitness import Fitness
from safety_geometry.causal.readout import clean_prompts, read_kl, read_log_odds
from safety_geometry.geometry.activations import record
from safety_geometry.geometry.candidate_scores import score_candidates
from safety_geometry.judges.passes import last_logits
from safety_geometry.models.generation import generate
from safety_geometry.models.interventions import Intervention
from safety_geometry.models.memory import BatchSize, LessMemory
from safety_geometry.models.runner import Runner


class Small(Runner):
    """A runner whose memory ends when a pass has more than `most` rows; `refused` counts the passes that failed."""

    most, refused = 3, 0

    def blocks(self, h, **options):
        tap = options.get("tap")
        if len(h) > self.most and tap is not None and options.get("start", 0) == 0:
            tap(0, torch.full_like(h, torch.nan))  # what a failed pass shows must not stay
        if len(h) > self.most:
            type(self).refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory (a test)")
        return super().blocks(h, **options)


@pytest.fixture
def small(llama64):
    Small.most, Small.refused = 3, 0
    return Small(llama64)


def test_every_row_once_in_order_and_the_size_is_remembered():
    done, size = [], BatchSize(12, "rows")

    def compute(part):
        if len(part) > 3:
            raise torch.OutOfMemoryError
        done.append(part)

    with pytest.warns(LessMemory, match=r"rows: out of memory with 12 rows in a batch; going on with 6") as told:
        size.run(compute, range(11 + 1))
    assert [row for part in done for row in part] == list(range(12))
    assert [len(part) for part in done] == [3, 3, 3, 3] and (size.asked, size.rows, size.changed) == (12, 3, True)
    assert len(told) == 2
    done.clear()
    size.run(compute, range(4))  # nobody runs out of memory again
    assert done == [[0, 1, 2], [3]]


def test_one_row_that_does_not_fit_is_an_error_that_says_what_to_do():
    def compute(part):
        raise torch.OutOfMemoryError

    with pytest.warns(LessMemory), pytest.raises(torch.OutOfMemoryError) as error:
        BatchSize(2, "answers").run(compute, range(2))
    assert "answers: not even one row fits" in error.value.__notes__[0]


def test_other_errors_are_not_taken_for_want_of_memory():
    with pytest.raises(RuntimeError, match="something else"):
        BatchSize(2, "rows").run(lambda part: (_ for _ in ()).throw(RuntimeError("something else")), range(2))


def test_without_want_of_memory_batches_are_what_they_were():
    done, size = [], BatchSize(4, "rows")
    size.run(done.append, range(10))
    assert done == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]] and not size.changed


class Card:
    """A made-up device: a pass costs `launch` seconds and `token` seconds for each of its tokens, and more than `most`
    rows do not fit. `done` are the rows of the passes that ended, `tried` the sizes of all."""

    def __init__(self, launch: float, token: float, most: int = 10**9):
        self.launch, self.token, self.most, self.now = launch, token, most, 0.0
        self.done, self.tried = [], []

    def compute(self, part):
        self.tried.append(len(part))
        self.now += self.launch + self.token * sum(part)
        if len(part) > self.most:
            raise torch.OutOfMemoryError
        self.done += part

    def size(self, asked: int, **options) -> BatchSize:
        return BatchSize(asked, "rows", grows=True, clock=lambda: self.now, **options)


def test_rows_grow_until_a_pass_brings_no_more_tokens_a_second():
    card = Card(launch=1.0, token=0.001)  # with rows of 10 tokens: 100 rows take as long as starting the pass
    size = card.size(25)
    size.run(card.compute, [10] * 5000, float)
    assert len(card.done) == 5000
    # 25 rows: 200 tokens/s; 50: 333; ... 800: 889; 1600: 941 brings less than a tenth, twice, and 800 stays
    assert card.tried[:8] == [25, 50, 100, 200, 400, 800, 1600, 1600] and set(card.tried[8:]) <= {800, 5000 % 25, 225}
    assert (size.rows, size.grows, size.changed) == (800, False, True)
    size.run(card.compute, [10] * 1600, float)
    assert card.tried[-2:] == [800, 800]  # measured once


def test_rows_grow_until_memory_ends_without_a_word(recwarn):
    card = Card(launch=1.0, token=0.0, most=100)
    size = card.size(16)
    size.run(card.compute, range(1, 1000))
    assert card.done == list(range(1, 1000)) and card.tried[:5] == [16, 32, 64, 128, 64]
    assert size.rows == 64 and max(card.tried[4:]) == 64
    assert not recwarn.list  # 64 is more than was asked for: nothing is lost


def test_growth_that_cannot_go_on_halves_below_what_was_asked_with_a_warning():
    card = Card(launch=1.0, token=0.0, most=10)
    size = card.size(16)
    with pytest.warns(LessMemory, match="going on with 8"):
        size.run(card.compute, range(40))
    assert card.done == list(range(40)) and size.rows == 8


def test_longer_rows_are_not_taken_for_slower_ones_and_a_rest_says_nothing():
    card = Card(launch=1.0, token=0.001)
    size = card.size(10)
    size.run(card.compute, range(10, 70), float)  # sorted by length, as prompts are
    assert card.tried == [10, 20, 30] and size.rows == 80
    size.run(card.compute, [10] * 5, float)
    assert size.rows == 80 and size.grows


def test_what_does_not_grow_never_looks_at_the_clock():
    def clock():
        raise AssertionError

    size, done = BatchSize(4, "rows", clock=clock), []
    size.run(done.append, range(10))
    assert [len(part) for part in done] == [4, 4, 2]


@pytest.mark.parametrize(("used", "rows"), [(3, 3), (8, 8), (32, 32)])
def test_an_earlier_run_is_remembered(used, rows):
    size = BatchSize(8, "rows", grows=True)
    size.recall(used)
    assert size.rows == rows and size.grows == (used <= 8)
    plain = BatchSize(8, "rows")  # growth was switched off since
    plain.recall(used)
    assert plain.rows == min(used, 8)


def test_answers_and_scores_of_grown_batches_are_those_of_small_ones(llama64, chat):
    runner = Runner(llama64)
    want, size = generate(runner, PROMPTS, NEVER, 6, 2, 100), BatchSize(2, "answers", grows=True, clock=ticks())
    assert generate(runner, PROMPTS, NEVER, 6, size, 100) == want and size.rows > 2
    harmful, benign = chat.render_many(REQUESTS[:3]), chat.render_many(REQUESTS[2:])
    vectors = directions(32, (1, 2), (-1, -2))
    want = score_candidates(runner, vectors, harmful, benign, [1, 3], batch_size=3)
    size = BatchSize(3, "candidate scores", grows=True, clock=ticks())
    got = score_candidates(runner, vectors, harmful, benign, [1, 3], batch_size=size)
    assert size.rows > 3
    for name in ("ablate_harmful", "add_benign", "kl", "clean_harmful", "clean_benign"):
        np.testing.assert_allclose(getattr(got, name), getattr(want, name), atol=1e-5, rtol=1e-5)


def ticks():
    """A clock by which every pass takes a second: the more rows, the faster."""
    times = iter(range(10**6))
    return lambda: float(next(times))


def test_activations(small, llama64, chat):
    prompts = chat.render_many(REQUESTS)
    want = record(Runner(llama64), prompts, [-2, -1], 5)
    with pytest.warns(LessMemory, match="activations"):
        got = record(small, prompts, [-2, -1], 5)
    assert Small.refused == 1
    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-6)


def test_answers(small, llama64):
    want = generate(Runner(llama64), PROMPTS, NEVER, 6, 5, 100)
    size = BatchSize(5, "answers")
    with pytest.warns(LessMemory, match="answers"):
        assert generate(small, PROMPTS, NEVER, 6, size, 100) == want
    assert size.rows == 2
    assert generate(small, PROMPTS, NEVER, 6, size, 100) == want and Small.refused == 1


@pytest.mark.parametrize(("most", "where", "left"), [(3, "clean run", 3), (6, "candidate scores", 4)])
def test_candidate_scores(small, llama64, chat, most, where, left):
    Small.most = most
    harmful, benign = chat.render_many(REQUESTS[:3]), chat.render_many(REQUESTS[2:])
    vectors = directions(32, (1, 2), (-1, -2))
    want = score_candidates(Runner(llama64), vectors, harmful, benign, [1, 3], batch_size=8)
    size = BatchSize(8, "candidate scores")
    with pytest.warns(LessMemory) as told:  # the clean run of all prompts is one batch too
        got = score_candidates(small, vectors, harmful, benign, [1, 3], batch_size=size)
    assert {str(w.message).split(":")[0] for w in told} == {where}  # scores start with what the clean run found out
    assert size.rows == left
    for name in ("ablate_harmful", "add_benign", "kl", "clean_harmful", "clean_benign"):
        np.testing.assert_allclose(getattr(got, name), getattr(want, name), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("most", "where"), [(3, "clean run"), (5, "readout")])
def test_readouts_of_a_sweep(small, llama64, most, where):
    Small.most = most
    cells = [[Intervention("ablate", 2, torch.eye(32)[:1])], [Intervention("steer", 1, torch.eye(32)[1:2], 2.0)], []]

    def read(runner, size):
        clean = clean_prompts(runner, PROMPTS, [1, 2], 0, size if isinstance(size, BatchSize) else None)
        return read_log_odds(runner, clean, cells, [5, 9], size), read_kl(runner, clean, cells, size)

    cells *= 3
    want, size = read(Runner(llama64), 12), BatchSize(12, "readout")
    with pytest.warns(LessMemory, match=where):
        got = read(small, size)
    assert size.changed
    for mine, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-6)


def test_prompts_of_autodan(small, llama64, chat):
    templates = [f"{text} [REQUEST]" for text in REQUESTS]

    def losses(runner):
        return Fitness(runner, chat, "Explain the wind", "Sure, here is a list", 5, 400)(templates)

    want = losses(Runner(llama64))
    with pytest.warns(LessMemory, match="AutoDAN"):
        assert losses(small) == pytest.approx(want, abs=1e-6)


def test_judges_prompts(llama, tokenizer, monkeypatch):
    encoded = [tokenizer(text)["input_ids"] for text in REQUESTS]
    want = last_logits(llama, encoded, [5, 6], 5)
    forward = llama.forward

    def limited(*, input_ids, **options):
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError
        return forward(input_ids=input_ids, **options)

    monkeypatch.setattr(llama, "forward", limited)
    with pytest.warns(LessMemory, match="judge's prompts"):
        got = last_logits(llama, encoded, [5, 6], 5)
    np.testing.assert_allclose(got, want, atol=1e-4)


@pytest.mark.parametrize("enough", [True, False])
def test_a_job_records_a_changed_layout_beside_what_it_made(folder, tmp_path, monkeypatch, enough):  # noqa: F811
    rows = tmp_path / "prompts.jsonl"
    rows.write_text("".join(json.dumps({"id": str(i), "prompt": text}) + "\n" for i, text in enumerate(REQUESTS)))
    params = {
        "model": {"dtype": "float32", "device": "cpu", "threads": 1, "system": None},
        "max_new_tokens": 3,
        "batch_size": 5,
    }
    words = [
        "clean_rows.py",
        "--model",
        folder,
        "--prompts",
        rows,
        "--rows",
        tmp_path / "out.jsonl",
        "--params",
        json.dumps(params),
    ]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    if enough:
        clean_rows.main()
    else:
        Small.most = 3
        monkeypatch.setattr("safety_geometry.models.language_model.Runner", Small)
        with pytest.warns(LessMemory, match="clean rows: out of memory with 5 rows"):
            clean_rows.main()
    record = json.loads((tmp_path / "out.jsonl.provenance.json").read_text())
    assert record.get("layout_changed") == (None if enough else {"clean rows": {"asked": 5, "used": 2}})
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) > 0
