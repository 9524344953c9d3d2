"""What is kept of a sweep: what makes a unit's results another's, which cells answer together, damaged files, a full disk."""

import errno
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from _job import Job
from conftest import REQUESTS
from test_causal_controls import COUNTS, checkpoint, shared_units, target_unit

from safety_geometry.artefacts.errors import ArtefactError
from safety_geometry.artefacts.unit_store import UnitStore
from safety_geometry.causal import plan
from safety_geometry.causal.cells import Cell, Unit, answer_units, make_unit
from safety_geometry.causal.plan import Target
from safety_geometry.causal.sweep import answer_key, readout_key
from safety_geometry.models import generation
from safety_geometry.models.answers import answer_cells
from safety_geometry.models.interventions import Intervention
from safety_geometry.models.language_model import LanguageModel
from safety_geometry.models.memory import BatchSize
from safety_geometry.models.runner import Runner

FILES = ("model", "adapter", "harmful", "benign")
PARAMS = {
    "prompts": {"harmful": 4, "benign": 2},
    "openings": ["I cannot"],
    "batch_size": 8,
    "model": {"dtype": "float32"},
}
CELL = Cell("r", (Intervention("ablate", 1, torch.eye(1, 4), 1.0),), ())
UNIT = Unit("ablate", (*make_unit(plan.clean_unit(), None, 1).cells, CELL))
ASKED = [("direct", {"id": "p1", "prompt": "How?"}), ("utility", {"id": "p2", "prompt": "Why?", "must": ["so"]})]
SETTINGS = {"suites": {"direct": 4}, "max_new_tokens": 16, "batch_size": 8, "cells": [], "controls": {}}


def facts(folder: Path, changed: str = "", read=True, **params) -> dict:
    """Of a sweep's job whose files hold their names; the content of `changed` is another."""
    files = FILES if read else ("model", "adapter")
    return job(folder, changed, **params).facts(
        files, ("model", "prompts", "openings", "batch_size") if read else ("model",)
    )


def job(folder: Path, changed: str = "", code: str = "c", without: str = "", **params) -> Job:
    folder.mkdir(exist_ok=True)
    paths = {name: folder / f"{name}.jsonl" for name in FILES}
    for name, path in paths.items():
        path.write_text(f"{name}{' anew' if name == changed else ''}\n")
    words = [word for name, path in paths.items() if name != without for word in (f"--{name}", str(path))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["sweep.py", *words, "--params", json.dumps(PARAMS | params), "--code", code])
        return Job("", inputs=["model", "adapter?", "harmful", "benign"])


def test_a_readouts_key_names_everything_that_it_depends_on(tmp_path):
    edit = replace(CELL.interventions[0], strength=0.5)
    same = facts(tmp_path / "same")
    keys = [readout_key(UNIT, same, 8), readout_key(UNIT, facts(tmp_path / "adapterless", without="adapter"), 8)]
    keys += [readout_key(UNIT, facts(tmp_path / name, name), 8) for name in FILES]
    for i, settings in enumerate(
        (
            {"prompts": {"harmful": 3, "benign": 2}},
            {"openings": ["Sorry"]},
            {"batch_size": 4},
            {"model": {"dtype": "float64"}},
        )
    ):
        keys.append(readout_key(UNIT, facts(tmp_path / str(i), **settings), 8))
    keys.append(readout_key(UNIT, facts(tmp_path / "code", code="d"), 8))
    for other in (replace(CELL, interventions=(edit,)), replace(CELL, kl=False)):
        keys.append(readout_key(Unit("ablate", (UNIT.cells[0], other)), same, 8))
    assert readout_key(UNIT, same, 9) == keys[0]  # no cell is read on the clean answers
    speaking = Unit("ablate", (UNIT.cells[0], replace(CELL, generated=True)))
    keys += [readout_key(speaking, same, limit) for limit in (8, 9)]
    assert len(set(keys)) == len(keys)


