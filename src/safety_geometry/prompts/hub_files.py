"""How files of a Hugging Face repository are brought into a folder."""

import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from safety_geometry.artefacts.disk import disk_full
from safety_geometry.prompts.source_files import SourceError, check_members, match_members, members_of


def fetch_hub(spec: Mapping, folder: Path, scratch: Path, where: str, attempts: int = 3, pause: float = 1.0) -> str:
    """Files of a Hugging Face repository at a revision, through the user's hub cache. Returns the commit.

    ``HF_ENDPOINT``, ``HF_HUB_OFFLINE``, ``HF_HOME`` and ``HF_TOKEN`` are respected. Files are hard links into the cache
    where the file system allows it, else copies. A connection that breaks inside a file is resumed there by the hub's
    client; one that is reset is tried again, up to `attempts` times, and files that have come are not fetched anew.
    """
    import huggingface_hub
    from huggingface_hub import errors

    repo, revision, kind = spec["repo"], spec["revision"], spec.get("repo_type", "model")
    wanted = members_of(spec)
    loose = [glob.replace("**/", "*").replace("**", "*") for glob in wanted]  # the hub's `*` crosses folders
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    snapshot = None
    while snapshot is None:
        attempts -= 1
        try:
            snapshot = huggingface_hub.snapshot_download(
                repo,
                repo_type=kind,
                revision=revision,
                allow_patterns=loose,
                endpoint=endpoint,
                local_files_only=offline,
            )
        except (OSError, errors.EntryNotFoundError, errors.HTTPError, ValueError) as error:
            reset = isinstance(error, errors.HTTPError) and _answer(error) is None
            if not reset or not attempts:
                raise _hub_trouble(error, spec, endpoint, offline, where) from error
            print(f"{where}: the connection broke ({type(error).__name__}); trying again", file=sys.stderr, flush=True)
            time.sleep(pause)
    return _link_snapshot(Path(snapshot), folder, wanted, where)


def _answer(error: BaseException | None) -> int | None:
    """The status with which the hub answered, where that is behind an error."""
    while error is not None:
        if (response := getattr(error, "response", None)) is not None:
            return response.status_code
        error = error.__cause__
    return None


def _hub_trouble(error: Exception, spec: Mapping, endpoint: str, offline: bool, where: str) -> SourceError:
    """What went wrong, and what to do, as one plain line."""
    from huggingface_hub import errors

    repo, revision, kind = spec["repo"], spec["revision"], spec.get("repo_type", "model")
    local = f"set {where}.kind: path and {where}.path to a local copy"
    what, page = f"{kind} {repo} at revision {revision}", f"{endpoint}/{'datasets/' if kind == 'dataset' else ''}{repo}"
    status, first_line = _answer(error), (str(error).splitlines() or [""])[0][:200]
    advice = {401: "see that HF_TOKEN is valid", 403: "see that your token may read it"}.get(status, "run again later")
    reasons = (
        (
            isinstance(error, errors.GatedRepoError),
            f"{what} is gated: accept its licence at {page}, log in with `hf auth login` (or set HF_TOKEN), and run"
            f" again; or {local}",
        ),
        (
            isinstance(error, errors.RevisionNotFoundError),
            f"{repo} has no revision {revision}; correct {where}.revision",
        ),
        (
            isinstance(error, errors.RepositoryNotFoundError),
            f"{endpoint} has no {kind} {repo}, or it is private: correct {where}.repo or {where}.repo_type, or log in"
            " with `hf auth login`",
        ),
        (disk_full(error), f"no space left on the disk while downloading {what}; free some and run again"),
        (offline, f"{what}: HF_HUB_OFFLINE is set and it is not in the hub cache: unset it, or {local}"),
        (isinstance(error, ValueError), f"{what} cannot be asked for ({first_line})"),
        (status is not None, f"{what}: {endpoint} answers {status}: {advice}, or {local}"),
        (
            True,
            f"{what}: no network: {endpoint} did not give it ({type(error).__name__}): connect and run again, or"
            f" {local}",
        ),
    )
    return SourceError(f"{where}: {next(reason for applies, reason in reasons if applies)}")


def _link_snapshot(snapshot: Path, folder: Path, wanted: Mapping[str, str | None], where: str) -> str:
    names = [str(p.relative_to(snapshot)) for p in snapshot.rglob("*") if p.is_file()]
    for name in match_members(names, wanted, where):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        blob = (snapshot / name).resolve()
        try:
            os.link(blob, folder / name)
        except OSError:
            shutil.copyfile(blob, folder / name)
    check_members(folder, wanted, where)
    return snapshot.name
