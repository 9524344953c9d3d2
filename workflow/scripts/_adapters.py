"""The saves of a training segment, one after the other, from one base model that is read once; or one model without adapters."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from _job import Job, JobError
from _model import Loaded

from safety_geometry.adapters import with_adapter
from safety_geometry.runner import Runner


def each_save(job: Job, base: Loaded, outputs: list[Path]) -> Iterator[tuple[Loaded, Path]]:
    """Model of each of --adapters with the output that belongs to it. `base` serves for nothing else afterwards.

    Without --adapters there is one output, and it belongs to `base` itself.
    """
    adapters = job.adapters
    if not adapters and len(outputs) == 1:
        yield base, outputs[0]
        return
    if not adapters or len(adapters) != len(outputs):
        raise JobError(f"{len(outputs)} outputs for {len(adapters)} adapters; name one for each")
    plain = base.model.to("cpu")
    for adapter, output in zip(adapters, outputs, strict=True):
        job.adapters = [adapter]  # the sidecar names what this file was made from
        model = with_adapter(plain, adapter, job.params["model"]["device"])
        loaded = replace(base, model=model, runner=Runner(model))
        del model
        yield loaded, output
        loaded.model = loaded.runner = None  # the next one is made before the caller lets go of this one
