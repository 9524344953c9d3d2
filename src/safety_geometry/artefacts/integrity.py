"""What stands on the disk against what was written: digests of contents, and the sidecars that vouch for them.

Whoever reads an artefact hashes it. Large files are hashed once: an index in results/<study>/.hashes, one file an entry, has the
digest of each beside its inode, size, mtime and ctime, and where one of these differs the file is hashed anew. The kernel sets
ctime, so an edit that puts size and mtime back is seen too. Without an index that can be read or written, everything is hashed.
"""

import contextlib
import functools
import hashlib
import json
import os
import re
import shlex
import stat
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

SIDECAR = ".provenance.json"
HASHES = ".hashes"
LARGE = 2**20  # bytes: less is hashed in the time in which the index would be read
SETTLED = 2_000_000_000  # ns: a file that changed just now may change again within one tick of the file system's clock
RESULTS = "SAFETY_GEOMETRY_RESULTS"  # environment: what stands for results/, where another workflow runs the jobs
CONFIG = "SAFETY_GEOMETRY_CONFIG"  # environment: the configuration of the study, for the commands in messages
DIGEST = re.compile(r"[0-9a-f]{64}")


class IntegrityError(Exception):
    """What is read is not what was written; with a sentence that names it."""


@dataclass(frozen=True)
class Fault:
    """An artefact that cannot be trusted, and why; `acceptable`: it has a sidecar, and may have been edited on purpose."""

    path: Path
    what: str
    acceptable: bool = False


# -------------------------------------------------------------------------------------------------------------- digests


class Index:
    """Digests of files that have not changed since they were hashed. Safe beside other jobs: entries are replaced as a whole.

    folder: where those of large files outlive the process; None: nowhere.
    """

    def __init__(self, folder: Path | None):
        self.folder = folder
        self._known: dict[tuple[int, ...], str] = {}

    def digest(self, path: Path, anew: bool = False) -> str:
        """SHA-256 of a file; `anew`: of what it holds, whatever the index says. Raises OSError when it cannot be read."""
        stamp = _stamp(path)
        known = None if anew else self._known.get(stamp) or self._stored(stamp)
        if known is not None:
            self._known[stamp] = known
            return known
        begun = time.time_ns()
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if begun - stamp[-1] > SETTLED and _stamp(path) == stamp:
            self._known[stamp] = sha256
            self._store(stamp, sha256)
        return sha256

    def _entry(self, stamp: tuple[int, ...]) -> Path:
        """By inode: a folder's files stay known when it is put in its place."""
        return self.folder / f"{stamp[0]}.json"

    def _stored(self, stamp: tuple[int, ...]) -> str | None:
        if self.folder is None or stamp[1] < LARGE:
            return None
        try:
            entry = json.loads(self._entry(stamp).read_text(encoding="utf-8"))
            return entry["sha256"] if entry["stamp"] == [*stamp] and DIGEST.fullmatch(entry["sha256"]) else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _store(self, stamp: tuple[int, ...], sha256: str) -> None:
        if self.folder is None or stamp[1] < LARGE:
            return
        entry = self._entry(stamp)
        scratch = entry.with_name(f".{entry.name}.partial-{os.getpid()}")
        with contextlib.suppress(OSError):
            self.folder.mkdir(exist_ok=True)
            try:
                scratch.write_text(json.dumps({"stamp": stamp, "sha256": sha256}), encoding="utf-8")
                scratch.replace(entry)
            finally:
                scratch.unlink(missing_ok=True)


@functools.cache
def _index(study: Path | None) -> Index:
    return Index(None if study is None else study / HASHES)


def content_digest(path: Path, anew: bool = False) -> str:
    """SHA-256 of what a file holds now, or of the names and digests of a folder's files (hidden ones do not count).

    anew: without the index. Raises IntegrityError when it cannot be read.
    """
    index = _index(study_of(path))
    try:
        if path.is_dir():
            lines = "".join(f"{file.relative_to(path)} {index.digest(file, anew)}\n" for file in _files(path))
            return hashlib.sha256(lines.encode()).hexdigest()
        if not stat.S_ISREG(path.stat().st_mode):
            raise IntegrityError(f"{path} is neither a file nor a folder")
        return index.digest(path, anew)
    except OSError as error:
        raise IntegrityError(f"{error.filename or path} cannot be read ({error.strerror})") from error


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def _stamp(path: Path) -> tuple[int, ...]:
    now = path.stat()
    return now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns


# ------------------------------------------------------------------------------------------------------------- sidecars


def sidecar(path: Path) -> Path:
    return path.with_name(path.name + SIDECAR)


def coming(path: Path) -> Path:
    """The sidecar of what is about to take the place of `path`: a job that is killed between the two renames leaves it."""
    return path.with_name(f".{path.name}{SIDECAR}.next")


