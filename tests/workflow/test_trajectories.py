"""A trajectory that is one pattern, from a hub on this machine: what is fetched, what is on the disk meanwhile, what stays."""

import json
import sys
from pathlib import Path

import pytest
import yaml
from harness import ROOT, SMOKE, snakemake
from plans import planned
from safetensors.torch import load_file, save_file

from safety_geometry.models.tiny import write_tiny_model

sys.path.insert(0, str(ROOT / "tests" / "unit"))
from hub_server import Hub, serving

STEPS = [10, 20, 30, 40, 50, 60]
SOURCE = {"kind": "hub", "repo": "me/run", "revision": "main", "subfolder": "step-{step:04d}"}
MODELS = "results/smoke/models/mine"


def write(project: Path, **changes) -> None:
    """The smoke study with the trajectory beside its regimes."""
    config = yaml.safe_load((ROOT / SMOKE).read_text())
    config["checkpoints"] = {
        "mine": {"reference": 10, "anchors": [], "source": SOURCE, "steps": STEPS, "keep": "none"} | changes
    }
    (project / SMOKE).write_text(yaml.safe_dump(config, sort_keys=False))


def activations(steps: list[int]) -> list[str]:
    folder = "results/smoke/seed1/activations/mine"
    return [f"{folder}/step{s}.safetensors" if s == 10 else f"{folder}/saves/step{s}.safetensors" for s in steps]


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> dict[str, bytes]:
    """Tiny models in a folder each: the second one in two files, all of them beside what nobody needs."""
    files = {}
    for step in [*STEPS, 70]:
        folder = tmp_path_factory.mktemp("model")
        write_tiny_model(
            folder,
            ["Bake bread", "system\nuser\nassistant\n"] * 20,
            seed=step,
            vocabulary=600,
            hidden=32,
            layers=6,
            heads=4,
        )
        if step == 20:
            split(folder)
        (folder / "optimizer.pt").write_bytes(b"x" * 1000)
        files |= {f"step-{step:04d}/{path.name}": path.read_bytes() for path in folder.iterdir()}
    return files


def split(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    halves = {
        "model-00001-of-00002.safetensors": dict(sorted(tensors.items())[::2]),
        "model-00002-of-00002.safetensors": dict(sorted(tensors.items())[1::2]),
    }
    for name, part in halves.items():
        save_file(part, folder / name, metadata={"format": "pt"})
    names = {tensor: name for name, part in halves.items() for tensor in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize("keep", ["none", "all"])
def test_the_plan_has_a_fetch_and_a_model_for_each_step(project, keep):
    write(project, keep=keep)
    jobs = planned(project)
    fetched = {"none": "fetch_passing", "all": "fetch_source"}[keep]
    made = {"none": "convert_passing", "all": "convert_model"}[keep]
    for stays, passes, key, name in (
        ("fetch_source", fetched, "name", "mine_step"),
        ("convert_model", made, "model", "mine/step"),
    ):
        assert [w[key] for rule, w in jobs if rule == stays and w[key] == f"{name}10"] == [f"{name}10"]
        assert sorted(w[key] for rule, w in jobs if rule == passes and w[key] != f"{name}10") == [
            f"{name}{s}" for s in STEPS[1:]
        ]
    assert {rule for rule, _ in jobs if rule.startswith(("fetch_", "convert_"))} == {
        fetched,
        made,
        "fetch_source",
        "convert_model",
    }
    assert sum(rule.startswith("probe_saves__mine") for rule, _ in jobs) == len(STEPS) - 1


class Watched(list):
    """The hub's log, which notes at each file of weights what models lie on the disk."""

    def __init__(self, folder: Path):
        super().__init__()
        self.folder, self.seen = folder, []

    def append(self, request) -> None:
        super().append(request)
        if request[0] == "GET" and request[1].endswith(".safetensors"):
            self.seen.append(sorted(path.name for path in self.folder.glob("step*") if path.is_dir()))


@pytest.mark.long
def test_few_models_are_on_the_disk_at_a_time_and_none_at_the_end(project, tmp_path, monkeypatch, repository):
    for name, value in (("HF_HOME", str(tmp_path / "home")), ("HF_HUB_DISABLE_XET", "1"), ("HF_HUB_OFFLINE", "0")):
        monkeypatch.setenv(name, value)
    write(project)
    with serving(Hub({"me/run": {"a" * 40: repository}})) as hub:
        hub.log = Watched(project / MODELS)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        done = snakemake(project, *activations(STEPS))
        assert done.returncode == 0, done.stdout[-6000:]
        weights = [path for method, path, _ in hub.log if method == "GET" and path.endswith(".safetensors")]
        assert len(weights) == len(set(weights)) == len(STEPS) + 1  # one of them in two files
        assert not [path for _, path, _ in hub.log if path.endswith("optimizer.pt")]
        assert max(map(len, hub.log.seen)) <= 3  # the first, and those that are fetched ahead; the next one is coming
        assert all((project / file).exists() for file in activations(STEPS))
        assert [path.name for path in (project / MODELS).glob("step*") if path.is_dir()] == [
            "step10"
        ]  # the first stays
        left = [path.name for path in (project / "results/smoke/private/sources").glob("*") if path.is_dir()]
        assert left == ["mine_step10"] and not list((project / "results/smoke/private/sources").glob(".*.download"))
        cached = [path.resolve().stat().st_size for path in (tmp_path / "home").rglob("*.safetensors")]
        assert len(cached) == 1  # in the user's cache is the first
        again = snakemake(project, "-n", *activations(STEPS))
        assert "Nothing to be done" in again.stdout, again.stdout[-3000:]

        hub.log.clear()
        write(project, steps=[*STEPS, 70])  # compared with the first, which is still there
        done = snakemake(project, *activations([*STEPS, 70]))
        assert done.returncode == 0, done.stdout[-6000:]
        fetched = {path.split("/")[-2] for _, path, _ in hub.log if path.endswith(".safetensors")}
        assert fetched == {"step-0070"}


@pytest.mark.slow
def test_a_missing_step_ends_the_run_with_its_name(project, tmp_path, monkeypatch, repository):
    for name, value in (("HF_HOME", str(tmp_path / "home")), ("HF_HUB_DISABLE_XET", "1"), ("HF_HUB_OFFLINE", "0")):
        monkeypatch.setenv(name, value)
    write(project, steps=[10, 80])
    with serving(Hub({"me/run": {"a" * 40: repository}})) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        done = snakemake(project, "results/smoke/private/sources/mine_step80")
    assert done.returncode == 1
    log = (project / "results/smoke/logs/fetch_passing/mine_step80.log").read_text()
    assert "error: checkpoints.mine.source: model me/run at revision main, folder step-0080, is not there" in log
    assert "models are in step-00" in log and "Traceback" not in log
