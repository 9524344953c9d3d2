"""The files of a source: hashes, globs over their names, what a folder or an archive has under them."""

import difflib
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from safety_geometry.prompts.archives import (
    ArchiveError,
    check_kind,
    check_name,
    check_together,
    kind_of,
    opened,
    shown,
    unpack,
)

NEAR = 5000  # names that are looked through for one like a name that is not there


class SourceError(RuntimeError):
    """A source could not be fetched; the message is one plain line."""


class NotFromHere(SourceError):
    """An address did not give a file, or gave another one than was asked for: a mirror may have it. `reason`: in a few
    words."""

    def __init__(self, message: str, reason: str):
        super().__init__(message)
        self.reason = reason


def digest(path: Path) -> str:
    """SHA-256 (hex) of a file, or of the sorted "name digest" lines of a folder's files."""
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        return hashlib.sha256("".join(f"{p.relative_to(path)} {digest(p)}\n" for p in files).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_hash(path: Path, expected: str | None, where: str, key: str = "sha256") -> None:
    """Raise NotFromHere unless `path` has the SHA-256 `expected` (None: not checked)."""
    if expected is not None and (actual := digest(path)) != expected.lower():
        raise NotFromHere(
            f"{where}: wrong SHA-256 of {path.name}: expected {expected.lower()}, got {actual} ({size_of(path)} bytes)."
            " The file changed at its home or on the way: fetch it again, and only if the new file is the one you"
            f" want, put its hash in {where}.{key}",
            f"wrong SHA-256, {actual[:16]}…",
        )


def size_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def match_members(names: Iterable[str], patterns: Iterable[str], where: str) -> list[str]:
    """Names that fit any of the globs (``*`` and ``?`` stay inside a folder, ``**`` does not), sorted.

    Raises SourceError when a pattern fits none, naming the nearest names.
    """
    names = sorted(names)
    chosen: set[str] = set()
    for pattern in patterns:
        fits = [name for name in names if _glob(pattern).fullmatch(name)]
        if not fits:
            raise SourceError(f"{where}: no file fits {pattern!r}; {_nearest(pattern, names)}; correct {where}.members")
        chosen.update(fits)
    return sorted(chosen)


def _glob(pattern: str) -> re.Pattern:
    pieces = re.split(r"(\*\*/?|\*|\?)", pattern)
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(meaning.get(piece, re.escape(piece)) for piece in pieces), re.DOTALL)


def _nearest(pattern: str, names: list[str]) -> str:
    tail = pattern.rsplit("/", 1)[-1]
    names = names[:NEAR]
    score = {n: difflib.SequenceMatcher(None, pattern, n).ratio() + 0.5 * (tail == n.rsplit("/", 1)[-1]) for n in names}
    near = sorted(names, key=lambda n: (-score[n], n))[:3]
    return (
        f"nearest of {len(names)}: {', '.join(ascii(n)[1:-1] if not n.isprintable() else n for n in near)}"
        if near
        else "there are no files at all"
    )


def members_of(spec: Mapping) -> dict[str, str | None]:
    """``members`` as {glob: SHA-256 or None}; an entry is a glob or ``{path: …, sha256: …}``."""
    return {
        (entry if isinstance(entry, str) else entry["path"]): (None if isinstance(entry, str) else entry.get("sha256"))
        for entry in spec.get("members", ["**"])
    }


def extract(archive: Path, spec: Mapping, folder: Path, where: str) -> None:
    """Take the named members of a wheel, zip or tar archive into `folder`, under their own paths; check their
    hashes."""
    wanted = members_of(spec)
    try:
        with opened(archive) as members:
            unpack(members, match_members([member.name for member in members], wanted, where), folder)
    except ArchiveError as error:
        raise SourceError(
            f"{where}: {archive.name}: {error}; do not use this file, or, if you trust it, unpack it yourself and give"
            " the folder as a source of kind: path"
        ) from error
    check_members(folder, wanted, where)


def copy_folder(home: Path, spec: Mapping, folder: Path, where: str, link: bool = False) -> None:
    """Copy (or with `link` link) the named files of the folder `home` into `folder`.

    Links inside it are followed as long as they stay in it; those of a snapshot in the hub's cache lead to its blobs,
    which belong to it. Raises SourceError for others, and for what is neither file nor folder.
    """
    homes = [home.resolve()]
    if home.resolve().parent.name == "snapshots":
        homes.append(home.resolve().parents[1] / "blobs")
    files, chosen = files_below(home), []
    try:
        for name in match_members(files, members_of(spec), where):
            check_name(name)
            end = Path(os.path.realpath(files[name]))  # `resolve` fails on a link to itself
            if not any(end.is_relative_to(place) for place in homes):
                raise ArchiveError(f"{shown(name)} is a link to {end}, which is outside the folder")
            if end.is_dir() or not end.exists():
                raise ArchiveError(f"{shown(name)} is a link to {'a folder' if end.is_dir() else 'nothing'}")
            check_kind(name, kind_of(end.stat().st_mode))
            chosen.append((name, end))
        check_together([name for name, _ in chosen])
    except ArchiveError as error:
        raise SourceError(
            f"{where}: folder {home}: {error}; take it out of the folder, put a file in its place, or name other files"
            f" in {where}.members"
        ) from error
    for name, end in chosen:
        take_file(end, folder / name, link)
    check_members(folder, members_of(spec), where)


def take_file(file: Path, target: Path, link: bool) -> None:
    """A copy of `file`, or a link to it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        target.symlink_to(file)
    else:
        shutil.copyfile(file, target)


def files_below(home: Path) -> dict[str, Path]:
    """All that is no folder below `home`, by its path from there. Raises OSError for a folder that cannot be read."""

    def stop(error: OSError):
        raise error

    paths = {}
    for place, folders, files in os.walk(home, onerror=stop):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        for path in (Path(place) / name for name in (*files, *links)):
            paths[path.relative_to(home).as_posix()] = path
    return paths


def check_members(folder: Path, wanted: Mapping[str, str | None], where: str) -> None:
    for name, expected in wanted.items():
        if expected is not None:
            check_hash(folder / name, expected, where, key="members")
