"""The smoke study, made once a session in a scratch folder, and copies of it that a test may change.

SMOKE_RUN=FOLDER takes a folder in which the study was made before (the tests copy it and leave it alone).
"""

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from harness import Finished, copy_project, make_run

TERMINAL, STATUS = "terminal.txt", "status.txt"  # of the finished study: what was shown, and how it ended


@pytest.fixture(scope="session")
def finished(tmp_path_factory, worker_id) -> Finished:
    """The smoke study, made by `make run`'s wrapper. Read only: use `study` to change something."""
    if given := os.environ.get("SMOKE_RUN"):
        return read(Path(given))
    scratch = tmp_path_factory.getbasetemp()
    if worker_id != "master":  # the workers share one: the first that asks makes it, the others wait
        scratch = scratch.parent
    folder = scratch / "finished" / "project"
    with FileLock(scratch / "finished.lock"):
        if not (folder / TERMINAL).exists():
            done = make_run(copy_project(folder))
            (folder / TERMINAL).write_text(done.stdout)
            (folder / STATUS).write_text(str(done.returncode))
    if (folder / STATUS).read_text() != "0":
        pytest.fail(f"the smoke study failed:\n{(folder / TERMINAL).read_text()[-6000:]}", pytrace=False)
    return read(folder)


def read(folder: Path) -> Finished:
    return Finished(folder, (folder / TERMINAL).read_text())


@pytest.fixture
def study(finished, tmp_path) -> Path:
    """A copy of the finished study with its file times and Snakemake's records."""
    return Path(shutil.copytree(finished.folder, tmp_path / "study", symlinks=True))


@pytest.fixture
def project(tmp_path) -> Path:
    """The project without results."""
    return copy_project(tmp_path / "project")
