"""Results of finished units of a job's work: one that was killed, or whose settings changed, goes on from them."""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from safety_geometry.artefacts.disk import make_folder, remove, writing
from safety_geometry.artefacts.errors import ArtefactError

log = logging.getLogger(__name__)


def content_key(*facts: object) -> str:
    """SHA-256 of everything that some work depends on, as JSON."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class UnitStore:
    """Results of finished units by key, one file each, below private/. A damaged file counts as missing."""

    def __init__(self, folder: Path):
        """Raises ArtefactError when a file stands in its place, or it cannot be made."""
        self.folder = folder
        make_folder(folder)

    def get(self, key: str) -> dict | None:
        try:
            unit = json.loads(self._path(key).read_text(encoding="utf-8"))
            return unit["result"] if unit["digest"] == content_key(key, unit["result"]) else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def put(self, key: str, result: dict) -> None:
        """Raises ArtefactError when the disk is full."""
        path = self._path(key)
        scratch = path.with_name(f".{key}.partial-{os.getpid()}")
        if path.is_dir():
            remove(path)
        with writing(path):
            try:
                # The digest is of the key as well: a unit under another's name is damaged.
                record = {"digest": content_key(key, result), "result": result}
                scratch.write_text(json.dumps(record), encoding="utf-8")
                scratch.replace(path)
            finally:
                with contextlib.suppress(OSError):
                    scratch.unlink(missing_ok=True)

    def completed(
        self, keys: Mapping[str, str], compute: Callable[[list[str]], Iterable[tuple[str, dict]]]
    ) -> dict[str, dict]:
        """Results of all units by name: those that are there, and those that compute(names of the others) gives by name, which are
        kept as they come. Other units are forgotten.

        keys: of the units by name. Raises ArtefactError when results cannot be read back.
        """
        results = {name: self.get(key) for name, key in keys.items()}
        lacking = [name for name, result in results.items() if result is None]
        log.info("%d units of cells, %d of them to compute", len(keys), len(lacking))
        for name, result in compute(lacking) if lacking else ():
            self.put(keys[name], result)
        results |= {name: self.get(keys[name]) for name in lacking}
        if lost := [name for name, result in results.items() if result is None]:
            raise ArtefactError(f"{self.folder}: results of {lost[0]} cannot be read back; is the disk damaged?")
        self.keep(set(keys.values()))
        return results

    def keep(self, keys: Collection[str]) -> None:
        """Forget all other units."""
        for path in self.folder.glob("*.json"):
            if path.stem not in keys:
                remove(path)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"
