"""Wheels, zip and tar files: which members may be taken out, and how much of them.

An archive is somebody else's: names that leave its folder, links, devices and members that write over each other are
refused, and bytes are counted as they come, since what its headers say of sizes need not be true.
"""

import bz2
import gzip
import lzma
import re
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

MAX_BYTES = 64 * 2**30  # unpacked, of one archive
MAX_MEMBERS = 100_000
MAX_RATIO = 100  # of unpacked to packed bytes: text packs to a tenth, weights hardly at all ...
RATIO_FROM = 32 * 2**20  # ... looked at from so many unpacked bytes on: a small file of zeros does no harm
CHUNK = 2**20  # bytes read at once
HEADER = 16 * 2**20  # bytes that one header of a tar file may have

ZIP = (".whl", ".zip")
TAR = {
    ".tar": open, ".tar.gz": gzip.open, ".tgz": gzip.open, ".tar.bz2": bz2.open, ".tar.xz": lzma.open,
}  # fmt: skip
DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError, NotImplementedError,
    ValueError, OverflowError,
)  # fmt: skip
TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # show a name in another order than it has


class ArchiveError(ValueError):
    """An archive, or a member that was asked for, is not to be unpacked; says what is wrong with it."""


@dataclass(frozen=True)
class Member:
    """What stands under `name`: a file, link or special (device, FIFO …); `chunks()` are its bytes."""

    name: str
    kind: str
    chunks: Callable[[], Iterator[bytes]]


class Allowance:
    """How many bytes an archive of `packed` bytes may give, all its members together."""

    def __init__(self, packed: int):
        self.packed, self.taken = packed, 0

    def take(self, n: int) -> None:
        self.taken += n
        self.check(self.taken)

    def check(self, unpacked: int) -> None:
        if unpacked > MAX_BYTES:
            raise ArchiveError(f"it unpacks to more than {MAX_BYTES:,} bytes")
        if unpacked > RATIO_FROM and unpacked > MAX_RATIO * self.packed:
            raise ArchiveError(f"its {self.packed:,} bytes unpack to more than {MAX_RATIO} times as many")


def is_archive(path: Path) -> bool:
    """By its name: what members can be taken out of."""
    return path.name.lower().endswith((*ZIP, *TAR))


@contextmanager
def opened(path: Path) -> Iterator[list[Member]]:
    """Members of the archive, in its order. Raises ArchiveError when it cannot be read or a name is unsafe."""
    allowance = Allowance(path.stat().st_size)
    try:
        with (_zip if path.name.lower().endswith(ZIP) else _tar)(path, allowance) as members:
            for member in members:
                check_name(member.name)
            yield members
    except ArchiveError:
        raise
    except DAMAGED as error:
        raise ArchiveError(f"it is damaged, or not a wheel, zip or tar archive ({error})") from error
    except OSError as error:
        if error.errno is not None:  # of the disk; those of a damaged stream have none
            raise
        raise ArchiveError(f"it is damaged ({error})") from error


def unpack(members: Iterable[Member], chosen: Iterable[str], folder: Path) -> None:
    """Write the chosen members into `folder` under their own names. Raises ArchiveError, and may then leave some
    there."""
    chosen = set(chosen)
    members = [member for member in members if member.name in chosen]
    check_together([member.name for member in members])
    for member in members:
        check_kind(member.name, member.kind)
    for member in members:
        target = folder / member.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as out:
            for chunk in member.chunks():
                out.write(chunk)


def check_name(name: str) -> None:
    """Raises ArchiveError for a name that is no plain path below a folder."""
    parts = re.split(r"[/\\]", name)
    if name.startswith(("/", "\\")) or ".." in parts or re.match(r"[A-Za-z]:", name):
        raise ArchiveError(f"member {shown(name)} lies outside its own folder")
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in TURNS for c in name):
        raise ArchiveError(f"the name of member {shown(name)} has characters that control a terminal or are no text")
    if "\\" in name or {"", "."} & set(parts):
        raise ArchiveError(f"the name of member {shown(name)} is no plain path (folders separated by one /)")


