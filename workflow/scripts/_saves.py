"""A job that makes one file of each save of a training segment."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from _job import Job, JobError

from safety_geometry.models.loaded import Loaded
from safety_geometry.models.saves import each_save


def saves(
    job: Job, base: Loaded, outputs: Sequence[Path], **beside: Sequence[Path]
) -> Iterator[tuple[Job, Loaded, Path]]:
    """The model of each of --adapters (without any, `base` itself) with its output, and the job as far as that goes.

    beside: other inputs that come in the same order, or not at all. `base` serves for nothing else afterwards.
    """
    files = {"adapters": job.adapters, **beside}
    for name, paths in files.items():
        if len(paths) != len(outputs) and (paths or (name == "adapters" and len(outputs) != 1)):
            raise JobError(f"{len(outputs)} outputs for {len(paths)} {name}; name one for each")
    for number, loaded in enumerate(each_save(base, job.adapters, job.params["model"]["device"])):
        yield job.part(**{name: paths[number : number + 1] for name, paths in files.items()}), loaded, outputs[number]
