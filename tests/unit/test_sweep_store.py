"""The store of a sweep: what makes a unit's results another's, damaged files, a full disk."""

import errno
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from _job import JobError
from _store import UnitStore
from _unit_key import unit_key

from safety_geometry.causal.cells import Cell, Unit, clean_cell
from safety_geometry.interventions import Intervention

FILES = ("model", "adapter", "harmful", "benign", "suite")
PARAMS = {
    "prompts": {"harmful": 4, "benign": 2}, "openings": ["I cannot"], "batch_size": 8, "model": {"dtype": "float32"},
    "generate": {"suites": {"direct": 4}, "max_new_tokens": 16, "batch_size": 8, "cells": [], "controls": {}},
}  # fmt: skip
UNIT = Unit("ablate", (clean_cell(), Cell("r", (Intervention("ablate", 1, torch.eye(1, 4), 1.0),), ())))


def job(folder: Path, changed: str = "", **more) -> SimpleNamespace:
    """A sweep's job whose files hold their names; the content of `changed` is another."""
    folder.mkdir()
    paths = {name: folder / f"{name}.jsonl" for name in FILES}
    for name, path in paths.items():
        path.write_text(f"{name}{' anew' if name == changed else ''}\n")
    suites = [paths.pop("suite")]
    return SimpleNamespace(**({"suites": suites, "params": PARAMS, "code": "c"} | paths | more))


def test_a_key_names_everything_that_a_result_depends_on(tmp_path):
    edit = replace(UNIT.cells[1].interventions[0], strength=0.5)
    cell = UNIT.cells[1]
    found = [unit_key(job(tmp_path / "same"), UNIT), unit_key(job(tmp_path / "adapterless", adapter=None), UNIT)]
    found += [unit_key(job(tmp_path / name, name), UNIT) for name in FILES]
    for i, settings in enumerate(
        ({"prompts": {"harmful": 3, "benign": 2}}, {"openings": ["Sorry"]}, {"batch_size": 4})
    ):
        found.append(unit_key(job(tmp_path / str(i), params=PARAMS | settings), UNIT))
    longer = PARAMS | {"generate": PARAMS["generate"] | {"max_new_tokens": 32}}
    found.append(unit_key(job(tmp_path / "longer", params=longer), UNIT))
    found.append(unit_key(job(tmp_path / "code", code="d"), UNIT))
    for i, other in enumerate(
        (replace(cell, interventions=(edit,)), replace(cell, generated=True), replace(cell, kl=False))
    ):
        found.append(unit_key(job(tmp_path / f"cell{i}"), Unit("ablate", (UNIT.cells[0], other))))
    assert len(set(found)) == len(found)


def test_a_key_leaves_out_what_concerns_other_cells(tmp_path):
    more = PARAMS | {"generate": PARAMS["generate"] | {"cells": ["ablate:r_only:1:layer:1"], "controls": {"random": 2}}}
    assert unit_key(job(tmp_path / "a"), UNIT) == unit_key(job(tmp_path / "b", params=more), UNIT)


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
    def full(self, text):
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    store = UnitStore(tmp_path)
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(JobError, match=r"no space left on the disk while writing .*a\.json"):
        store.put("a", {})
    assert not list(tmp_path.iterdir())
