"""The smoke study, made once a session in a scratch folder, and copies of it that a test may change.

SMOKE_RUN=FOLDER takes a folder in which the study was made before (the tests copy it and leave it alone).
"""

import os
import shutil
from pathlib import Path

import pytest
from harness import Finished, copy_project, make_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Finished:
    """The smoke study, made by `make run`'s wrapper. Read only: use `study` to change something."""
    terminal = "terminal.txt"
    if given := os.environ.get("SMOKE_RUN"):
        return Finished(Path(given), (Path(given) / terminal).read_text())
    folder = copy_project(tmp_path_factory.mktemp("finished") / "project")
    done = make_run(folder)
    (folder / terminal).write_text(done.stdout)
    if done.returncode:
        pytest.fail(f"the smoke study failed:\n{done.stdout[-6000:]}", pytrace=False)
    return Finished(folder, done.stdout)


@pytest.fixture
def study(finished, tmp_path) -> Path:
    """A copy of the finished study with its file times and Snakemake's records."""
    return Path(shutil.copytree(finished.folder, tmp_path / "study", symlinks=True))


@pytest.fixture
def project(tmp_path) -> Path:
    """The project without results."""
    return copy_project(tmp_path / "project")
