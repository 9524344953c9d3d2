"""What is kept of a sweep: what makes a unit's results another's, which cells answer together, damaged files, a full disk."""

import errno
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from _job import JobError
from _store import UnitStore
from _unit_key import answer_key, fingerprint, readout_key
from _units import answer_missing
from conftest import REQUESTS
from test_causal_controls import COUNTS, checkpoint

from safety_geometry import generation
from safety_geometry.causal.cells import Cell, Target, Unit, answer_units, clean_unit, shared_units, target_unit
from safety_geometry.interventions import Intervention
from safety_geometry.runner import Runner

FILES = ("model", "adapter", "harmful", "benign")
PARAMS = {
    "prompts": {"harmful": 4, "benign": 2},
    "openings": ["I cannot"],
    "batch_size": 8,
    "model": {"dtype": "float32"},
}
CELL = Cell("r", (Intervention("ablate", 1, torch.eye(1, 4), 1.0),), ())
UNIT = Unit("ablate", (*clean_unit().cells, CELL))
ASKED = [("direct", {"id": "p1", "prompt": "How?"}), ("utility", {"id": "p2", "prompt": "Why?", "must": ["so"]})]
SETTINGS = {"suites": {"direct": 4}, "max_new_tokens": 16, "batch_size": 8, "cells": [], "controls": {}}


def job(folder: Path, changed: str = "", **more) -> SimpleNamespace:
    """A sweep's job whose files hold their names; the content of `changed` is another."""
    folder.mkdir()
    paths = {name: folder / f"{name}.jsonl" for name in FILES}
    for name, path in paths.items():
        path.write_text(f"{name}{' anew' if name == changed else ''}\n")
    return SimpleNamespace(**({"params": PARAMS, "code": "c", "batches": [], "layout_changed": dict} | paths | more))


def fingerprints(unit: Unit) -> dict[str, str]:
    return {cell.id: fingerprint(cell) for cell in unit.cells}


def test_a_readouts_key_names_everything_that_it_depends_on(tmp_path):
    edit = replace(CELL.interventions[0], strength=0.5)
    found = [readout_key(job(tmp_path / "same"), UNIT), readout_key(job(tmp_path / "adapterless", adapter=None), UNIT)]
    found += [readout_key(job(tmp_path / name, name), UNIT) for name in FILES]
    for i, settings in enumerate(
        (
            {"prompts": {"harmful": 3, "benign": 2}},
            {"openings": ["Sorry"]},
            {"batch_size": 4},
            {"model": {"dtype": "float64"}},
        )
    ):
        found.append(readout_key(job(tmp_path / str(i), params=PARAMS | settings), UNIT))
    found.append(readout_key(job(tmp_path / "code", code="d"), UNIT))
    for i, other in enumerate((replace(CELL, interventions=(edit,)), replace(CELL, kl=False))):
        found.append(readout_key(job(tmp_path / f"cell{i}"), Unit("ablate", (UNIT.cells[0], other))))
    assert len(set(found)) == len(found)
    speaking = Unit("ablate", (UNIT.cells[0], replace(CELL, generated=True)))
    assert readout_key(job(tmp_path / "speaking"), speaking) == found[0]  # answers are units of their own


def test_an_answers_key_names_everything_that_it_depends_on_and_no_readout(tmp_path):
    same = job(tmp_path / "same")
    first, cells = answer_key(same, fingerprints(UNIT), ASKED, SETTINGS), fingerprints(UNIT)
    found = [first, answer_key(same, {"r": cells["r"]}, ASKED, SETTINGS), answer_key(same, cells, ASKED[:1], SETTINGS)]
    found += [answer_key(job(tmp_path / name, name), cells, ASKED, SETTINGS) for name in ("model", "adapter")]
    found += [answer_key(same, cells, ASKED, SETTINGS | {name: 4}) for name in ("max_new_tokens", "batch_size")]
    found.append(
        answer_key(job(tmp_path / "dtype", params=PARAMS | {"model": {"dtype": "float64"}}), cells, ASKED, SETTINGS)
    )
    found.append(answer_key(job(tmp_path / "code", code="d"), cells, ASKED, SETTINGS))
    turned = fingerprints(
        Unit("ablate", (replace(CELL, interventions=(replace(CELL.interventions[0], strength=0.5),)),))
    )
    found.append(answer_key(same, cells | turned, ASKED, SETTINGS))
    assert len(set(found)) == len(found)
    read = PARAMS | {"prompts": {"harmful": 8, "benign": 8}, "openings": ["Sorry"], "batch_size": 4}
    other = SETTINGS | {"cells": ["ablate:r_only:1:layer:1"], "controls": {"random": 2}, "suites": {}}
    assert (
        answer_key(job(tmp_path / "harm", "harmful", params=read), dict(reversed(cells.items())), ASKED, other) == first
    )


MODES, SPEAKING = ("r_only", "r_perp_h"), {"random": 1, "shuffled": 1, "wrong_layer": 1}


