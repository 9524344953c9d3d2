"""complete_saves.py: a save answered in a group answers as it does alone."""

import json
import sys

import complete
import complete_saves
import pytest
from _job import JobError
from test_adapters import folder  # noqa: F401  (a fixture)
from test_probe_scripts import PARAMS, study  # noqa: F401  (a fixture)

TOKENS = {"direct": 5, "lookalike": 4}


@pytest.fixture
def suites(study, tmp_path):  # noqa: F811
    paths = []
    for suite, source in zip(TOKENS, ("select_harmful", "select_benign"), strict=True):
        rows = [json.loads(line) for line in (study / f"{source}.jsonl").read_text().splitlines()]
        paths.append(tmp_path / f"{suite}.jsonl")
        paths[-1].write_text("".join(json.dumps({"id": f"p{i}", **row}) + "\n" for i, row in enumerate(rows)))
    return paths


def run(monkeypatch, script, files: dict, params: dict) -> None:
    words = [script.__name__ + ".py"]
    for name, paths in files.items():
        words += [f"--{name}", *map(str, paths)]
    monkeypatch.setattr(sys, "argv", [*words, "--params", json.dumps(params)])
    script.main()


def rows(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_group_answers_as_each_save_alone(study, suites, tmp_path, monkeypatch):  # noqa: F811
    params = {"model": PARAMS["model"], "suites": TOKENS, "batch_size": 4}
    steps = (1, 2, 3)
    together = {step: tmp_path / f"{step}.jsonl" for step in steps}
    files = {"model": [study / "base"], "prompts": suites}
    saves = {"adapters": [study / f"step{s}" for s in steps], "completions": list(together.values())}
    run(monkeypatch, complete_saves, files | saves, params | {"prompts": {"direct": 3, "lookalike": None}})
    for step, path in together.items():
        alone, kept = tmp_path / f"alone{step}.jsonl", tmp_path / "kept.safetensors"
        own = {"adapter": [study / f"step{step}"], "completions": [alone], "activations": [kept]}
        run(monkeypatch, complete, files | own, params | {"positions": [-1], "dtype": "float32"})
        expected = {row["id"]: row for row in rows(alone)}
        assert [row["id"] for row in rows(path)] == [f"direct:p{i}" for i in range(3)] + [
            f"lookalike:p{i}" for i in range(5)
        ]
        assert all(row == expected[row["id"]] for row in rows(path))
    assert len({path.read_text() for path in together.values()}) == 3


def test_a_file_for_each_adapter(study, suites, tmp_path, monkeypatch):  # noqa: F811
    files = {"model": [study / "base"], "prompts": suites, "adapters": [study / "step1", study / "step2"],
             "completions": [tmp_path / "a.jsonl"]}  # fmt: skip
    params = {"model": PARAMS["model"], "suites": TOKENS, "batch_size": 4, "prompts": dict.fromkeys(TOKENS)}
    with pytest.raises(JobError, match="1 outputs for 2 adapters"):
        run(monkeypatch, complete_saves, files, params)


def test_a_prompt_beyond_the_context_is_named(study, suites, tmp_path, monkeypatch):  # noqa: F811
    with suites[0].open("a", encoding="utf-8") as file:
        file.write(json.dumps({"id": "long", "prompt": "bread " * 600}) + "\n")
    files = {"model": [study / "base"], "prompts": suites, "completions": [tmp_path / "a.jsonl"]}
    params = {"model": PARAMS["model"], "suites": TOKENS, "batch_size": 4, "prompts": dict.fromkeys(TOKENS)}
    said = r"prompt long has \d{4} tokens, more than the model's context of 512 tokens \(max_position_embeddings\) less 5 for"
    with pytest.raises(JobError, match=said) as caught:
        run(monkeypatch, complete_saves, files, params)
    assert "bread" not in str(caught.value) and not (tmp_path / "a.jsonl").exists()
    run(monkeypatch, complete_saves, files, params | {"prompts": {"direct": 3, "lookalike": None}})
    assert (tmp_path / "a.jsonl").exists()  # what is not asked does no harm
