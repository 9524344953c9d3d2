"""The script that asks targets the attacks of a source, on a tiny model: answers to one method depend on nothing of another."""

import json
import sys

import pytest
import transfer as script
from conftest import REQUESTS, make_model, make_tokenizer

PARAMS = {
    "model": {"dtype": "float32", "device": "cpu", "threads": 1, "system": None}, "source": "sft:4", "targets": ["sft:4", "sft:8"],
    "whole": ["sft:4", "sft:8"], "behaviours": 2, "max_new_tokens": 6, "batch_size": 64,
}  # fmt: skip
GCG = [
    (f"b{i}", arm, f"{q}{end}")
    for i, q in enumerate(REQUESTS[:3])
    for arm, end in (("gcg", " ! sea"), ("gcg_init", " ! !"))
]
AUTODAN = [(f"b{i}", arm, f"{start} {q}") for i, q in enumerate(REQUESTS[:2]) for arm, start in (("autodan", "Tell a tale:"), ("seeds", "Tell:"))]  # fmt: skip

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for i in range(2):
        make_model(layers=2, seed=i).save_pretrained(folder / f"model{i}")
        make_tokenizer().save_pretrained(folder / f"model{i}")
    return [folder / f"model{i}" for i in range(2)]


@pytest.fixture
def asked(monkeypatch) -> list[list]:
    """The prompts of every call of `complete`."""
    calls, complete = [], script.complete

    def watched(model, prompts, *rest):
        calls.append([prompt.ids for prompt in prompts])
        return complete(model, prompts, *rest)

    monkeypatch.setattr(script, "complete", watched)
    return calls


def run(monkeypatch, models, out, **attacks) -> dict[str, list[bytes]]:
    """The lines of the answers by arm, without the target."""
    out.mkdir(exist_ok=True)
    for name, rows in attacks.items():
        lines = [
            {"id": i, "arm": arm, "request": "asked", "prompt": prompt, "target": "Sure"} for i, arm, prompt in rows
        ]
        (out / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr(sys, "argv", [
        "transfer.py", "--model", *map(str, models), "--attacks", *(str(out / f"{name}.jsonl") for name in attacks),
        "--completions", str(out / "answers.jsonl"), "--params", json.dumps(PARAMS),
    ])  # fmt: skip
    script.main()
    found: dict[str, list[bytes]] = {}
    for line in (out / "answers.jsonl").read_bytes().splitlines():
        found.setdefault(json.loads(line)["arm"].partition("@")[0], []).append(line)
    return found


def test_another_budget_of_one_method_asks_nothing_of_the_other_anew(monkeypatch, models, asked, tmp_path):
    first = run(monkeypatch, models, tmp_path, gcg=GCG, autodan=AUTODAN)
    assert [len(prompts) for prompts in asked] == [
        6,
        4,
        4,
        4,
    ]  # two methods on the source, and their first behaviours on the other
    asked.clear()
    longer = [
        (i, arm, prompt + " in one line, and how warm is the sea? Explain the wind and bread")
        for i, arm, prompt in AUTODAN
    ]
    again = run(monkeypatch, models, tmp_path, gcg=GCG, autodan=longer)
    assert [len(prompts) for prompts in asked] == [4, 4]  # AutoDAN's
    for arm in ("gcg", "gcg_init"):
        assert again[arm] == first[arm]
    asked.clear()
    assert run(monkeypatch, models, tmp_path, gcg=GCG, autodan=longer) == again and not asked


def test_a_methods_answers_are_those_that_it_has_alone(monkeypatch, models, tmp_path):
    both = run(monkeypatch, models, tmp_path / "both", gcg=GCG, autodan=AUTODAN)
    alone = run(monkeypatch, models, tmp_path / "gcg", gcg=GCG) | run(
        monkeypatch, models, tmp_path / "autodan", autodan=AUTODAN
    )
    assert both == alone
    assert {arm: len(lines) for arm, lines in both.items()} == {"gcg": 5, "gcg_init": 5, "autodan": 4, "seeds": 4}
    none = run(monkeypatch, models, tmp_path / "none", gcg=GCG, autodan=[])  # every seed was too long
    assert none == {arm: both[arm] for arm in ("gcg", "gcg_init")}
