"""What a unit of a sweep's cells depends on. Apart from the store, which attacks use as well: they do not depend on cells."""

import hashlib
import json
from collections.abc import Mapping, Sequence

from _completions import Asked
from _integrity import content_digest
from _job import Job

from safety_geometry.causal.cells import Cell, Unit

READ = ("harmful", "benign")  # options of sweep.py with the prompts of the readouts
SETTINGS = ("prompts", "openings", "batch_size")


def readout_key(job: Job, unit: Unit) -> str:
    """Key of a unit's readouts: everything that they depend on. The carriers are in the interventions."""
    return _key(
        job,
        unit=unit.name,
        cells=[[cell.id, cell.kl, fingerprint(cell)] for cell in unit.cells],
        files={name: content_digest(getattr(job, name)) for name in READ},
        settings={name: job.params[name] for name in SETTINGS},
    )


def answer_key(job: Job, cells: Mapping[str, str], asked: Sequence[Asked], settings: Mapping) -> str:
    """Key of the answers that cells give together. cells: `fingerprint` by cell; settings: max_new_tokens, batch_size."""
    return _key(
        job, cells=sorted(cells.items()), asked=asked,
        settings={name: settings[name] for name in ("max_new_tokens", "batch_size")},
    )  # fmt: skip


def fingerprint(cell: Cell) -> str:
    """Digest of what a cell does to the model."""
    edits = [
        [item.family, item.layer, item.strength, hashlib.sha256(item.basis.numpy().tobytes()).hexdigest()]
        for item in cell.interventions
    ]
    return hashlib.sha256(json.dumps(edits).encode()).hexdigest()


def _key(job: Job, **facts) -> str:
    """Of facts, the model and its settings, and the code."""
    weights = [content_digest(path) for path in (job.model, job.adapter) if path is not None]
    whole = {"weights": weights, "model": job.params["model"], "code": job.code, **facts}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
