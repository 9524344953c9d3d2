"""Sampled answers: against the probabilities of Hugging Face's own forward, one row at a time; and their table."""

import json

import complete_sampled
import numpy as np
import pandas as pd
import pytest
import sampled_table
import torch
from test_adapters import folder  # noqa: F401  (a fixture)
from test_complete_scripts import rows, run
from test_generation import NEVER, PROMPTS, frequent_tokens
from test_probe_scripts import PARAMS, study  # noqa: F401  (a fixture)

from safety_geometry.artefacts.tables.files import read_table, write_table
from safety_geometry.artefacts.tables.sampled import SAMPLED
from safety_geometry.artefacts.tables.working import JUDGED
from safety_geometry.judges.sampled import sampled_success
from safety_geometry.models.generation import Completion, generate
from safety_geometry.models.runner import Runner
from safety_geometry.models.sampling import Sampling
from safety_geometry.stats.estimates import wilson

SEEDS = [11, 12, 13, 14, 15]


def alone(model, prompt, stop_ids, limit, temperature, seed) -> Completion:
    """One answer, drawn with plain numpy from whole forward passes without a cache."""
    ids, stream = list(prompt), np.random.default_rng(seed)
    for _ in range(limit):
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1].double().numpy() / temperature
        p = np.exp(logits - logits.max())
        token = int(np.flatnonzero(np.cumsum(p / p.sum()) > stream.random())[0])
        if token in stop_ids:
            return Completion(tuple(ids[len(prompt) :]), False)
        ids.append(token)
    return Completion(tuple(ids[len(prompt) :]), True)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
def test_answers_are_drawn_from_the_models_probabilities_whatever_the_batches(llama64, temperature):
    runner, stops = Runner(llama64), frequent_tokens(llama64)
    want = [alone(llama64, p, stops, 8, temperature, s) for p, s in zip(PROMPTS, SEEDS, strict=True)]
    for size, share in ((1, 0), (2, 3), (5, 100)):
        assert generate(runner, PROMPTS, stops, 8, size, share, choose=Sampling(temperature, SEEDS, 8)) == want
    shorter = generate(runner, PROMPTS, stops, 3, 5, choose=Sampling(temperature, SEEDS, 8))
    assert [c.ids for c in shorter] == [c.ids[:3] for c in want]  # a limit moves no draw


def test_seeds_decide_and_a_low_temperature_is_greedy(llama64):
    runner = Runner(llama64)

    def answers(temperature, seeds):
        return generate(runner, PROMPTS, NEVER, 6, 3, choose=Sampling(temperature, seeds, 6))

    assert answers(1e-6, SEEDS) == generate(runner, PROMPTS, NEVER, 6, 3)
    assert answers(1.0, SEEDS) == answers(1.0, SEEDS) != answers(1.0, SEEDS[::-1])


def test_frequencies_are_the_probabilities():
    logits, n = torch.tensor([[0.0, 1.0, -2.0, 0.5]]), 20_000
    logits, n = torch.tensor([[0.0, 1.0, -2.0, 0.5]]), 20_000
    tokens = Sampling(0.7, range(n), 1)(logits.expand(n, -1), range(n), 0)
    p = torch.softmax(logits[0].double() / 0.7, -1)
    assert torch.allclose(tokens.bincount(minlength=4).double() / n, p, atol=4 * 0.5 / n**0.5)
    ends = Sampling(0.7, [0, 1], 1)
    ends.draws = torch.tensor([[0.0], [1 - 2**-53]], dtype=torch.float64)
    assert ends(logits.expand(2, -1), [0, 1], 0).tolist() == [0, 3]


def judged(successes: dict[str, list[int]], means: str = "attack_success") -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"prompt_id": name, "arm": f"sample{k}", "attack_success": bool(hit), "success_means": means}
            for name, hits in successes.items()
            for k, hit in enumerate(hits, 1)
        ]
    )


