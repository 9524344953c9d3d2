"""Who is at work in this folder, and what a run that was killed has left in it.

`make run` and `make cluster` leave a note while they are at work, and a Snakemake that was started by hand leaves one
of its own. A note names a process; what a killed one leaves is its note, a lock, half-written files and jobs that go on
without it.
"""

import atexit
import contextlib
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import psutil

RECORDS = Path(".snakemake")
RUN_FILE = RECORDS / "safety-geometry-run.json"
BY_HAND = "safety-geometry-by-hand-{}.json"  # of a process id
LOCKS = RECORDS / "locks"
TAG = "SAFETY_GEOMETRY_RUN"  # in the environment of every job, so that orphans can be told from other processes
PATIENCE = 10  # seconds until killed processes have to be gone
IF_DEAD = "if it is dead, add --dead (make run ARGS=--dead; make cluster ARGS=--dead)"


# ---------------------------------------------------------------------------------------------------------------- notes


def begin(path: Path = RUN_FILE, **more: object) -> dict:
    """Leave the note that this process is at work, with `more` in it. Stops with a message where there is one
    already."""
    process = psutil.Process()
    note = {
        "id": uuid.uuid4().hex,
        "pid": process.pid,
        "started": process.create_time(),
        "since_boot": process.create_time() - psutil.boot_time(),
        "host": socket.gethostname(),
    } | more
    path.parent.mkdir(exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            json.dump(note, file)
    except FileExistsError:
        sys.exit("error: another run has just begun in this folder; wait for it or stop it")
    except OSError as error:
        path.unlink(missing_ok=True)
        sys.exit(f"error: {path} cannot be written ({error.strerror}); make room or make its folder writable")
    return note


def read_note(path: Path) -> dict | None:
    """A note, or None where there is none.

    Raises:
        ValueError: something else is there, such as the empty file that a power cut leaves.
    """
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        if re.fullmatch(r"\w+", note["id"]) and note["pid"] > 0 and isinstance(note["started"], int | float):
            return note
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError):
        pass
    raise ValueError(
        f"{path} is damaged, so that it cannot be said whether the run that left it is at work here or on another"
        f" machine; {IF_DEAD}"
    )


def alive(note: dict) -> bool:
    """Whether the process of a note of this machine is there; a killed one may linger as a zombie until its parent
    looks.

    When the clock is set, the time at which a process began moves with it, but not how long that was after the
    machine's start.
    """
    try:
        process = psutil.Process(note["pid"])
        began = process.create_time()
        same = began == note["started"] or abs(began - psutil.boot_time() - note.get("since_boot", math.inf)) < 0.1
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, OverflowError):
        return False


def is_elsewhere(note: dict) -> bool:
    return note.get("host", socket.gethostname()) != socket.gethostname()


def notes_by_hand() -> list[Path]:
    return sorted(RECORDS.glob(BY_HAND.format("*")))


# ------------------------------------------------------------------------------------------------------------ processes


def members(run_id: str | None) -> list[psutil.Process]:
    """Processes that carry the tag of a run, but this one; without an id those of any run in this folder."""
    return [p for p in psutil.process_iter() if p.pid != os.getpid() and _is_member(p, run_id)]


def _is_member(process: psutil.Process, run_id: str | None) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        tag = process.environ().get(TAG)
        return tag == run_id if run_id else tag is not None and Path(process.cwd()) == Path.cwd()
    except (psutil.Error, OSError):
        return False


def everyone(process: psutil.Process) -> bool:
    return True


def kill(run_id: str | None, ours: Callable[[psutil.Process], bool] = everyone) -> int:
    """Kill the processes of a run and those that they begin meanwhile; returns how many there were.

    ours: of which of them; others are left.
    """
    killed, until = set(), time.monotonic() + PATIENCE
    while (processes := [p for p in members(run_id) if ours(p)]) and time.monotonic() < until:
        for process in processes:
            killed.add(process.pid)
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(0.05)
    return len(killed)


# ------------------------------------------------------------------------------------------------------------- recovery


def end_here(note: dict) -> str:
    """End the orphaned jobs of a run of this machine, and say how many. Stops if it is at work, or its jobs are a
    scheduler's."""
    if "cluster" in note:
        sys.exit(
            f"error: the last run in this folder, process {note['pid']} of {note['host']} with {note['cluster']}, is at"
            " work or was killed, and its jobs may be running; `make cluster-recover` ends them"
        )
    refuse_if_alive(note)
    return f"ending {kill(note.get('id'))} orphaned process(es) and resuming"


def recover(command: list[str], dead: bool = False, end: Callable[[dict], str] = end_here) -> None:
    """After a run that was killed: end what goes on of it and take away its lock. Stops if that run, or another, is at
    work.

    dead: a run that cannot be asked, because it is another machine's or its note is damaged, is known to be dead; end:
    gets the note of the run (empty where it is damaged), ends its jobs and says what it has done.
    """
    refuse_beside_a_snakemake(command, dead)
    note, exists = last_run(dead)
    if exists:
        print(f"The last run was killed; {end(note)}.", flush=True)
        unlock(command)
        RUN_FILE.unlink()
    remove_partial()


