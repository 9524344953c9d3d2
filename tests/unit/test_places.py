"""Folders that cannot be written are named in a sentence before any job; a home that cannot be is done without."""

import errno
import os
import subprocess
from pathlib import Path

import pytest
from fake_runs import PLAN, Folder
from pipeline import places


def refuse(monkeypatch, folder: Path, number: int = errno.EROFS) -> None:
    """Nothing can be made in a folder, as on a file system that is read-only, or full: rights do not bind root."""

    def blocked(path: Path) -> bool:
        return path == folder.resolve() or folder.resolve() in path.parents

    make, temporary = Path.mkdir, places.tempfile.TemporaryFile

    def mkdir(self, *arguments, **options):
        if blocked(self.resolve()) and not self.is_dir():
            raise OSError(number, os.strerror(number))
        make(self, *arguments, **options)

    def temporary_file(dir):
        if blocked(Path(dir).resolve()):
            raise OSError(number, os.strerror(number))
        return temporary(dir=dir)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(places.tempfile, "TemporaryFile", temporary_file)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    for name in ("project", "home", "tmp", "cache"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    for name in ("XDG_CACHE_HOME", "MPLCONFIGDIR", "HF_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # so that what is set here is taken back
        monkeypatch.delenv(name)
    return tmp_path


RESULTS = Path("results/my")


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES, errno.EDQUOT])
@pytest.mark.parametrize(
    ("folder", "variable"), [("project/.snakemake", ""), ("project/results", ""), ("project/results/my/logs", ""), ("tmp", "set TMPDIR"),
                             ("cache", "set XDG_CACHE_HOME")],
)  # fmt: skip
def test_a_folder_that_is_read_only_or_full(here, monkeypatch, folder, variable, number):
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    refuse(monkeypatch, here / folder, number)
    with pytest.raises(SystemExit) as refused:
        places.check_places(RESULTS)
    message = str(refused.value)
    assert folder.removeprefix("project/") in message and os.strerror(number) in message and variable in message
    assert "\n" not in message


def test_a_file_or_a_broken_link_in_the_place_of_the_results(here):
    Path("results").write_text("")
    with pytest.raises(SystemExit, match="the folder results cannot be written: it is a file"):
        places.check_places(RESULTS)
    Path("results").unlink()
    Path("results").symlink_to(here / "gone")
    with pytest.raises(
        SystemExit, match=r"results cannot be written: it is a link to .*/gone, where there is no folder"
    ):
        places.check_places(RESULTS)
    (here / "gone").mkdir()
    Path("results/my").symlink_to("nothing")
    with pytest.raises(SystemExit, match="results/my cannot be written: it is a link to nothing"):
        places.check_places(RESULTS)
    Path("results/my").unlink()
    places.check_places(RESULTS)


def test_nothing_is_left_by_looking(here):
    places.check_places(RESULTS)
    assert [path for path in here.rglob("*") if path.is_file()] == [] and "XDG_CACHE_HOME" not in os.environ


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOENT, errno.ENOSPC])
def test_caches_go_below_the_project_where_the_home_cannot_be_written(here, monkeypatch, capsys, number):
    token = here / "home/.cache/huggingface/token"
    token.parent.mkdir(parents=True)
    token.write_text("a")
    refuse(monkeypatch, here / "home", number)
    places.check_places(RESULTS)
    caches = here / "project/.snakemake/cache"
    assert os.environ["XDG_CACHE_HOME"] == str(caches) and os.environ["MPLCONFIGDIR"] == str(caches / "matplotlib")
    assert os.environ["HF_TOKEN_PATH"] == str(token)
    said = capsys.readouterr().out
    assert str(here / "home/.cache") in said and "XDG_CACHE_HOME" in said and said.count("\n") == 1


def test_a_full_disk_takes_an_empty_file_and_is_told_all_the_same(tmp_path):
    """A file system of one page, where the machine lets it be made."""
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", small], capture_output=True, check=False
    ).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        (small / "empty").touch()
        assert places.why_unwritable(small) == "No space left on device"
    finally:
        subprocess.run(["umount", small], check=True)


def test_no_job_begins_and_no_note_is_left(tmp_path):
    folder = Folder(tmp_path / "project")
    folder.stand_in("note('began')")
    status, said = folder.run("--no-report", TMPDIR="/proc/nowhere")
    assert status == 1 and said.startswith("error: the folder for temporary files, /proc/nowhere, cannot be written")
    assert said.count("\n") == 1 and not folder.noted and not (folder.path / "began").exists()
    status, said = folder.run("--no-report", HOME="/proc/nowhere", XDG_CACHE_HOME="")
    assert status == 0 and "caches go to .snakemake/cache" in said and (folder.path / "began").exists()


def test_jobs_get_the_caches_too(tmp_path):
    folder = Folder(tmp_path / "project")
    folder.stand_in(f"{PLAN}\nnote('caches', os.environ['XDG_CACHE_HOME'])")
    assert folder.run("--no-report", HOME="/proc/nowhere", XDG_CACHE_HOME="")[0] == 0
    assert (folder.path / "caches").read_text() == str(folder.path / ".snakemake/cache")
