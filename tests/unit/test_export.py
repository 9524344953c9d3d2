"""An exported checkpoint is the checkpoint: the same weights, activations, scores and answers, bit for bit."""

import importlib.util
import json
import sys
from pathlib import Path

import complete
import convert_model
import numpy as np
import probe
import pytest
import yaml
from conftest import REQUESTS
from test_adapters import folder, save_adapter  # noqa: F401  (a fixture)
from test_own_families import MODEL, PROBE, SCORES, SETS, run

from safety_geometry.artefacts.carriers import Carrier, CarrierPair, write_carriers
from safety_geometry.artefacts.direction_files import read_direction, read_directions
from safety_geometry.artefacts.integrity import CONFIG, content_digest, sidecar

ROOT = Path(__file__).parents[2]


@pytest.fixture
def export(monkeypatch, tmp_path):
    """workflow/export.py in a project that has results of the smoke study."""
    spec = importlib.util.spec_from_file_location("export", ROOT / "workflow" / "export.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CONFIG, "smoke.yaml")
    (tmp_path / "smoke.yaml").write_text((ROOT / "configs/smoke.yaml").read_text())
    return module


@pytest.fixture
def study(folder, tmp_path):  # noqa: F811
    """The study's base, a checkpoint (r2d2's reference), and prompts."""
    checkpoints = tmp_path / "results/smoke/seed1/checkpoints/r2d2"
    checkpoints.mkdir(parents=True)
    save_adapter(checkpoints / "step1", 5)
    (tmp_path / "results/smoke/models").mkdir()
    (tmp_path / "results/smoke/models/base").symlink_to(folder)
    for artefact in (checkpoints / "step1", tmp_path / "results/smoke/models/base"):
        sidecar(artefact).write_text(json.dumps({"sha256": content_digest(artefact)}))
    for name, more in (("harmful", ""), ("benign", " Be kind.")):
        rows = [{"id": f"p{i}", "prompt": q + more} for i, q in enumerate(REQUESTS)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def asked(export, monkeypatch, checkpoint: str, target: str, *more: str) -> None:
    words = ["export.py", "--configfile", "smoke.yaml", "--checkpoint", checkpoint, "--folder", target, *more]
    monkeypatch.setattr(sys, "argv", words)
    export.main()


def test_an_exported_checkpoint_measures_the_same(export, study, monkeypatch, capsys):
    asked(export, monkeypatch, "r2d2:reference", "out/r2d2_1")
    told = capsys.readouterr().out
    assert told.startswith("r2d2:1 stands in ")
    printed = yaml.safe_load(told.split("\n\n", 1)[1])
    assert printed["sources"]["r2d2_1"] == {"kind": "path", "path": str(study / "out/r2d2_1")}
    assert printed["checkpoints"]["mine"]["steps"] == {1: {"source": "r2d2_1", "format": "folder"}}
    assert "results" not in (study / "out/r2d2_1/config.json").read_text()

    params = {"format": "folder", "dtype": "float32", "threads": 1, "system": None}
    run(monkeypatch, convert_model, params, source=study / "out/r2d2_1", folder=study / "own")
    trained = {
        "model": study / "results/smoke/models/base",
        "adapter": study / "results/smoke/seed1/checkpoints/r2d2/step1",
    }
    sets = {name: study / f"{name.split('_')[1]}.jsonl" for name in SETS}
    asks = {"model": MODEL, "suites": {"direct": 6}, "batch_size": 3, "positions": [-1, "t_inst"], "dtype": "float32"}
    names = ("activations", "scores", "completions", "asked")
    for where, files in (("trained", trained), ("exported", {"model": study / "own"})):
        place = {name: study / where / name for name in names}
        run(
            monkeypatch,
            probe,
            PROBE | SCORES,
            **files,
            **sets,
            activations=place["activations"],
            scores=place["scores"],
        )
        answers = {"completions": place["completions"], "activations": place["asked"]}
        run(monkeypatch, complete, asks, **files, prompts=[study / "harmful.jsonl"], **answers)
    for name in names:
        assert (study / "trained" / name).read_bytes() == (study / "exported" / name).read_bytes(), name


@pytest.mark.parametrize(
    ("checkpoint", "target", "message"),
    [
        ("dpo:4", "out", r"no regime 'dpo'; it has sft, r2d2"),
        ("r2d2:3", "out", r"r2d2 has no step '3'; it has reference, 4, 1, 2"),
        ("r2d2:4", "out", r"step4 is not there: run the study first"),
        ("r2d2:1", "results", r"results exists already"),
    ],
)
def test_what_cannot_be_exported(export, study, monkeypatch, checkpoint, target, message):
    with pytest.raises(SystemExit, match=message):
        asked(export, monkeypatch, checkpoint, target)
    assert not (study / "out").exists()


def test_a_damaged_checkpoint_is_not_exported(export, study, monkeypatch):
    weights = study / "results/smoke/seed1/checkpoints/r2d2/step1/adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(SystemExit, match=r"checkpoints/r2d2/step1 is not what .*make run CONFIG=smoke.yaml"):
        asked(export, monkeypatch, "r2d2:1", "made")
    assert not (study / "made").exists()


@pytest.fixture
def carriers(study):
    """H at layer 2 and R at layer 1 of the checkpoint, and prompts of the roles that a change is measured on."""
    width = json.loads((study / "results/smoke/models/base/config.json").read_text())["hidden_size"]
    rows = np.linalg.qr(np.random.default_rng(0).standard_normal((width, 2)))[0].T.astype(np.float32)
    h, r = (
        Carrier(kind, layer, position, (row / np.linalg.norm(row)).astype(np.float32), 2.0, 1.0, True, row[:, None])
        for kind, layer, position, row in (("H", 2, "t_inst", rows[0]), ("R", 1, -1, rows[1]))
    )
    place = study / "results/smoke/seed1/carriers/r2d2"
    place.mkdir(parents=True)
    write_carriers(place / "carriers.safetensors", {1: CarrierPair("reference", "own", h, r)})
    prompts = study / "results/smoke/private/seed1/prompts"
    prompts.mkdir(parents=True)
    for role, more in (("direct", {}), ("utility", {"must": [["e"]], "min_words": 1})):
        asked = [{"id": f"p{i}", "prompt": text} | more for i, text in enumerate(REQUESTS)]
        (prompts / f"{role}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    made = [place / "carriers.safetensors", *prompts.glob("*.jsonl")]
    for artefact in made:
        sidecar(artefact).write_text(json.dumps({"sha256": content_digest(artefact)}))
    return {"h": h, "r": r}


def test_exported_directions_are_the_carriers(export, study, carriers, monkeypatch, capsys):
    asked(export, monkeypatch, "r2d2:1", "out", "--what", "directions")
    assert "Directions of r2d2:1" in capsys.readouterr().out
    assert {path.name for path in (study / "out").iterdir()} == {
        "directions.safetensors", "h.gguf", "h.pt", "r.gguf", "r.pt",
    }  # fmt: skip
    known = read_directions(study / "out/directions.safetensors")
    for name, carrier in carriers.items():
        assert (known[name].vector == carrier.direction).all()
        assert (known[name].layer, known[name].position) == (carrier.layer, carrier.position)
        for ending in ("gguf", "pt"):
            alone = read_direction(study / f"out/{name}.{ending}")
            assert alone.layer == carrier.layer and (alone.vector == carrier.direction).all()


def test_an_exported_model_without_r_says_what_that_costs(export, study, carriers, monkeypatch, capsys):
    from safety_geometry.models.loading import load_model

    asked(export, monkeypatch, "r2d2:1", "out", "--what", "no-r", "--prompts", "3")
    assert "r2d2:1 without R stands in" in capsys.readouterr().out
    spent = json.loads((study / "out/cost.json").read_text())
    assert (spent["removed"], spent["layer"], spent["harmful"], spent["benign"]) == ("R", 1, 3, 3)
    assert spent["kl"] > 0 and {"refused_harmful_before", "utility_after"} < set(spent)
    model = load_model(study / "out", "float32")
    written = model.model.layers[0].mlp.down_proj.weight.detach().numpy()
    assert np.abs(carriers["r"].direction @ written).max() < 1e-6 < np.abs(carriers["h"].direction @ written).max()


def test_without_carriers_there_is_no_direction(export, study, monkeypatch):
    with pytest.raises(SystemExit, match=r"carriers\.safetensors is not there: run the study first"):
        asked(export, monkeypatch, "r2d2:1", "out", "--what", "directions")


@pytest.mark.parametrize(
    ("folder_name", "name"),
    [
        ("r2d2_30", "r2d2_30"),
        ("my model (v2)", "my_model_v2"),
        ("7", "model_7"),
        ("no", "model_no"),
        ("é", "model_"),
        ("a" * 99, "a" * 50),
    ],
)
def test_the_printed_source_has_a_name_that_a_configuration_may_have(export, folder_name, name):
    assert export.source_name(Path("/somewhere") / folder_name) == name