def test_an_answers_key_names_everything_that_it_depends_on_and_no_readout(tmp_path):
    same, cells = facts(tmp_path / "same", read=False), UNIT.digests
    first = answer_key(cells, ASKED, SETTINGS, same)
    keys = [first, answer_key({"r": cells["r"]}, ASKED, SETTINGS, same), answer_key(cells, ASKED[:1], SETTINGS, same)]
    keys += [
        answer_key(cells, ASKED, SETTINGS, facts(tmp_path / name, name, read=False)) for name in ("model", "adapter")
    ]
    keys += [answer_key(cells, ASKED, SETTINGS | {name: 4}, same) for name in ("max_new_tokens", "batch_size")]
    keys.append(answer_key(cells, ASKED, SETTINGS, facts(tmp_path / "dtype", read=False, model={"dtype": "float64"})))
    keys.append(answer_key(cells, ASKED, SETTINGS, facts(tmp_path / "code", code="d", read=False)))
    turned = Unit("ablate", (replace(CELL, interventions=(replace(CELL.interventions[0], strength=0.5),)),)).digests
    keys.append(answer_key(cells | turned, ASKED, SETTINGS, same))
    assert len(set(keys)) == len(keys)
    read = {"prompts": {"harmful": 8, "benign": 8}, "openings": ["Sorry"], "batch_size": 4}
    other = SETTINGS | {"cells": ["ablate:r_only:1:layer:1"], "controls": {"random": 2}, "suites": {}}
    of_other = facts(tmp_path / "harm", "harmful", read=False, **read)
    assert answer_key(dict(reversed(cells.items())), ASKED, other, of_other) == first


MODES, SPEAKING = ("r_only", "r_perp_h"), {"random": 1, "shuffled": 1, "wrong_layer": 1}


def spoken(counts: dict = COUNTS, permutations: int = 0, modes=MODES) -> list[Unit]:
    """Answer units of a sweep whose targets of R all answer, and h_only does not."""
    at, targets = checkpoint(), [Target("steer", mode, 1.0, primary=True) for mode in modes]
    silent = Target("steer", "h_only", 1.0)
    units = [target_unit(target, at, counts, 1, SPEAKING) for target in targets]
    units += shared_units(targets, at, counts, 1, permutations, SPEAKING)
    units += [target_unit(silent, at, counts, 1), *shared_units([silent], at, counts, 1)]
    return answer_units([*units, make_unit(plan.clean_unit(True), None, 1)])


def test_targets_and_their_controls_are_one_unit_of_answers():
    together, clean = spoken()
    assert clean.name == "clean/answers" and [cell.id for cell in clean.cells] == ["clean"]
    assert together.name == "steer:R:1:layer:1/answers"
    assert [cell.id for cell in together.cells] == [
        "steer:R:1:layer:1/random/0", "steer:R:1:layer:1/shuffled/0", "steer:r_only:1:layer:1",
        "steer:r_only:1:layer:1/wrong_layer/0", "steer:r_perp_h:1:layer:1", "steer:r_perp_h:1:layer:1/wrong_layer/0",
    ]  # fmt: skip


def test_more_directions_that_are_only_read_leave_the_answers(tmp_path):
    same = facts(tmp_path / "job", read=False)

    def keys(*changes, **more) -> list[str]:
        return [answer_key(unit.digests, ASKED, SETTINGS, same) for unit in spoken(*changes, **more)]

    before = keys()
    for kind in COUNTS:
        assert keys(COUNTS | {kind: COUNTS[kind] + 2}) == before
    assert keys(permutations=30) == keys(modes=MODES[::-1]) == before
    assert keys(modes=("r_only",))[1:] == before[1:] and keys(modes=("r_only",))[0] != before[0]


def answered(llama, chat, cells, asked, size) -> list[dict]:
    model = LanguageModel(Runner(llama), chat)
    prompts = model.render_rows([row for _, row in asked], 5)
    return answer_cells(model, cells, asked, prompts, 5, size, progress=lambda n: None)


def edits(n: int) -> dict[str, tuple[Intervention, ...]]:
    g = torch.Generator().manual_seed(1)
    bases = [torch.nn.functional.normalize(torch.randn(1, 32, generator=g), dim=1) for _ in range(n)]
    return {f"cell{i}": (Intervention("ablate", 1, basis, 1.0),) for i, basis in enumerate(bases)}