def spoken(counts: dict = COUNTS, permutations: int = 0, modes=MODES) -> list[Unit]:
    """Answer units of a sweep whose targets of R all answer, and h_only does not."""
    at, targets = checkpoint(), [Target("ablate", mode, 1.0, primary=True) for mode in modes]
    silent = Target("ablate", "h_only", 1.0)
    units = [target_unit(target, at, counts, 1, SPEAKING) for target in targets]
    units += shared_units(targets, at, counts, 1, permutations, SPEAKING)
    units += [target_unit(silent, at, counts, 1), *shared_units([silent], at, counts, 1)]
    return answer_units([*units, clean_unit(generated=True)])


def test_targets_and_their_controls_are_one_unit_of_answers():
    together, clean = spoken()
    assert clean.name == "clean/answers" and [cell.id for cell in clean.cells] == ["clean"]
    assert together.name == "ablate:R:1:layer:1/answers"
    assert [cell.id for cell in together.cells] == [
        "ablate:R:1:layer:1/random/0", "ablate:R:1:layer:1/shuffled/0", "ablate:r_only:1:layer:1",
        "ablate:r_only:1:layer:1/wrong_layer/0", "ablate:r_perp_h:1:layer:1", "ablate:r_perp_h:1:layer:1/wrong_layer/0",
    ]  # fmt: skip


def test_more_directions_that_are_only_read_leave_the_answers(tmp_path):
    at = job(tmp_path / "job")

    def keys(*changes, **more) -> list[str]:
        return [answer_key(at, fingerprints(unit), ASKED, SETTINGS) for unit in spoken(*changes, **more)]

    before = keys()
    for kind in COUNTS:
        assert keys(COUNTS | {kind: COUNTS[kind] + 2}) == before
    assert keys(permutations=30) == keys(modes=MODES[::-1]) == before
    assert keys(modes=("r_only",))[1:] == before[1:] and keys(modes=("r_only",))[0] != before[0]


def tiny(llama, chat) -> SimpleNamespace:
    return SimpleNamespace(runner=Runner(llama), chat=chat, tokenizer=chat.tokenizer)


def edits(n: int) -> dict[str, tuple[Intervention, ...]]:
    g = torch.Generator().manual_seed(1)
    bases = [torch.nn.functional.normalize(torch.randn(1, 32, generator=g), dim=1) for _ in range(n)]
    return {f"cell{i}": (Intervention("ablate", 1, basis, 1.0),) for i, basis in enumerate(bases)}


@pytest.mark.parametrize("size", [8, 4, 2])
def test_a_prompt_is_answered_under_all_cells_of_a_unit_in_one_batch(llama, chat, tmp_path, monkeypatch, size):
    cells, seen, plain = edits(4), [], generation._generate_batch

    def watched(runner, prompts, stop_ids, limits, share, indices, batch_edits, observe):
        seen.append([(tuple(p), batch_edits[i][0].basis.tolist()) for p, i in zip(prompts, indices, strict=True)])
        return plain(runner, prompts, stop_ids, limits, share, indices, batch_edits, observe)

    monkeypatch.setattr(generation, "_generate_batch", watched)
    asked = [("direct", {"id": str(i), "prompt": text}) for i, text in enumerate(REQUESTS)]
    settings, store = {"max_new_tokens": 5, "batch_size": size}, UnitStore(tmp_path / "store")
    answer_missing(job(tmp_path / "job"), tiny(llama, chat), {"k": cells}, asked, settings, store)
    assert sorted({len(batch) for batch in seen}) == {8: [4, 8], 4: [4], 2: [2]}[size]
    directions = sorted(cell[0].basis.tolist() for cell in cells.values())
    for batch in seen if size >= len(cells) else []:
        for prompt in {p for p, _ in batch}:
            assert sorted(direction for p, direction in batch if p == prompt) == directions
    rows = store.get("k")["answers"]
    assert [(r["arm"], r["prompt_id"]) for r in rows] == [(cell, row["id"]) for cell in cells for _, row in asked]
    assert len({r["completion"] for r in rows}) > len(asked)  # the edits tell


def test_answers_of_a_unit_do_not_depend_on_what_else_is_missing(llama, chat, tmp_path):
    cells = edits(6)
    units = {"a": dict(list(cells.items())[:4]), "b": dict(list(cells.items())[4:])}
    asked = [("direct", {"id": str(i), "prompt": text}) for i, text in enumerate(REQUESTS)]
    whole, resumed = UnitStore(tmp_path / "whole"), UnitStore(tmp_path / "resumed")
    settings, of = {"max_new_tokens": 5, "batch_size": 8}, job(tmp_path / "job")
    answer_missing(of, tiny(llama, chat), units, asked, settings, whole)
    for name in ("b", "a"):
        answer_missing(of, tiny(llama, chat), {name: units[name]}, asked, settings, resumed)
    assert all(json.dumps(whole.get(name)) == json.dumps(resumed.get(name)) for name in units)


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
    with pytest.raises(JobError, match=r"no space left on the disk while writing .*a\.json"):
        store.put("a", {})
    assert not list(tmp_path.iterdir())
