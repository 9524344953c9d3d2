"""Folders that a run writes to: looked at before any job, so that a full or read-only one is named in a sentence."""

import os
import sys
import tempfile
from pathlib import Path

PROBE = bytes(64 * 1024)  # a full disk still takes an empty file


def check_places(results: Path) -> None:
    """Raises SystemExit that names the first folder that cannot be written, and what to do.

    A home that cannot be written is none of these: the caches that would lie there go below the project.
    """
    places = {
        Path(".snakemake"): "Snakemake keeps its records there: make it writable, or make room",
        results.parent: "make it writable or make room, or let it be a link to a folder where there is room",
        results: "make it writable, or make room",
        results / "logs": "make it writable, or make room",
    }
    for folder, advice in places.items():
        if why := why_unwritable(folder):
            sys.exit(f"error: the folder {folder} cannot be written: {why}; {advice}")
    temporary = os.environ.get("TMPDIR") or "/tmp"
    if why := why_unwritable(Path(temporary)):
        sys.exit(
            f"error: the folder for temporary files, {temporary}, cannot be written: {why}; set TMPDIR to one with room"
        )
    settle_caches()


def settle_caches() -> None:
    """Have Snakemake, Matplotlib, pip and the Hugging Face libraries keep their caches below the project where the home
    cannot be written; Snakemake, for one, does not start without its own."""
    if named := os.environ.get("XDG_CACHE_HOME"):
        if why := why_unwritable(Path(named)):
            sys.exit(
                f"error: the folder for caches, {named}, cannot be written: {why}; set XDG_CACHE_HOME to one with room"
            )
        return
    usual = Path(os.path.expanduser("~")) / ".cache"
    if why := why_unwritable(usual):
        caches = Path(".snakemake/cache").resolve()
        token = usual / "huggingface" / "token"
        if token.is_file():
            os.environ.setdefault("HF_TOKEN_PATH", str(token))
        os.environ["XDG_CACHE_HOME"] = str(caches)
        os.environ.setdefault("MPLCONFIGDIR", str(caches / "matplotlib"))
        print(f"{usual} cannot be written ({why}): caches go to .snakemake/cache; XDG_CACHE_HOME names another place.")


def why_unwritable(folder: Path) -> str:
    """Why nothing can be written to a folder; empty where it can. It is made where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(PROBE)
            file.flush()
            os.fsync(file.fileno())  # some file systems find out only now that they are full
    except FileExistsError:
        if folder.is_symlink():
            return f"it is a link to {os.readlink(folder)}, where there is no folder"
        return "it is a file"
    except OSError as error:
        return error.strerror or str(error)
    return ""
