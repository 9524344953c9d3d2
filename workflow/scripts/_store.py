"""What a job has finished of its work: one that was killed, or whose settings changed, goes on from it."""

import contextlib
import hashlib
import json
import os
from collections.abc import Collection
from pathlib import Path

from _integrity import content_digest
from _job import Job, make_folder, remove, writing


class UnitStore:
    """Results of finished units by key, one file each, below private/. A damaged file counts as missing."""

    def __init__(self, folder: Path):
        """Raises JobError when a file stands in its place, or it cannot be made."""
        self.folder = folder
        make_folder(folder)

    def get(self, key: str) -> dict | None:
        try:
            unit = json.loads(self._path(key).read_text(encoding="utf-8"))
            return unit["result"] if unit["digest"] == _digest(key, unit["result"]) else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def put(self, key: str, result: dict) -> None:
        """Raises JobError when the disk is full."""
        path = self._path(key)
        scratch = path.with_name(f".{key}.partial-{os.getpid()}")
        if path.is_dir():
            remove(path)
        with writing(path):
            try:
                scratch.write_text(json.dumps({"digest": _digest(key, result), "result": result}), encoding="utf-8")
                scratch.replace(path)
            finally:
                with contextlib.suppress(OSError):
                    scratch.unlink(missing_ok=True)

    def keep(self, keys: Collection[str]) -> None:
        """Forget all other units."""
        for path in self.folder.glob("*.json"):
            if path.stem not in keys:
                remove(path)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def job_key(job: Job, **facts) -> str:
    """Key of work that depends on the contents of all inputs, settings and code of a job, and on `facts`."""
    paths = [(name, path) for name in job.inputs for path in job._paths(name)]
    files = [[name, content_digest(path)] for name, path in paths]
    whole = {"files": files, "params": job.params, "code": job.code, **facts}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _digest(key: str, result: object) -> str:
    """Of the key as well: a unit under another's name is damaged."""
    return hashlib.sha256(json.dumps([key, result], sort_keys=True).encode()).hexdigest()