def study_of(path: Path) -> Path | None:
    """results/<study>, where `path` is in it; None: a file of the project or of the user, for which no sidecar vouches."""
    results, parts = Path(os.path.relpath(os.environ.get(RESULTS, "results"))).parts, Path(os.path.relpath(path)).parts
    named = len(results) + 1
    return Path(*parts[:named]) if len(parts) > named and parts[: len(results)] == results else None


def place(path: Path) -> str:
    """Where an artefact stands in its study; of any other file the name."""
    study = study_of(path)
    return path.name if study is None else Path(os.path.relpath(path)).relative_to(study).as_posix()


def artefact_of(path: Path) -> Path:
    """The artefact that `path` is, or is a part of: the first on the way up that has a sidecar.

    Where there is none: the fetched source that it is in, or `path` itself.
    """
    study, path = study_of(path), Path(os.path.relpath(path))
    within = [] if study is None else [path, *(parent for parent in path.parents if study in parent.parents)]
    fetched = next((each for each in within if each.parent == study / "private" / "sources"), path)
    return next((each for each in within if os.path.lexists(sidecar(each)) or coming(each).exists()), fetched)


def kind_of(path: Path) -> str:
    return "folder" if path.is_dir() else "file"


def read_sidecar(path: Path) -> dict:
    """The sidecar of an artefact. Raises IntegrityError when there is none, or none that can be read."""
    beside = sidecar(path)
    try:
        text = beside.read_text(encoding="utf-8")
        record = json.loads(text) if text.strip() else None
        if not DIGEST.fullmatch(record["sha256"]):
            raise ValueError("no digest")
    except FileNotFoundError:
        raise IntegrityError(f"{path} has no sidecar ({beside.name}), so that nothing vouches for it") from None
    except (OSError, ValueError, TypeError, KeyError):
        raise IntegrityError(f"{beside} is empty or damaged, so that nothing vouches for {path}") from None
    return record


def fault_of(artefact: Path) -> Fault | None:
    """What is wrong with an artefact that stands in a study, by its sidecar."""
    try:
        now = content_digest(artefact)
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            if _fits(json.loads(coming(artefact).read_text(encoding="utf-8")), artefact, now):
                return None
        record = read_sidecar(artefact)
        if _fits(record, artefact, now) or _fits(record, artefact, now := content_digest(artefact, anew=True)):
            return None
    except IntegrityError as error:
        return Fault(artefact, str(error))
    wrote = f"{record.get('script', 'its job')} wrote"
    if record.get("kind", kind_of(artefact)) != kind_of(artefact):
        return Fault(artefact, f"{artefact} is a {kind_of(artefact)} where {wrote} a {record['kind']}")
    empty = " is empty and" if artefact.is_file() and not artefact.stat().st_size else " is"
    expected = f"its SHA-256 is {now[:16]}…, its sidecar says {record['sha256'][:16]}…"
    return Fault(artefact, f"{artefact}{empty} not what {wrote}: {expected}", True)


def faults_of(paths: Iterable[Path]) -> list[Fault]:
    """Faults of the artefacts that `paths` are, or are parts of; those outside studies have none."""
    artefacts = dict.fromkeys(artefact_of(path) for path in paths if study_of(path) is not None)
    return [fault for artefact in artefacts if (fault := fault_of(artefact))]


def _fits(record: dict, artefact: Path, digest: str) -> bool:
    return record["sha256"] == digest and record.get("kind", kind_of(artefact)) == kind_of(artefact)


# ------------------------------------------------------------------------------------------------------------- messages


def advice(faults: Sequence[Fault]) -> str:
    """What to do about them."""
    acceptable = [shlex.quote(str(fault.path)) for fault in faults if fault.acceptable]
    name = acceptable[0] if len(acceptable) == 1 else "..."
    keep = acceptable and RESULTS not in os.environ  # it keeps the project's own
    edit = f"; what was edited on purpose is kept by `make accept FILE={name}`" if keep else ""
    return f"make anew with `{remake([fault.path for fault in faults])}`{edit}"


def remake(paths: Sequence[Path]) -> str:
    """The command that takes artefacts away and makes them anew."""
    names, there = [shlex.quote(str(path)) for path in paths], [path for path in paths if os.path.lexists(path)]
    remove = (
        f"rm {'-r ' * any(path.is_dir() for path in there)}{' '.join(shlex.quote(str(path)) for path in there)} && "
    )
    if RESULTS in os.environ:  # the importer's Snakefile, not `make`, makes them
        return f"{remove * bool(there)}snakemake {' '.join(names)}"
    config = os.environ.get(CONFIG, "config.yaml" if _default(paths) else "FILE")
    config = "" if config == "config.yaml" else f"CONFIG={shlex.quote(config)} "
    return f"{remove * bool(there)}make run {config}ARGS={shlex.quote(' '.join(names))}"


def _default(paths: Sequence[Path]) -> bool:
    return all(study_of(path) == Path("results/default") for path in paths)
