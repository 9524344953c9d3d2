"""The GPU of this machine, what of its memory each job may take, and what of it a job's sidecar says."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import _gpu
import pytest
import torch
import yaml
from pipeline import devices
from pipeline.config_file import device_of, read_study
from pipeline.costs.check import PEAK
from pipeline.costs.facts import Facts
from pipeline.costs.rates import read_rates
from pipeline.devices import given_gpus
from pipeline.snakemake_internals import jobs_run_here
from pipeline.stages import Stages
from pipeline.study import Study

ROOT = Path(__file__).parents[2]


def seen(monkeypatch, *gpus, built="13.0"):
    """What torch sees of this machine's GPUs, (name, free, total); the list that each question is put down in."""
    asked = []
    answer = {"built": built, "torch": "2.13.0", "gpus": [dict(zip(FACTS, gpu, strict=True)) for gpu in gpus]}

    def run(command, **_):
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, stdout=json.dumps(answer) + "\n")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv(devices.ASKED, "")  # so that what is set here is taken back
    monkeypatch.delenv(devices.ASKED)
    return asked


FACTS = ("name", "free", "total")
H100 = ("NVIDIA H100 80GB HBM3", 60_000_000_000, 80_000_000_000)


def test_a_gpu_that_is_not_there(monkeypatch):
    asked = seen(monkeypatch)
    assert given_gpus("cpu") is None and not asked
    with pytest.raises(SystemExit, match=r"'cuda': this machine has no GPU .* built for CUDA 13.0. `nvidia-smi` has"):
        given_gpus("cuda")
    seen(monkeypatch, built=None)
    with pytest.raises(SystemExit, match=r"torch 2.13.0 of .* is built for the CPU only. Install the CUDA build"):
        given_gpus("cuda")
    asked = seen(monkeypatch, H100, H100)
    assert given_gpus("cuda:1") == given_gpus("cuda:1") and len(asked) == 1  # a run starts several Snakemakes
    with pytest.raises(SystemExit, match=r"'cuda:2': this machine has 2 GPU\(s\), counted from 0; set another"):
        given_gpus("cuda:2")


def test_the_question_is_answered_here():
    """By this machine's torch, whatever it has."""
    done = subprocess.run([sys.executable, "-c", devices.QUESTION], capture_output=True, encoding="utf-8", check=True)
    assert set(json.loads(done.stdout)) == {"built", "torch", "gpus"}


def test_jobs_share_the_memory_that_is_free(monkeypatch, tmp_path):
    seen(monkeypatch, H100)
    card = given_gpus("cuda")
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    assert card.describe() == "cuda (NVIDIA H100 80GB HBM3, 60 of 80 GB free)" and card.pool == 58_200
    (tmp_path / "control").touch()
    assert card.describe().endswith("80 GB free, shared through MPS)")
    pool = "gpu_mem_mb=58200"
    assert devices.pooled(["snakemake", "-k"], card) == ["snakemake", "-k", "--resources", pool]
    assert devices.pooled(["snakemake"], None) == ["snakemake"]
    assert devices.pooled(["--resources", "a=1", "-k"], card) == ["--resources", pool, "a=1", "-k"]
    chosen = ["--resources", "gpu_mem_mb=9000"]
    assert devices.pooled(chosen, card) == chosen


@pytest.mark.parametrize(
    ("arguments", "here"),
    [([], True), (["-k"], True), (["--executor", "touch"], False), (["--profile", "profiles/slurm"], False),
     (["--sdm", "conda"], False), (["--resources", "gpu_mem_mb=1"], True)],
)  # fmt: skip
def test_whether_jobs_run_here(arguments, here):
    assert jobs_run_here(arguments) == here


def test_the_device_of_a_configuration():
    smoke = ROOT / "configs/smoke.yaml"
    assert device_of(smoke, []) == "cpu"
    assert device_of(smoke, ["model={device: cuda:1}", "seeds=[3]"]) == "cuda:1"


