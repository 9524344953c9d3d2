"""Copies of the project, and how the tests run it."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ("Snakefile", "config.yaml", "configs", "data", "docs", "envs", "profiles", "src", "workflow")
SMOKE = "configs/smoke.yaml"
# What the smoke study ends in.
TABLES = ("five_anchor", "trajectory", "behaviour", "contrasts", "coupling", "coupling_controls", "geometry", "profile",
          "training", "claims", "reference_anchors", "leakage", "quadrants", "attacks", "transfer", "transfer_predictors",
          "dense_correlations", "coupling_transition", "attack_arms", "source_choice")  # fmt: skip
FIGURES = (
    "five_anchor",
    "trajectory",
    "layer_profile",
    "selection",
    "training_curves",
    "geometry",
    "coupling_controls",
    "quadrants",
    "attacks",
)
ATTACK_FIGURES = ("transfer", "transfer_predictors", "dense")
CAUSAL_TABLES = ("causal_sweep", "control_normalised", "sweep_pooled", "layer_scan", "aligned_anchors", "follow_up")
CAUSAL_FIGURES = ("causal_layers", "dose_response", "control_effects", "aligned_anchors", "follow_up")
CORES = min(2, os.cpu_count() or 1)


def environment(**extra: str) -> dict[str, str]:
    """This environment with the interpreter's folder first on PATH, and with bytecode (without it every start is slow)."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"} | extra


def copy_project(folder: Path) -> Path:
    """What the workflow needs and nothing that a run has made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PROJECT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / name)
    return folder


def command(folder: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program in `folder`, its two streams in one."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment(**extra), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def snakemake(folder: Path, *arguments: str, config: str = SMOKE) -> subprocess.CompletedProcess[str]:
    return command(folder, "-m", "snakemake", "--configfile", config, "--cores", str(CORES), *arguments)


def make_run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`make run` on the smoke study, without making the environment."""
    return command(folder, "workflow/run.py", "--configfile", SMOKE, "--cores", str(CORES), *arguments)


@dataclass(frozen=True)
class Finished:
    """A finished smoke study: the project's copy, and what the terminal showed."""

    folder: Path
    terminal: str

    @property
    def results(self) -> Path:
        return self.folder / "results" / "smoke"
