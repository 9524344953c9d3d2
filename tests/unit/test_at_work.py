"""One run at a time in a folder: notes that tell who is at work, and what becomes of those that were killed."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from fake_runs import ROOT, Folder, is_alive, wait_for
from pipeline import at_work

DEAD = {"id": "a" * 32, "pid": 2**22 + 1, "started": 1.0}
BY_HAND = Path(".snakemake/safety-geometry-by-hand-there-7.json")


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(at_work.TAG, raising=False)
    Path(".snakemake/locks").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def job(here):
    """Begins a program that carries the tag of a run."""
    begun = []

    def begin(run_id: str, *command: str) -> subprocess.Popen:
        begun.append(subprocess.Popen(command or ("sleep", "60"), env=os.environ | {at_work.TAG: run_id}))
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.wait()


def myself() -> dict:
    return {"id": "b" * 32, "pid": os.getpid(), "started": psutil.Process().create_time()}


def leave(note: object, path: Path = at_work.RUN_FILE) -> None:
    path.write_bytes(note if isinstance(note, bytes) else json.dumps(note).encode())


def refused(*arguments: object) -> str:
    with pytest.raises(SystemExit) as stop:
        at_work.recover(*arguments)
    assert "\n" not in stop.value.code
    return stop.value.code


UNLOCK = [sys.executable, "-c", "import pathlib; [p.unlink() for p in pathlib.Path('.snakemake/locks').iterdir()]"]


# ------------------------------------------------------------------------------------------------------------------ notes


def test_a_clock_that_is_set_kills_no_run(here):
    note = at_work.begin()
    hours_off = note | {"started": note["started"] + 7200}
    assert at_work.alive(note) and at_work.alive(hours_off)
    another = hours_off | {"since_boot": note["since_boot"] - 500}
    assert not at_work.alive(another)  # the same number, given to another process
    assert not at_work.alive({**hours_off, "since_boot": None} | {"since_boot": float("inf")})


def test_a_zombie_is_dead(here):
    child = subprocess.Popen([sys.executable, "-c", ""])
    started = psutil.Process(child.pid).create_time()
    wait_for(lambda: not is_alive(child.pid))
    assert not at_work.alive({"pid": child.pid, "started": started})
    child.wait()


def test_two_runs_that_begin_at_once(here):
    at_work.begin()
    with pytest.raises(SystemExit, match="another run has just begun"):
        at_work.begin()


DAMAGED = [b"", b"{", b"null", b"[]", b"7", b"{}", b'{"id": "a", "pid": 1}', b'{"id": "a", "pid": "1", "started": 1}',
           b'{"id": "../a", "pid": 1, "started": 1}', b'{"id": 3, "pid": 1, "started": 1}', b'{"id": "a", "pid": -1, "started": 1}',
           b'{"id": "", "pid": 1, "started": 1}', b"\xff\xfe\x00", bytes(500)]  # fmt: skip


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_note_is_told_and_kept_until_the_run_is_said_to_be_dead(here, content, job):
    leave(content)
    orphan, elsewhere = job("c" * 32), None
    try:
        elsewhere = subprocess.Popen(["sleep", "60"], cwd="/", env=os.environ | {at_work.TAG: "c" * 32})
        said = refused([], False)
        assert ".snakemake/safety-geometry-run.json is damaged" in said and "ARGS=--dead" in said
        assert at_work.RUN_FILE.read_bytes() == content and orphan.poll() is None
        at_work.recover(UNLOCK, True)
        assert orphan.wait(5) == -9 and elsewhere.poll() is None and not at_work.RUN_FILE.exists()
    finally:
        elsewhere.kill()
        elsewhere.wait()


def test_a_folder_in_the_place_of_the_note(here):
    at_work.RUN_FILE.mkdir()
    assert "is damaged" in refused([], False)
    assert "is damaged" in refused([], True)


def test_a_run_of_another_machine_cannot_be_asked(here):
    leave(DEAD | {"host": "another"})
    said = refused([], False)
    assert "was started on another (process 4194305)" in said and "--dead" in said
    at_work.recover(UNLOCK, True)
    assert not at_work.RUN_FILE.exists()


def test_a_run_that_is_at_work_is_refused_even_when_it_is_said_to_be_dead(here):
    leave(myself())
    for dead in (False, True):
        assert f"another run (process {os.getpid()}) is at work" in refused([], dead)


def test_the_jobs_of_a_killed_run_and_what_they_begin_meanwhile_are_ended(here, job):
    """One that begins another whenever it can."""
    breeder = job(
        DEAD["id"], sys.executable, "-c", "import subprocess, time\nwhile True:\n subprocess.Popen(['sleep', '60']); time.sleep(0.01)"
    )  # fmt: skip
    other = job("d" * 32)
    wait_for(lambda: len(at_work.members(DEAD["id"])) > 5)
    leave(DEAD)
    Path(".snakemake/locks/0.output.lock").touch()
    at_work.recover(UNLOCK)
    assert at_work.members(DEAD["id"]) == [] and breeder.wait(5) == -9 and other.poll() is None
    assert not at_work.is_locked() and not at_work.RUN_FILE.exists()


def test_a_lock_that_cannot_be_taken_away_keeps_the_note(here):
    leave(DEAD)
    Path(".snakemake/locks/0.output.lock").touch()
    with pytest.raises(SystemExit, match="could not be taken away"):
        at_work.recover([sys.executable, "-c", "import sys; sys.exit(1)"])
    assert at_work.RUN_FILE.exists()


# -------------------------------------------------------------------------------------------------- Snakemake started by hand


def test_a_run_is_refused_beside_a_snakemake_that_was_started_by_hand(here):
    leave(myself(), BY_HAND)
    for dead in (False, True):
        assert f"(process {os.getpid()} of " in refused([], dead)
    assert BY_HAND.exists()


def test_a_killed_one_leaves_nothing_behind(here, job, capsys):
    orphan = job(DEAD["id"])
    leave(DEAD | {"host": socket.gethostname(), "submits": False}, BY_HAND)
    Path(".snakemake/locks/0.output.lock").touch()
    partial = Path("results/my/.a.csv.partial-4194305")
    partial.parent.mkdir(parents=True)
    partial.touch()
    at_work.recover(UNLOCK)
    assert orphan.wait(5) == -9 and not BY_HAND.exists() and not at_work.is_locked() and not partial.exists()
    assert "ended 1 orphaned process(es)" in capsys.readouterr().out


@pytest.mark.parametrize("note", [DEAD | {"host": "another"}, DEAD | {"submits": True}, b"", b"{}"])
def test_one_whose_jobs_may_be_elsewhere_is_asked_about(here, note):
    leave(note, BY_HAND)
    assert "--dead" in refused([], False) and BY_HAND.exists()
    at_work.recover(UNLOCK, True)
    assert not BY_HAND.exists()


def test_one_that_left_no_note_is_known_by_its_lock(here, job):
    """As with --no-hooks; without a lock it may be a dry run, which disturbs nobody."""
    Path("snakemake").write_text("import time; time.sleep(60)")
    process = job("", sys.executable, "snakemake")
    wait_for(lambda: psutil.Process(process.pid).cmdline()[1:] == ["snakemake"])
    at_work.recover([])
    Path(".snakemake/locks/0.output.lock").touch()
    partial = Path("results/.a.partial-4194305")
    partial.parent.mkdir()
    partial.touch()
    assert f"(process {process.pid})" in refused([], False)
    process.kill()
    process.wait()
    at_work.recover([])  # whose lock this is cannot be known: Snakemake decides, and its files stay
    assert at_work.is_locked() and partial.exists()


def test_files_of_a_process_at_work_stay_and_those_of_an_ended_one_or_of_one_that_came_later_go(here, job):
    ended = job("", "true")
    wait_for(lambda: psutil.Process(ended.pid).status() == psutil.STATUS_ZOMBIE)  # nobody has looked after it
    Path("results").mkdir()
    of_ended, of_this, older = (Path(f"results/.{name}.partial-{pid}") for name, pid in [
        ("ended", ended.pid), ("at_work", os.getpid()), ("number_given_again", os.getpid())])  # fmt: skip
    for partial in (of_ended, of_this, older):
        partial.touch()
    before = psutil.Process().create_time() - 60
    os.utime(older, (before, before))
    at_work.remove_partial()
    assert (of_ended.exists(), of_this.exists(), older.exists()) == (False, True, False)


def enter(**variables: str) -> subprocess.CompletedProcess:
    """A process that starts jobs; prints the notes that there are meanwhile, and the tag that its jobs get."""
    code = f"from pipeline import at_work; import os; at_work.enter(False); print(len(at_work.notes_by_hand()), os.environ['{at_work.TAG}'])"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env={k: v for k, v in os.environ.items() if k != at_work.TAG} | {"PYTHONPATH": str(ROOT / "workflow")} | variables,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["alive", "elsewhere", "cluster", "orphans", "damaged"])
def test_snakemake_itself_is_refused_beside_a_run(here, kind, job):
    notes = {"alive": myself(), "elsewhere": DEAD | {"host": "another"}, "cluster": DEAD | {"cluster": "profiles/slurm"},
             "orphans": DEAD, "damaged": b""}  # fmt: skip
    leave(notes[kind])
    if kind == "orphans":
        job(DEAD["id"])
    before = at_work.RUN_FILE.read_bytes()
    done = enter()
    assert (
        done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and not done.stdout
    )
    assert at_work.RUN_FILE.read_bytes() == before and at_work.notes_by_hand() == []


def test_snakemake_goes_on_alone_after_a_dead_run_and_within_a_run(here):
    count, tag = enter().stdout.split()
    assert count == "1" and len(tag) == 32 and at_work.notes_by_hand() == []
    leave(DEAD)
    assert enter().stdout.startswith("1 ")
    leave(myself())
    assert enter(**{at_work.TAG: "b" * 32}).stdout.split() == ["0", "b" * 32]


def test_looking_is_allowed_beside_a_run(tmp_path):
    folder = Folder(tmp_path / "project")
    folder.leave_note(**myself())
    folder.stand_in("print(*sys.argv[-1:])")
    status, said = folder.run("--no-report")
    assert status == 1 and "is at work in this folder" in said
    assert folder.run("-n") == (0, "-n\n")
    assert folder.noted