def test_the_gpu_study_is_as_large_as_one_gpu_allows():
    study = read_study(ROOT / "configs/gpu.yaml")
    config, roles = study.config, study.config["prompts"]["roles"]
    assert min(roles[name]["n"] for name in ("direct", "lookalike")) >= 150 and len(study.seeds) == 3
    assert config["model"]["device"] == "cuda" and config["completions"]["sampled"]["answers"] >= 5
    assert config["attacks"]["behaviours"] >= 24 and config["attacks"]["gcg"]["steps"] >= 100
    assert config["sweep"]["permutations"] >= 500
    assert study.steps("sft") == study.steps("r2d2")  # SFT is saved as densely
    for regime in ("sft", "r2d2"):  # correlations over five sources and five targets, a step once per seed
        assert len(study.at_anchors({regime: config["transfer"]["sources"][regime]})) * 3 >= 5
        assert len(config["transfer"]["targets"][regime]) >= 5


def stages(device: str, share: int) -> Stages:
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    config["model"]["device"] = device
    study = Study(config)
    return Stages(study, Facts(study, read_rates(device, ROOT)), ROOT, share)


ANCHOR = {"regime": "r2d2", "step": "10", "seed": "42"}


def test_a_job_gets_its_share_of_a_card_or_what_it_needs_and_its_command_says_so():
    def stated(device, share):
        return stages(device, share)["completions"].resources["gpu_mem_mb"](ANCHOR, attempt=1)

    alone = stated("cuda", 0)
    assert alone >= 1000  # a GPU of its own: what it needs
    assert stated("cuda", 5000) == 5000 and stated("cuda", alone - 1) == alone
    assert stated("cpu", 5000) == 0
    held = "env GPU_MEM_MB={resources.gpu_mem_mb} python workflow/scripts/complete.py"
    assert stages("cuda", 5000)["completions"].command.startswith(held)
    for device, share in (("cuda", 0), ("cpu", 0)):
        assert stages(device, share)["completions"].command.startswith("python workflow/scripts/complete.py")
    assert "GPU_MEM_MB" not in stages("cuda", 5000)["tables"].command


@pytest.mark.parametrize("given", ["", "0", "4700"])
def test_a_job_is_held_to_its_share_and_says_what_it_took(monkeypatch, capsys, given):
    fractions, at_end, job = [], [], SimpleNamespace(gpu_memory=dict, grows=False)
    monkeypatch.setenv("GPU_MEM_MB", given)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda card: SimpleNamespace(total_memory=80_000_000_000))
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, card: fractions.append((share, card))
    )
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda card: 2_345_678_901)
    monkeypatch.setattr(_gpu.atexit, "register", at_end.append)
    _gpu.share(job, {"device": "cpu", "grow_batches": True})
    assert not job.grows and job.gpu_memory() == {}
    _gpu.share(job, {"device": "cuda", "grow_batches": True})
    assert fractions == ([((4700 - _gpu.CONTEXT) / 80_000, 0)] if given == "4700" else [])  # torch wants a number
    assert job.gpu_memory() == {"given_mb": int(given or 0), "peak_mb": 3100} and job.grows
    at_end[0]()
    assert PEAK.search(capsys.readouterr().out)[1] == "2346"
    _gpu.share(job, {"device": "cuda", "grow_batches": False})
    assert not job.grows
    monkeypatch.setenv("WORLD_SIZE", "2")
    _gpu.share(job, {"device": "cuda", "grow_batches": True})
    assert not job.grows


GRAPH = """
rule all:
    input: expand("{job}.txt", job=["a", "b", "c", "whole"])
rule one:
    output: "{job}.txt"
    resources: gpu_mem_mb=lambda wildcards, attempt: 99000 if wildcards.job == "whole" else 6000
    shell: "echo start $(date +%s.%N) {resources.gpu_mem_mb} > {output}; sleep 1; echo stop $(date +%s.%N) >> {output}"
"""


def test_snakemake_starts_jobs_as_the_pool_has_room_and_cuts_the_largest_to_it(tmp_path):
    """What sharing a card rests on."""
    (tmp_path / "Snakefile").write_text(GRAPH)
    arguments = ["--cores", "4", "--resources", "gpu_mem_mb=13000"]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    changes, given = [], {}
    for path in tmp_path.glob("*.txt"):
        (_, begun, given[path.stem]), (_, ended) = (line.split() for line in path.read_text().splitlines())
        changes += [(float(begun), int(given[path.stem])), (float(ended), -int(given[path.stem]))]
    assert given == {"a": "6000", "b": "6000", "c": "6000", "whole": "13000"}
    held = most = 0
    for _, change in sorted(changes):
        most = max(most, held := held + change)
    assert most <= 13000