def check_together(names: Iterable[str]) -> None:
    """Raises ArchiveError for names of which one would be written over, or below, another."""
    times = Counter(names)
    if twice := [name for name, n in times.items() if n > 1]:
        raise ArchiveError(f"member {shown(twice[0])} is there {times[twice[0]]} times")
    alike: dict[str, str] = {}
    for name in times:
        first = alike.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if first != name:
            raise ArchiveError(f"members {shown(first)} and {shown(name)} are one file where case does not count")
    for name in times:
        for parent in PurePosixPath(name).parents:
            if str(parent) in times:
                raise ArchiveError(f"member {shown(str(parent))} is no folder, and {shown(name)} lies below it")


def check_kind(name: str, kind: str) -> None:
    if kind == "link":
        raise ArchiveError(f"member {shown(name)} is a link, which may lead anywhere")
    if kind != "file":
        raise ArchiveError(f"member {shown(name)} is neither a file nor a folder")


def shown(name: str) -> str:
    """A name as a message can have it: what is not printable is escaped."""
    return repr(name if len(name) <= 120 else name[:117] + "...")


def kind_of(mode: int) -> str:
    """file | folder | link | special of a file's mode."""
    kinds = {stat.S_IFREG: "file", 0: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
    return kinds.get(stat.S_IFMT(mode), "special")


@contextmanager
def _zip(path: Path, allowance: Allowance) -> Iterator[list[Member]]:
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if not entry.orig_filename.endswith("/")]
        _count(len(entries))

        def chunks(entry: zipfile.ZipInfo) -> Iterator[bytes]:
            if entry.flag_bits & 1:
                raise ArchiveError(f"member {shown(entry.orig_filename)} is encrypted")
            with archive.open(entry) as data:
                while chunk := data.read(CHUNK):
                    allowance.take(len(chunk))
                    yield chunk

        unix = 3  # who wrote the archive: only Unix says of what kind a member is
        yield [
            Member(
                e.orig_filename, kind_of(e.external_attr >> 16 if e.create_system == unix else 0), partial(chunks, e)
            )
            for e in entries
        ]


@contextmanager
def _tar(path: Path, allowance: Allowance) -> Iterator[list[Member]]:
    suffix = max((s for s in TAR if path.name.lower().endswith(s)), key=len)
    with TAR[suffix](path, "rb") as stream, tarfile.TarFile(fileobj=Metered(stream, allowance)) as archive:

        def chunks(entry: tarfile.TarInfo) -> Iterator[bytes]:
            data = archive.extractfile(entry)
            while chunk := data.read(CHUNK):
                yield chunk

        members = []
        for entry in archive:
            if not entry.isdir():
                _count(len(members) + 1)
                name = re.sub(r"^(\./)+", "", entry.name)  # tar writes ./a for a
                members.append(Member(name, _tar_kind(entry), partial(chunks, entry)))
        yield members


def _tar_kind(entry: tarfile.TarInfo) -> str:
    if entry.issym() or entry.islnk():
        return "link"
    return (
        "file" if entry.isreg() and not entry.issparse() else "special"
    )  # a sparse file has more bytes than it brings


class Metered:
    """The bytes of a tar file, as far as they may be read or skipped."""

    def __init__(self, stream: IO[bytes], allowance: Allowance):
        self.stream, self.allowance = stream, allowance

    def read(self, size: int) -> bytes:
        if size > HEADER:
            raise ArchiveError(f"a header of {size:,} bytes")
        chunk = self.stream.read(size)
        self.allowance.check(self.stream.tell())
        return chunk

    def seek(self, position: int, whence: int = 0) -> int:
        self.allowance.check(position)  # before it: what is skipped has to be unpacked too
        return self.stream.seek(position, whence)

    def tell(self) -> int:
        return self.stream.tell()


def _count(members: int) -> None:
    if members > MAX_MEMBERS:
        raise ArchiveError(f"it has more than {MAX_MEMBERS:,} members")
