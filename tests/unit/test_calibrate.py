"""benchmarks/calibrate.py on a tiny model: rates that the cost model can read."""

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import make_model
from pipeline.config_file import read_config, written
from pipeline.costs.peaks import PEAKS, above_peak
from pipeline.costs.rates import RatesError, read_rates

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
    assert "no published peak of CPU is known" in printed


def test_a_rate_above_the_cards_peak_is_an_error_and_is_not_written(calibrate, tmp_path, monkeypatch):
    """5,393 GB/s of an H100, which has 3,350, as a matrix in the cache once gave."""
    config = read_config(ROOT / "configs/smoke.yaml")
    (tmp_path / "config.yaml").write_text(written(config))
    rates = {"forward": 40e12, "train": 40e12, "decode": 1e12, "bandwidth": 5.393e12, "launch": 1e-3, "start": 5.0}
    monkeypatch.setattr(calibrate, "measure", lambda *_: rates | {"load": 1e9, "assumed": []})
    monkeypatch.setattr(calibrate, "named", lambda device: "NVIDIA H100 80GB HBM3")
    out = tmp_path / "rates.json"
    monkeypatch.setattr(sys, "argv", ["x", "--configfile", str(tmp_path / "config.yaml"), "--json", str(out)])
    with pytest.raises(SystemExit, match="bandwidth is 5393 GB/s, and a NVIDIA H100 80GB HBM3 has 3350 at the most"):
        calibrate.main()
    assert not out.exists()
    rates["bandwidth"] = 3e12
    calibrate.main()
    assert json.loads(out.read_text())["devices"][0]["card"] == "NVIDIA H100 80GB HBM3"


@pytest.mark.parametrize("hidden", [True, False])
def test_launches_do_not_count_as_operations(calibrate, hidden):
    """A device of 1,000 rows a second whose passes take .1 s of launches, beside the work or besides it."""
    timed = lambda action: action()  # noqa: E731
    took = lambda rows: max(0.1, rows / 1000) if hidden else 0.1 + rows / 1000  # noqa: E731
    assert calibrate.rows_a_second(took, 16, took(1), timed) == pytest.approx(1000, rel=0.01)

    def small(rows):
        if rows > 100:
            raise calibrate.torch.OutOfMemoryError
        return took(rows)

    assert calibrate.rows_a_second(small, 16, took(1), timed) <= 1000  # memory ended before: what the largest pass gave


def test_bandwidth_is_measured_beyond_the_cache(calibrate, monkeypatch, tmp_path):
    for name, size in (("index0", "32K"), ("index3", "96M")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "size").write_text(f"{size}\n")
    assert calibrate.last_cache(tmp_path) == 96 * 2**20 and calibrate.last_cache(tmp_path / "none") == 0
    cpu = calibrate.torch.device("cpu")
    monkeypatch.setattr(calibrate, "last_cache", lambda: 32 * 2**20)
    assert calibrate.beyond_the_cache(cpu) == 32 * 32 * 2**20
    monkeypatch.setattr(calibrate.psutil, "virtual_memory", lambda: SimpleNamespace(available=1e8))
    assert calibrate.beyond_the_cache(cpu) == 5e7
    read = []
    monkeypatch.setattr(calibrate.torch, "mv", lambda matrix, vector: read.append(matrix.numel() * 4))
    assert calibrate.stream_bandwidth("float32", cpu, lambda action: action() or 0.5) == read[0] / 0.5
    assert 4.9e7 < read[0] <= 5e7


def test_peaks_are_those_of_the_dtype(tmp_path):
    for unlisted in ("CPU, one thread", "NVIDIA H100 PCIe", "NVIDIA H100 NVL"):  # another card than the listed H100
        assert unlisted not in PEAKS and above_peak(unlisted, "float32", {"forward": 1e20}) == []
    rates = {"forward": 100e12, "train": 60e12, "decode": 1e12, "bandwidth": 3e12}
    assert above_peak("NVIDIA H100 80GB HBM3", "bfloat16", rates) == []
    assert [fault.split()[0] for fault in above_peak("NVIDIA H100 80GB HBM3", "float32", rates)] == ["forward"]
    assert above_peak("NVIDIA H100 80GB HBM3", "float32", rates, tf32=True) == []
    wrong = {"name": "mine", "card": "NVIDIA A100-SXM4-80GB", "kind": "cuda", "dtype": "bfloat16"} | rates
    (tmp_path / "rates.json").write_text(json.dumps({"devices": [wrong]}))
    with pytest.raises(RatesError, match=r"rates of mine are wrong: bandwidth is 3000 GB/s.*calibrate again"):
        read_rates("cuda", tmp_path, files=[tmp_path / "rates.json"])
