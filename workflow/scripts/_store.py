"""What a job has finished of its work: one that was killed, or whose settings changed, goes on from it."""

import errno
import hashlib
import json
from collections.abc import Collection
from pathlib import Path

from _job import Job, JobError, recorded_digest


class UnitStore:
    """Results of finished units by key, one file each, below private/. A damaged file counts as missing."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, key: str) -> dict | None:
        try:
            found = json.loads(self._path(key).read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            return None
        return found["result"] if found.get("digest") == _digest(found.get("result")) else None

    def put(self, key: str, result: dict) -> None:
        """Raises JobError when the disk is full."""
        path = self._path(key)
        scratch = path.with_suffix(".partial")
        try:
            scratch.write_text(json.dumps({"digest": _digest(result), "result": result}), encoding="utf-8")
            scratch.replace(path)
        except OSError as error:
            scratch.unlink(missing_ok=True)
            if error.errno == errno.ENOSPC:
                raise JobError(f"no space left on the disk while writing {path}; free some and run again") from error
            raise

    def keep(self, keys: Collection[str]) -> None:
        """Forget all other units."""
        for path in self.folder.glob("*.json"):
            if path.stem not in keys:
                path.unlink()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def job_key(job: Job, **facts) -> str:
    """Key of work that depends on all inputs, settings and code of a job, and on `facts`."""
    paths = [(name, path) for name in job.inputs for path in job._paths(name)]
    files = [[name, recorded_digest(path)] for name, path in paths]
    whole = {"files": files, "params": job.params, "code": job.code, **facts}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _digest(result: object) -> str:
    return hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()
