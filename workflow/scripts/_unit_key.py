"""What a unit of a sweep's cells depends on. Apart from the store, which attacks use as well: they do not depend on cells."""

import hashlib
import json

from _job import Job, recorded_digest

from safety_geometry.causal.cells import Unit
from safety_geometry.interventions import Intervention

READ = ("model", "adapter", "harmful", "benign")  # options of sweep.py with the files that a result depends on
SETTINGS = ("prompts", "openings", "batch_size", "model")


def unit_key(job: Job, unit: Unit) -> str:
    """Key of a unit's results: everything that they depend on. The carriers are in the interventions."""
    answers = {name: job.params["generate"][name] for name in ("suites", "max_new_tokens", "batch_size")}
    whole = {
        "unit": unit.name,
        "cells": [[c.id, c.kl, c.generated, [_fingerprint(item) for item in c.interventions]] for c in unit.cells],
        "files": {name: recorded_digest(path) for name in READ if (path := getattr(job, name)) is not None},
        "suites": [recorded_digest(path) for path in job.suites],
        "settings": {name: job.params[name] for name in SETTINGS} | {"answers": answers},
        "code": job.code,
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _fingerprint(item: Intervention) -> list:
    return [item.family, item.layer, item.strength, hashlib.sha256(item.basis.numpy().tobytes()).hexdigest()]
