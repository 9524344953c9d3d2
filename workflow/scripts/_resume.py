"""Progress inside a job's one output: kept beside it while the job runs, so that a killed job goes on where it was."""

import hashlib
import json
import os
from pathlib import Path

from _job import Job, recorded_digest


class Progress:
    """The last saved state of a job, in a hidden file beside `path`; of use to the same inputs, settings and code only."""

    def __init__(self, job: Job, path: Path):
        self.file = path.with_name(f".{path.name}.progress")
        inputs = {f"{name}/{p.name}": recorded_digest(p) for name in job.inputs for p in job._paths(name)}
        self.key = hashlib.sha256(json.dumps([job.params, job.code, inputs], sort_keys=True).encode()).hexdigest()

    def load(self) -> dict | None:
        """What was saved last, or None: nothing yet, another job's, or a file that was cut."""
        try:
            found = json.loads(self.file.read_text())
        except (OSError, ValueError):
            return None
        return found["state"] if found.get("key") == self.key else None

    def save(self, state: dict) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.file.with_name(f"{self.file.name}-{os.getpid()}")
        scratch.write_text(json.dumps({"key": self.key, "state": state}))
        os.replace(scratch, self.file)

    def clear(self) -> None:
        self.file.unlink(missing_ok=True)