@pytest.mark.parametrize("size", [8, 4, 2])
def test_a_prompt_is_answered_under_all_cells_of_a_unit_in_one_batch(llama, chat, tmp_path, monkeypatch, size):
    cells, seen, plain = edits(4), [], generation._generate_batch

    def watched(runner, prompts, stop_ids, limits, share, indices, batch_edits, *rest):
        seen.append([(tuple(p), batch_edits[i][0].basis.tolist()) for p, i in zip(prompts, indices, strict=True)])
        return plain(runner, prompts, stop_ids, limits, share, indices, batch_edits, *rest)

    monkeypatch.setattr(generation, "_generate_batch", watched)
    asked = [("direct", {"id": str(i), "prompt": text}) for i, text in enumerate(REQUESTS)]
    rows = answered(llama, chat, cells, asked, size)
    assert sorted({len(batch) for batch in seen}) == {8: [4, 8], 4: [4], 2: [2]}[size]
    directions = sorted(cell[0].basis.tolist() for cell in cells.values())
    for batch in seen if size >= len(cells) else []:
        for prompt in {p for p, _ in batch}:
            assert sorted(direction for p, direction in batch if p == prompt) == directions
    assert [(r["arm"], r["prompt_id"]) for r in rows] == [(cell, row["id"]) for cell in cells for _, row in asked]
    assert len({r["completion"] for r in rows}) > len(asked)  # the edits tell


def test_answers_of_a_unit_do_not_depend_on_what_else_is_missing(llama, chat, tmp_path):
    cells = edits(6)
    units = {"a": dict(list(cells.items())[:4]), "b": dict(list(cells.items())[4:])}
    asked = [("direct", {"id": str(i), "prompt": text}) for i, text in enumerate(REQUESTS)]

    def answers(*names: str) -> dict[str, list[dict]]:
        size = BatchSize(8, "answers")
        return {name: answered(llama, chat, units[name], asked, size) for name in names}

    assert answers("a", "b") == answers("b") | answers("a")


def test_a_store_computes_what_it_lacks_and_forgets_the_rest(tmp_path):
    store, asked = UnitStore(tmp_path), []

    def compute(lacking: list[str]) -> Iterator[tuple[str, dict]]:
        asked.append(lacking)
        yield from ((name, {"of": name}) for name in lacking)

    keys = {"one": "k1", "two": "k2"}
    assert store.completed(keys, compute) == {"one": {"of": "one"}, "two": {"of": "two"}}
    keys = {"two": "k2", "three": "k3"}
    assert list(store.completed(keys, compute)) == ["two", "three"] and asked == [["one", "two"], ["three"]]
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["k2", "k3"]
    with pytest.raises(ArtefactError, match="results of four cannot be read back"):
        store.completed({"four": "k4"}, lambda lacking: ())


def test_store_returns_what_was_put_and_nothing_from_a_damaged_file(tmp_path):
    store = UnitStore(tmp_path / "store")
    assert store.get("a") is None
    store.put("a", {"log_odds": {"clean": [0.1, -2.5e-9]}})
    store.put("b", {"kl": {}})
    assert UnitStore(tmp_path / "store").get("a") == {"log_odds": {"clean": [0.1, -2.5e-9]}}
    path = tmp_path / "store" / "a.json"
    path.write_text(path.read_text().replace("0.1", "0.2"))
    assert store.get("a") is None
    path.write_text("{")
    assert store.get("a") is None and store.get("b") == {"kl": {}}
    store.keep({"b"})
    assert [p.name for p in (tmp_path / "store").iterdir()] == ["b.json"]


def test_a_full_disk_is_said_in_words(tmp_path, monkeypatch):
    def full(self, text, **options):
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    store = UnitStore(tmp_path)
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ArtefactError, match=r"no space left on the disk while writing .*a\.json"):
        store.put("a", {})
    assert not list(tmp_path.iterdir())
