"""probe.py and probe_saves.py on a tiny model: a save probed in a group is the save probed alone."""

import json
import sys

import _activations
import probe
import probe_saves
import pytest
from _job import JobError
from conftest import REQUESTS
from safetensors.numpy import load_file
from test_adapters import folder, save_adapter  # noqa: F401  (a fixture)

from safety_geometry.activations import T_INST

PARAMS = {
    "model": {"dtype": "float32", "device": "cpu", "threads": 1, "system": None},
    "positions": [-2, -1], "dtype": "float32", "batch_size": 4, "keep": "all",
}  # fmt: skip
SCORING = {"layers": [1, 2], "max_layer_fraction": None, "candidate_positions": [-2, -1], "validation": 3,
           "coefficient": 1.0, "evaluation_share": 0.3, "score_batch": 8}  # fmt: skip


@pytest.fixture(scope="module")
def study(folder, tmp_path_factory):  # noqa: F811
    """Base model, three adapters and the four sets of prompts."""
    root = tmp_path_factory.mktemp("study")
    (root / "base").symlink_to(folder)
    for step in (1, 2, 3):
        save_adapter(root / f"step{step}", step)
    for number, name in enumerate(("fit_harmful", "fit_benign", "select_harmful", "select_benign")):
        rows = [{"prompt": f"{text} {'please' * number}"} for text in REQUESTS[:5]]
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def run(monkeypatch, script, study, files: dict[str, list], params: dict) -> None:
    sets = {
        name: [study / f"{name}.jsonl"] for name in ("fit_harmful", "fit_benign", "select_harmful", "select_benign")
    }
    words = [script.__name__ + ".py"]
    for name, paths in ({"model": [study / "base"]} | sets | files).items():
        words += [f"--{name.replace('_', '-')}", *map(str, paths)]
    monkeypatch.setattr(sys, "argv", [*words, "--params", json.dumps(params)])
    script.main()


def probed(monkeypatch, study, out, steps, **params) -> dict[int, bytes]:
    """Files of the steps, their sidecars behind them."""
    paths = {step: out / f"step{step}.safetensors" for step in steps}
    files = {"adapters": [study / f"step{step}" for step in steps], "activations": list(paths.values())}
    run(monkeypatch, probe_saves, study, files, PARAMS | params)
    return {s: p.read_bytes() + p.with_name(p.name + ".provenance.json").read_bytes() for s, p in paths.items()}


def test_a_group_gives_each_save_what_it_gets_alone(study, tmp_path, monkeypatch):
    together = probed(monkeypatch, study, tmp_path / "group", [1, 2, 3])
    alone = {step: probed(monkeypatch, study, tmp_path / "alone", [step])[step] for step in (3, 1, 2)}
    assert together == alone and len(set(together.values())) == 3


def test_an_anchor_gives_the_same_activations(study, tmp_path, monkeypatch):
    """A save that becomes an anchor gets scores beside the activations that it had."""
    probed(monkeypatch, study, tmp_path, [1, 2])
    files = {"adapter": [study / "step2"], "activations": [tmp_path / "a"], "scores": [tmp_path / "s"]}
    run(monkeypatch, probe, study, files, PARAMS | SCORING)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "step2.safetensors").read_bytes()
    assert load_file(tmp_path / "s")["layers"].tolist() == [1, 1, 2, 2]


def test_means_only(study, tmp_path, monkeypatch):
    probed(monkeypatch, study, tmp_path / "all", [1])
    probed(monkeypatch, study, tmp_path / "less", [1], keep="anchors", select_position=T_INST)
    whole, less = (_activations.Activations(tmp_path / name / "step1.safetensors") for name in ("all", "less"))
    assert whole.per_prompt and not less.per_prompt
    for label in ("harmful", "benign"):
        assert (whole.mean(label) == less.mean(label)).all()
        assert (whole.select(label, T_INST) == less.select(label, T_INST)).all()
    with pytest.raises(JobError, match=r"no tensor 'select\.harmful\.-1'"):
        less.select("harmful", -1)


def test_as_many_adapters_as_files(study, tmp_path, monkeypatch):
    files = {"adapters": [study / "step1", study / "step2"], "activations": [tmp_path / "a"]}
    with pytest.raises(JobError, match="1 activation files for 2 adapters"):
        run(monkeypatch, probe_saves, study, files, PARAMS)