def last_run(dead: bool) -> tuple[dict, bool]:
    """The note of the last run, and whether there is one. A damaged one is empty. Stops if it cannot be asked, unless
    `dead`."""
    try:
        note = read_note(RUN_FILE)
    except ValueError as error:
        if not dead or not RUN_FILE.is_file():
            sys.exit(f"error: {error}")
        return {}, True
    if note is not None and is_elsewhere(note) and not dead:
        sys.exit(
            f"error: the last run in this folder was started on {note['host']} (process {note['pid']}), which cannot be"
            f" seen from here. Go on there; or, {IF_DEAD}"
        )
    return note or {}, note is not None


def refuse_if_alive(note: dict, who: str = "") -> None:
    if note and not is_elsewhere(note) and alive(note):
        who = who or f"another run (process {note['pid']})"
        sys.exit(f"error: {who} is at work in this folder; wait for it or stop it")


def refuse_beside_a_snakemake(command: list[str], dead: bool) -> None:
    """Stop where a Snakemake that was started by hand is at work, and end what a killed one has left."""
    for path in notes_by_hand():
        try:
            note = read_note(path) or {}
        except ValueError as error:
            if not dead:
                sys.exit(f"error: {error}")
            note = {}
        who = f"a Snakemake that was started by hand (process {note.get('pid')} of {note.get('host')})"
        refuse_if_alive(note, who)
        if note and not dead and (is_elsewhere(note) or note.get("submits")):
            sys.exit(
                f"error: {who} was killed or is at work, and its jobs may be running where they cannot be seen from"
                f" here; end them, and {IF_DEAD}"
            )
        ended = kill(note["id"]) if note else 0
        print(f"{who[0].upper()}{who[1:]} was killed; ended {ended} orphaned process(es).", flush=True)
        unlock(command)
        path.unlink()
    if is_locked() and not RUN_FILE.exists() and (others := snakemakes()):
        sys.exit(
            f"error: a Snakemake that was started by hand (process {others[0].pid}) is at work in this folder; wait for"
            " it or stop it"
        )


def snakemakes() -> list[psutil.Process]:
    """Snakemakes of this machine that work in this folder."""
    processes = []
    for process in psutil.process_iter():
        try:
            words = [Path(word).name for word in process.cmdline()[:3]]
            if "snakemake" in words and Path(process.cwd()) == Path.cwd():
                processes.append(process)
        except (psutil.Error, OSError):
            continue
    return processes


def unlock(command: list[str]) -> None:
    """Take away the lock that a killed Snakemake left."""
    if is_locked():
        done = subprocess.run(
            [*command, "--unlock"], check=False, capture_output=True, encoding="utf-8", errors="replace"
        )
        if done.returncode:
            sys.exit(f"{done.stdout}{done.stderr}\nerror: the lock of the run that was killed could not be taken away")
        print("Removed its dead lock.", flush=True)


def is_locked() -> bool:
    return LOCKS.is_dir() and any(LOCKS.iterdir())


def remove_partial() -> None:
    """Delete what jobs that are no more had begun to write; nothing while a Snakemake holds the folder.

    Its jobs may run on other machines, where process ids mean something else.
    """
    if is_locked():
        return
    for partial in Path("results").rglob(".*.partial-*"):
        pid = re.search(r"partial-(\d+)", partial.name)
        if pid and not writes(int(pid[1]), partial):
            if partial.is_dir():
                shutil.rmtree(partial, ignore_errors=True)
            else:
                partial.unlink(missing_ok=True)


def writes(pid: int, partial: Path) -> bool:
    """Whether the process may be at work on the file: not one that has ended and waits for its parent to look, nor a
    later one of the same number."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= partial.lstat().st_mtime + 1
    except psutil.AccessDenied:
        return True
    except (psutil.NoSuchProcess, OSError):
        return False


# ------------------------------------------------------------------------------------------------ Snakemake itself asks


def enter(submits: bool) -> None:
    """For a Snakemake that is about to start jobs: stop beside a run of `make`; if started by hand, leave a note until
    the end.

    submits: its jobs go to a scheduler.
    """
    try:
        note = read_note(RUN_FILE)
    except ValueError as error:
        sys.exit(f"error: {error}")
    if note is not None:
        if note["id"] == os.environ.get(TAG):
            return
        refuse_if_alive(note)
        if is_elsewhere(note) or "cluster" in note or members(note["id"]):
            sys.exit(
                f"error: the last run in this folder (process {note['pid']} of {note.get('host', 'this machine')}) was"
                " killed or is at work, and its jobs may be running; `make run` ends them, or `make cluster-recover`"
                " those of a cluster"
            )
    path = RECORDS / BY_HAND.format(f"{socket.gethostname()}-{os.getpid()}")
    path.unlink(missing_ok=True)  # of a process that was killed and had the same id
    os.environ[TAG] = begin(path, submits=submits)["id"]
    atexit.register(path.unlink, missing_ok=True)
