"""Conda for real: the environments of envs/ are solved and installed, and the smoke study runs in them.

No conda and no conda-forge: `conda` is tests/hpc/conda/front_end.py (py-rattler's solver), and python and pip come from a channel
made of this interpreter. CONDA_TOOLS=PYTHON is an interpreter with requirements/conda-test.txt; CONDA_FOLDER keeps what is built.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness import CORES, ROOT, SMOKE, command, copy_project, environment, make_run
from test_environments import RULES, environments, pinned_interpreter

pytestmark = [pytest.mark.conda, pytest.mark.study]

HERE = Path(__file__).parent / "conda"


@pytest.fixture(scope="module")
def conda(tmp_path_factory) -> dict[str, str]:
    """Environment variables with which `conda` is the stand-in."""
    tools = os.environ.get("CONDA_TOOLS")
    if not tools:
        pytest.skip("no interpreter with py-rattler: run it as make test-conda")
    if sys.version.split()[0] != pinned_interpreter()[0] or sys.platform != "linux":
        pytest.skip(f"the channel is made of a Python {pinned_interpreter()[0]} on Linux, which envs/ ask for")
    folder = Path(os.environ.get("CONDA_FOLDER") or tmp_path_factory.mktemp("conda")).resolve()
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    (folder / "bin/conda").write_text(f'#!/bin/sh\nexec {tools} {HERE / "front_end.py"} "$@"\n')
    (folder / "bin/conda").chmod(0o755)
    (folder / "bin/activate").write_text('export CONDA_PREFIX="$1" PATH="$1/bin:$PATH"\n')
    path = f"{folder / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    if not (folder / "channel").exists():
        patchelf = f"{Path(tools).parent}{os.pathsep}{path}"
        subprocess.run(
            [tools, str(HERE / "channel.py"), str(folder / "channel")], env=environment(PATH=patchelf), check=True
        )
    return {"PATH": path, "CONDA_STAND_IN": str(folder)}


def snakemake(
    folder: Path, conda: dict[str, str], config: str, *arguments: str, **extra: str
) -> subprocess.CompletedProcess:
    return command(
        folder, "-m", "snakemake", "--configfile", config, "--cores", str(CORES), "--sdm", "conda", "--conda-prefix",
        f"{conda['CONDA_STAND_IN']}/environments", *arguments, **(conda | extra),
    )  # fmt: skip


@pytest.fixture(scope="module")
def realised(conda, tmp_path_factory) -> Path:
    """The three environments, made as on a login node: no job runs."""
    folder = copy_project(tmp_path_factory.mktemp("conda") / "project")
    done = snakemake(folder, conda, "config.yaml", "--conda-create-envs-only")
    assert done.returncode == 0, done.stdout[-4000:]
    assert not (folder / "results").exists()
    made = sorted(Path(conda["CONDA_STAND_IN"]).glob("environments/*_/bin/python"))
    assert len(made) == len(list((ROOT / "envs").glob("*.yaml")))
    return folder


def interpreter(environment: str, conda: dict[str, str]) -> Path:
    text = (ROOT / "envs" / f"{environment}.yaml").read_text()
    (copy,) = [p for p in Path(conda["CONDA_STAND_IN"]).glob("environments/*_.yaml") if p.read_text() == text]
    return copy.with_suffix("") / "bin/python"


@pytest.mark.parametrize(("script", "name"), sorted(RULES))
def test_a_script_starts_in_its_environment(script, name, realised, conda):
    """Everything that its modules import at their top is there."""
    told = subprocess.run(
        [interpreter(name, conda), f"workflow/scripts/{script}.py", "--help"], cwd=realised, env={"PYTHONPATH": "src"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr[-2000:]


def test_each_environment_has_its_pins_and_can_import(realised, conda):
    """What pip installed is what the file says; the interpreter is the environment's own."""
    for file in (ROOT / "envs").glob("*.yaml"):
        pins = {f"{package}=={version}" for package, version in environments()[file.stem].items()}
        (copy,) = [
            p for p in Path(conda["CONDA_STAND_IN"]).glob("environments/*_.yaml") if p.read_text() == file.read_text()
        ]
        python = copy.with_suffix("") / "bin/python"
        told = subprocess.run(
            [python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        installed = {line.split("+")[0].lower().replace("_", "-") for line in told}
        assert pins <= installed, file.name
        assert subprocess.run([python, "-m", "pip", "check"], check=False).returncode == 0


def test_the_smoke_study_in_conda_environments_has_the_same_tables(realised, conda, tmp_path):
    """Without an index, as on a compute node: every environment is there. SMOKE_RUN=FOLDER takes a local run made before."""
    if given := os.environ.get("SMOKE_RUN"):
        local = Path(given)
    else:
        local = copy_project(tmp_path / "local")
        done = make_run(local)
        assert done.returncode == 0, done.stdout[-4000:]
    done = snakemake(realised, conda, SMOKE, PIP_NO_INDEX="1")
    assert done.returncode == 0, done.stdout[-6000:]
    assert "Creating conda environment" not in done.stdout
    tables = sorted(p.name for p in (local / "results/smoke/tables").glob("*.csv"))
    assert len(tables) > 15
    differ = [
        name
        for name in tables
        if (local / "results/smoke/tables" / name).read_bytes()
        != (realised / "results/smoke/tables" / name).read_bytes()
    ]
    assert differ == []
    # The sidecars tell what the jobs could see: torch where a model runs, and nowhere else.
    results = realised / "results/smoke"
    packages = {
        path.name: json.loads(path.read_text())["packages"]
        for path in (
            results / "tables/claims.csv.provenance.json",
            results / "private/seed1/clean_rows.jsonl.provenance.json",
        )
    }
    assert "torch" not in packages["claims.csv.provenance.json"]
    assert "torch" in packages["clean_rows.jsonl.provenance.json"]
    assert "matplotlib" not in packages["clean_rows.jsonl.provenance.json"]
