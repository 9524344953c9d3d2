"""follow_up.py: what answers anew, and when no model is needed."""

import json
import sys
from types import SimpleNamespace

import follow_up
import pytest
import torch
from conftest import REQUESTS

from safety_geometry.causal.cells import Cell, Unit, make_unit
from safety_geometry.causal.plan import clean_unit
from safety_geometry.models.interventions import Intervention
from safety_geometry.models.language_model import LanguageModel
from safety_geometry.models.runner import Runner

SWEEP = {
    "model": {"dtype": "float32"},
    "step": 4,
    "batch_size": 8,
    "prompts": {"harmful": 1},
    "ablate": [1.0],
    "controls": {"random": 3},
}
PARAMS = SWEEP | {
    "checkpoint": {"regime": "r2d2", "step": 4},
    "answers": {"suites": {"direct": 4, "usefulness": 2}, "max_new_tokens": 4, "batch_size": 8},
}
NAMES = ("h_only", "r_only", "h_only/random/0", "r_only/random/0")


def row(cell: str, digest: str = "a", regime: str = "r2d2") -> dict:
    """A chosen cell: h_only and r_only with a control each, or the baseline."""
    mode = cell.partition("/")[0]
    what = {"family": "ablate", "mode": mode, "lambda": 1.0, "scope": "layer", "rank": 1.0}
    role = "baseline" if cell == "clean" else "control" if "/" in cell else "target"
    what = dict.fromkeys(what) if role == "baseline" else what
    return {"cell": cell, "role": role, "regime": regime, "step": 4, "digest": f"{cell}-{digest}"} | what


@pytest.fixture
def run(llama, chat, tmp_path, monkeypatch):
    """Runs the script on chosen rows; returns the bytes of its answers, and which cells the model answered."""
    for name in ("model", "activations", "carriers"):
        (tmp_path / name).write_text(name)
    prompts = [{"id": f"p{i}", "prompt": text} for i, text in enumerate(REQUESTS)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(p) + "\n" for p in prompts))
    g = torch.Generator().manual_seed(1)
    edits = [
        Intervention("ablate", 1, torch.nn.functional.normalize(torch.randn(1, 32, generator=g)), 1.0) for _ in NAMES
    ]
    units = [Unit("u", tuple(Cell(name, (edit,), ()) for name, edit in zip(NAMES, edits, strict=True)))]
    loaded = LanguageModel(Runner(llama), chat)
    answered = []
    monkeypatch.setattr(follow_up, "load", lambda *args: loaded)
    monkeypatch.setattr(follow_up, "Activations", lambda path: None)
    monkeypatch.setattr(follow_up, "read_carriers", lambda path, step: None)
    sweep = SimpleNamespace(units=lambda: [*units, make_unit(clean_unit(), None, 1)])
    monkeypatch.setattr(follow_up, "Sweep", SimpleNamespace(of=lambda *args: sweep))
    plain = follow_up.answer_cells

    def watched(model, cells, *rest, **options):
        answered.append(sorted(cells))
        return plain(model, cells, *rest, **options)

    monkeypatch.setattr(follow_up, "answer_cells", watched)

    def main(*chosen: dict, scoring=("p0", "p2"), **params) -> tuple[bytes, list]:
        (tmp_path / "choice.json").write_text(json.dumps({"chosen": chosen, "scoring": scoring}))
        words = [f"--{name}={tmp_path / name}" for name in ("model", "activations", "carriers")]
        words += [f"--choice={tmp_path / 'choice.json'}", f"--completions={tmp_path / 'follow_up.jsonl'}"]
        words += [f"--harmful={tmp_path / 'prompts.jsonl'}", "--suites", *[str(tmp_path / "prompts.jsonl")] * 2]
        monkeypatch.setattr(sys, "argv", ["follow_up.py", *words, "--params", json.dumps(PARAMS | params)])
        answered.clear()
        main_of_script()
        return (tmp_path / "follow_up.jsonl").read_bytes(), sorted(cell for call in answered for cell in call)

    main_of_script = follow_up.main
    return main


CHOSEN = [*map(row, NAMES), row("clean"), row("elsewhere", regime="sft")]


def test_only_what_is_new_is_answered(run):
    first, answered = run(*CHOSEN)
    assert answered == sorted([*NAMES, "clean"])
    asked = [(r["arm"], r["suite"], r["prompt_id"]) for r in map(json.loads, first.splitlines())]
    # the groups in the order of the choice, each with its control; of direct requests those that score
    assert [a for a in asked if a[1] == "direct"] == [
        (cell, "direct", p) for cell in ("h_only", "h_only/random/0", "r_only", "r_only/random/0", "clean") for p in ("p0", "p2")
    ]  # fmt: skip
    assert len(asked) == 5 * 4
    again, answered = run(*CHOSEN, ablate=[0.5, 1.0], controls={"random": 5})  # of the sweep: other cells
    assert (again, answered) == (first, [])
    changed = [row("r_only", "b") if r["cell"] == "r_only" else r for r in CHOSEN]
    assert run(*changed)[1] == [
        "r_only",
        "r_only/random/0",
    ]  # what it does is another thing; its control answers beside it
    assert run(*changed[:1], *changed[2:])[1] == ["r_only/random/0"]
    assert run(*CHOSEN, scoring=("p0", "p3"))[1] == sorted([*NAMES, "clean"])
    longer = PARAMS["answers"] | {"max_new_tokens": 5}
    assert len(run(*CHOSEN, answers=longer)[1]) == 5


def test_a_resumed_follow_up_gives_the_same_bytes(run):
    whole = run(*CHOSEN)[0]
    run(*CHOSEN, scoring=("p1",))  # forgets the rest
    run(row("h_only"), row("h_only/random/0"))
    found, answered = run(*CHOSEN)
    assert found == whole and answered == ["clean", "r_only", "r_only/random/0"]


def test_nothing_chosen_here_loads_no_model(run):
    assert run(row("elsewhere", regime="sft")) == (b"", [])
