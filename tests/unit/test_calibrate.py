"""benchmarks/calibrate.py on a tiny model: rates that the cost model can read."""

import importlib.util
import json
import math
import sys
from pathlib import Path

import pytest
from conftest import make_model
from pipeline.config_file import read_config, written
from pipeline.costs.rates import read_rates

ROOT = Path(__file__).parents[2]


@pytest.fixture
def calibrate(monkeypatch):
    spec = importlib.util.spec_from_file_location("calibrate", ROOT / "benchmarks" / "calibrate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "start_seconds", lambda clock: 1.5)
    return module


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("large", [False, True])
def test_rates_of_this_machine(calibrate, tmp_path, monkeypatch, capsys, there, large):
    if large:  # too large to be written, were it not there
        monkeypatch.setattr(calibrate, "LARGE", 0)
    config = read_config(ROOT / "configs/smoke.yaml")
    monkeypatch.setattr(calibrate, "ROOT", tmp_path)
    if there:  # the study's own model, fetched before
        make_model("llama").save_pretrained(tmp_path / "results/smoke/models/base")
        del config["model"]["tiny"]
        config["model"] |= {"format": "folder", "source": "mine"}
        config["sources"]["mine"] = {"kind": "path", "path": "there"}
    (tmp_path / "config.yaml").write_text(written(config))
    out = tmp_path / "rates.json"
    out.write_text(json.dumps({"devices": [{"name": "another", "kind": "cuda"}]}))
    words = [
        "calibrate.py",
        "--configfile",
        tmp_path / "config.yaml",
        "--seconds",
        "0.01",
        "--name",
        "mine",
        "--json",
        out,
    ]
    monkeypatch.setattr(sys, "argv", [*map(str, words), "--clock", "wall" if there else "cpu"])
    calibrate.main()
    rates = read_rates("cpu", tmp_path, files=[out])
    assert (rates.name, rates.kind, rates.measured, rates.start) == ("mine", "cpu", True, 1.5)
    for name in ("forward", "train", "decode", "bandwidth", "launch", "load"):
        assert math.isfinite(getattr(rates, name)) and getattr(rates, name) > 0, name
    printed = capsys.readouterr().out
    assert "4 layers of width 32" in printed or not there
    assert list(rates.assumed) == (["load"] if large and not there else [])
    assert ("(assumed:" in printed) == bool(rates.assumed) and (not rates.assumed or rates.load == calibrate.DISK)
    assert [d["name"] for d in json.loads(out.read_text())["devices"]] == ["mine", "another"]
