"""Training jobs of several processes: who decides how many, what they leave behind, and what happens when one fails."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from harness import ROOT, SMOKE, copy_project, environment, snakemake
from pipeline.combinations import check_combinations
from pipeline.config_check import ConfigError
from pipeline.config_file import read_config
from pipeline.identity import Job
from pipeline.stages.training import segment
from pipeline.study import Study
from plans import change
from safetensors.torch import load_file

LAUNCH = "accelerate launch --config_file workflow/accelerate.yaml --num_processes"
SEED = "results/smoke/seed1"
STATE = "results/smoke/private/seed1/training/r2d2/{}/state.safetensors"


def of(device: str = "cpu", **train) -> Study:
    config = read_config(ROOT / SMOKE)
    config["model"]["device"] = device
    config["train"] |= train
    return Study(config)


def test_the_number_of_gpus_decides_and_then_the_configuration():
    assert of().launcher(0) == of("cuda").launcher(0) == of("cuda").launcher(1) == ""
    assert of("cuda").launcher(4) == f"{LAUNCH} 4 --no_python "
    assert of("cuda", processes=2).launcher(1) == f"{LAUNCH} 2 --no_python "  # which then says that there is one GPU
    assert of("cuda", processes=2).launcher(4) == f"{LAUNCH} 4 --no_python "
    assert of(processes=2).launcher(4) == f"{LAUNCH} 2 --no_python "  # a GPU is no use to a job on the CPU
    assert of(processes=2, sharding="full").launcher(0) == f"{LAUNCH} 2 --use_fsdp --no_python "
    assert of(sharding="full").launcher(0) == ""
    for changed in (of(processes=2), of(sharding="full")):
        first = Job(1, "r2d2", group=changed.segments("r2d2")[0])
        assert segment(changed, first) == segment(of(), first)  # what is trained is not trained again


@pytest.mark.parametrize(
    ("device", "processes", "said"),
    [("cpu", 3, "regime sft has 2 rows to share"), ("cuda:1", 2, "model.device = 'cuda:1': is one GPU")],
)
def test_what_cannot_be_shared_is_refused(device, processes, said):
    with pytest.raises(ConfigError, match=said):
        check_combinations(of(device, processes=processes))
    check_combinations(of("cuda", processes=2))


def test_a_failing_process_ends_the_others_and_the_job(tmp_path):
    script = tmp_path / "fails.py"
    script.write_text(
        "import sys, time\n"
        "from safety_geometry.models.processes import launched\n"
        "with launched('cpu') as ranks:\n"
        "    ranks.sum(1.0)\n"
        "    if not ranks.first:\n"
        "        sys.exit('error: something is wrong with process 1')\n"
        "    time.sleep(300)\n"  # busy, not even in an exchange
    )
    command = f"{LAUNCH} 2 --no_python {sys.executable} {script}".split()
    begun = time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, env=environment(PYTHONPATH="src"), text=True, capture_output=True, check=False, timeout=200
    )
    assert done.returncode == 1 and "error: something is wrong with process 1" in done.stderr
    assert time.monotonic() - begun < 150


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, Path]:
    """The smoke study's r2d2 regime without dropout: by one process; then by two, the second segment with sharded weights."""
    folder = copy_project(tmp_path_factory.mktemp("trained") / "project")
    change(folder, "lora.dropout", 0.0)

    def train(to: int, *again: str) -> None:
        done = snakemake(folder, STATE.format(to), *again)
        logs = "\n".join(p.read_text()[-3000:] for p in (folder / SEED / "logs/train").glob("*.log"))
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{logs}"

    train(4)
    one = Path(shutil.copytree(folder / "results", tmp_path_factory.mktemp("one") / "results")).parent
    change(folder, "train.processes", 2)
    idle = snakemake(folder, STATE.format(4), "-n")
    assert "Nothing to be done" in idle.stdout, idle.stdout[-3000:]  # what is trained is not trained again
    train(2, "--forcerun", "train__r2d2__0_2")
    change(folder, "train.sharding", "full")
    train(4, "--forcerun", "train__r2d2__2_4")
    return {"one": one, "two": folder}


@pytest.mark.slow
@pytest.mark.long
def test_two_processes_train_the_smoke_study_as_one_does(trained):
    """Through the rule and the launcher, over two segments, in float32."""
    one, two = trained["one"], trained["two"]
    for step in (1, 2, 4):
        plain, shared = (
            load_file(f / SEED / f"checkpoints/r2d2/step{step}/adapter_model.safetensors") for f in (one, two)
        )
        assert plain.keys() == shared.keys()
        for key in plain:
            assert (plain[key] - shared[key]).norm() <= 0.02 * plain[key].norm() + 1e-6, (step, key)
        assert any(not torch.equal(plain[key], shared[key]) for key in plain)  # it was not the same process
        record = json.loads((two / SEED / f"checkpoints/r2d2/step{step}.provenance.json").read_text())
        assert record["params"]["processes"] == 2 and record["params"]["sharded"] is (step == 4)
    progress = [json.loads((f / Path(STATE.format(4)).with_name("progress.json")).read_text()) for f in (one, two)]
    texts = [[(c["slot"], c["behaviour"], c["text"], c["updates"]) for c in p["pool"]] for p in progress]
    assert texts[0] == texts[1] and any(updates for *_, updates in texts[0])
    record = json.loads((one / SEED / "checkpoints/r2d2/step4.provenance.json").read_text())
    assert "processes" not in record["params"]