def test_success_by_hand():
    greedy = judged({"a": [1], "b": [0], "c": [0]})
    row = sampled_success(judged({"a": [1, 1, 0, 1], "b": [0, 0, 0, 0], "c": [0, 1, 0, 0]}), greedy)
    assert (row["samples"], row["n"], row["success_means"]) == (4, 3, "attack_success")
    assert (
        row["asr"] == pytest.approx((0.75 + 0 + 0.25) / 3) and 0 <= row["asr_lo"] < row["asr"] < row["asr_hi"] <= 0.75
    )
    for name, successes in (("any_asr", 2), ("greedy_asr", 1)):
        rate = wilson(successes, 3)
        assert (row[name], row[f"{name}_lo"], row[f"{name}_hi"]) == (rate.value, rate.lo, rate.hi)


@pytest.mark.parametrize(
    ("sampled", "greedy", "message"),
    [
        (judged({"a": [1, 0], "b": [1]}), judged({"a": [1], "b": [0]}), "different numbers of sampled answers"),
        (judged({"a": [1, 0]}), judged({"b": [0]}), "to different requests"),
        (judged({"a": [1, 0]}), judged({"a": [0]}, "not_refused"), "means different things"),
    ],
)
def test_answers_that_do_not_belong_together(sampled, greedy, message):
    with pytest.raises(ValueError, match=message):
        sampled_success(sampled, greedy)


def test_from_a_checkpoint_to_rows(study, tmp_path, monkeypatch):  # noqa: F811
    prompts = tmp_path / "direct.jsonl"
    asked = [json.loads(line)["prompt"] for line in (study / "select_harmful.jsonl").read_text().splitlines()[:2]]
    prompts.write_text("".join(json.dumps({"id": f"p{i}", "prompt": text}) + "\n" for i, text in enumerate(asked)))
    params = {"model": PARAMS["model"], "suite": "direct", "seed": 4, "answers": 3, "temperature": 1.0,
              "max_new_tokens": 5, "batch_size": 4}  # fmt: skip

    def made(name, **changes):
        files = {"model": [study / "base"], "prompts": [prompts], "completions": [tmp_path / name]}
        run(monkeypatch, complete_sampled, files, params | changes)
        return rows(tmp_path / name)

    first = made("a.jsonl")
    assert [row["id"] for row in first] == [f"direct:sample{k}:p{i}" for k in (1, 2, 3) for i in (0, 1)]
    assert len({row["completion"] for row in first}) > 2
    assert made("b.jsonl", batch_size=1) == first
    assert made("c.jsonl", answers=4)[:6] == first  # more answers leave those that there are
    assert [row["completion"] for row in made("d.jsonl", seed=5)] != [row["completion"] for row in first]


def test_the_table(tmp_path, monkeypatch):
    kinds = {"boolean": False, "string": "x", "integer": 1, "number": 0.0}

    def written(name, suite, hits):
        frame = pd.DataFrame(
            [{column.name: None if column.missing_allowed else kinds[column.kind] for column in JUDGED.columns}]
            * len(hits)
        )
        frame = frame.assign(
            id=[f"{k}" for k in range(len(hits))], suite=suite, arm=[f"sample{k}" for k in range(len(hits))],
            prompt_id="p", attack_success=hits, success_means="attack_success", refusal="none", digest="0" * 12,
        )  # fmt: skip
        write_table(frame, tmp_path / name, JUDGED)
        return tmp_path / name

    (tmp_path / "g").mkdir()
    (tmp_path / "s").mkdir()
    greedy = written("g/judged.csv", ["direct", "usefulness"], [True, False])
    sampled = written("s/judged.csv", "direct", [True, False, False, True])
    params = {
        "checkpoints": [{"seed": 1, "regime": "sft", "step": 3, "anchor": "reference"}], "suite": "direct",
        "temperature": 0.7, "stats_seed": 0, "draws": 50,
    }  # fmt: skip
    files = {"sampled": [sampled], "greedy": [greedy], "table": [tmp_path / "sampled.csv"]}
    run(monkeypatch, sampled_table, files, params)
    (row,) = read_table(tmp_path / "sampled.csv").to_dict("records")
    assert list(row) == list(SAMPLED.names)
    assert (row["temperature"], row["samples"], row["n"], row["asr"], row["greedy_asr"]) == (0.7, 4, 1, 0.5, 1.0)
