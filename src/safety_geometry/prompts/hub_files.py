"""How files of a Hugging Face repository are brought into a folder."""

import difflib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from safety_geometry.artefacts.disk import disk_full
from safety_geometry.prompts.source_files import SourceError, check_members, match_members, members_of

PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors")  # a name that stays in its folder
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
SETTINGS = (
    "config.json", ADAPTER, "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "chat_template.json", "tokenizer.model",
    "vocab.json", "merges.txt", INDEX,
)  # fmt: skip


def fetch_hub(spec: Mapping, folder: Path, scratch: Path, where: str, cache: Path | None = None) -> str:
    """Files of a Hugging Face repository at a revision, or those of its ``subfolder``. Returns the commit.

    They come through the user's hub cache, or through `cache`, which is the caller's to delete. ``HF_ENDPOINT``,
    ``HF_HUB_OFFLINE``, ``HF_HOME`` and ``HF_TOKEN`` are respected. Files are hard links into the cache where the file
    system allows it, else copies. With ``only: model`` they are those of a model, and nothing else is downloaded.
    """
    below = f"{spec['subfolder']}/" if spec.get("subfolder") else ""
    if spec.get("only") != "model":
        wanted = members_of(spec)
        snapshot = _snapshot(spec, [below + name for name in wanted], where, cache)
        return _link_snapshot(snapshot, folder, wanted, where, below)
    snapshot = _snapshot(spec, [below + name for name in SETTINGS], where, cache)
    settings = [name for name in SETTINGS if (snapshot / below / name).is_file()]
    if "config.json" not in settings and ADAPTER not in settings:
        raise _no_model(spec, where)
    weights = _weights(snapshot / below, settings, spec, where)
    pinned = {**spec, "revision": snapshot.name}  # a branch that moves meanwhile would mix two models
    snapshot = _snapshot(pinned, [below + name for name in weights], where, cache)
    if lost := [name for name in weights if not (snapshot / below / name).is_file()]:
        named = f"names {lost[0]}, which is not there" if INDEX in settings else f"has no {lost[0]}"
        raise SourceError(
            f"{where}: {_shown(spec)} {named}: it holds no whole model as safetensors (pickled weights, .bin, are not"
            f" read); correct {where}, or name the files in {where}.members"
        )
    return _link_snapshot(snapshot, folder, dict.fromkeys([*settings, *weights]), where, below)


def _weights(folder: Path, settings: list[str], spec: Mapping, where: str) -> list[str]:
    """Names of the files that hold the weights of a model, whose settings are in the folder."""
    if INDEX not in settings:
        return [SINGLE if "config.json" in settings and ADAPTER not in settings else ADAPTER_WEIGHTS]
    try:
        files = sorted(set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
        if not files or not all(isinstance(name, str) and PART.fullmatch(name) for name in files):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"{where}: {_shown(spec)} has a {INDEX} that names no files of weights") from error
    return files


def _snapshot(
    spec: Mapping, wanted: list[str], where: str, cache: Path | None, attempts: int = 3, pause: float = 1.0
) -> Path:
    """The folder of the cache that holds the wanted files of a repository, as far as it has them.

    A connection that breaks inside a file is resumed there by the hub's client; one that is reset is tried again, up to
    `attempts` times, and files that have come are not fetched anew, nor are they by a later run.
    """
    import huggingface_hub
    from huggingface_hub import errors

    loose = [glob.replace("**/", "*").replace("**", "*") for glob in wanted]  # the hub's `*` crosses folders
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    endpoint = _endpoint()
    while True:
        attempts -= 1
        try:
            return Path(
                huggingface_hub.snapshot_download(
                    spec["repo"],
                    repo_type=spec.get("repo_type", "model"),
                    revision=spec["revision"],
                    allow_patterns=loose,
                    endpoint=endpoint,
                    local_files_only=offline,
                    cache_dir=None if offline else cache,
                )
            )
        except (OSError, errors.EntryNotFoundError, errors.HTTPError, ValueError) as error:
            reset = isinstance(error, errors.HTTPError) and _answer(error) is None
            if not reset or not attempts:
                raise _hub_trouble(error, spec, endpoint, offline, where) from error
            print(f"{where}: the connection broke ({type(error).__name__}); trying again", file=sys.stderr, flush=True)
            time.sleep(pause)


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


def _shown(spec: Mapping) -> str:
    """The place of the files, for messages."""
    folder = f", folder {spec['subfolder']}," if spec.get("subfolder") else ""
    return f"{spec.get('repo_type', 'model')} {spec['repo']} at revision {spec['revision']}{folder}"


def _no_model(spec: Mapping, where: str) -> SourceError:
    """There is no config.json where it should be; what the repository has instead, if it can be asked."""
    import huggingface_hub

    try:
        names = huggingface_hub.HfApi(endpoint=_endpoint()).list_repo_files(
            spec["repo"], revision=spec["revision"], repo_type=spec.get("repo_type", "model")
        )
    except Exception:  # the sentence stands without it
        names = []
    found = sorted({name.rpartition("/")[0] or "its top" for name in names if name.rpartition("/")[2] in SETTINGS[:2]})
    near = difflib.get_close_matches(spec.get("subfolder") or "", found, 3, 0) or found[:3]
    has = f"models are in {', '.join(near)}" + (f" and {len(found) - 3} more" if len(found) > 3 else "")
    lacks = "is not there or has" if spec.get("subfolder") else "has"
    return SourceError(
        f"{where}: {_shown(spec)} {lacks} neither config.json nor {ADAPTER}; {has if found else 'no folder of it has'};"
        f" correct {where}.{'subfolder' if spec.get('subfolder') or found else 'revision'}"
    )


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
    what, page = _shown(spec).removesuffix(","), f"{endpoint}/{'datasets/' if kind == 'dataset' else ''}{repo}"
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


def _link_snapshot(snapshot: Path, folder: Path, wanted: Mapping[str, str | None], where: str, below: str = "") -> str:
    home = snapshot / below
    names = [str(p.relative_to(home)) for p in home.rglob("*") if p.is_file()]
    for name in match_members(names, wanted, where):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        blob = (home / name).resolve()
        try:
            os.link(blob, folder / name)
        except OSError:
            shutil.copyfile(blob, folder / name)
    check_members(folder, wanted, where)
    return snapshot.name
