"""The plumbing of scripts that run a model. Apart from `_job`, which must not import torch: most scripts need none, and
no digest of code holds `_job`, while how a model is loaded decides results."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from _gpu import batch_size, share
from _job import Job, JobError

from safety_geometry.models.chat import Rendered, TemplateError
from safety_geometry.models.language_model import LanguageModel, each_save, load_language_model
from safety_geometry.models.loading import ModelError, configure
from safety_geometry.models.positions import PositionError
from safety_geometry.models.runner import ContextError, UnsupportedModel

BAD_INPUT = (ModelError, TemplateError, UnsupportedModel, PositionError, ContextError)
FIXES = {
    PositionError: "; see activations.positions in the configuration",
    OverflowError: "; set activations.dtype to bfloat16 or float32",
}


@contextlib.contextmanager
def reported(where: str = "") -> Iterator[None]:
    """What the library cannot use ends the job with a sentence that names the setting, where there is one."""
    try:
        yield
    except (*BAD_INPUT, OverflowError) as error:
        raise JobError(f"{where}{error}{FIXES.get(type(error), '')}") from error


def load(job: Job, adapter: Path | None = None, folder: Path | None = None, device: str | None = None) -> LanguageModel:
    """The model of --model (or of `folder`) with params.model {dtype, device, threads, system, graphs}, and the adapter
    of a checkpoint.

    `device`: where to put it instead.
    """
    settings, job.model_folder = job.params["model"], folder or job.model
    place, graphs, system = device or settings["device"], settings.get("graphs", False), settings.get("system")
    if graphs:
        job.graphs = "replayed" if place.startswith("cuda") else "static caches without a graph"
    configure(settings["threads"])
    share(job, settings)
    with reported(f"model {job.model_folder}: "):
        return load_language_model(job.model_folder, settings["dtype"], place, adapter, system, graphs)


def saves(
    job: Job, base: LanguageModel, outputs: Sequence[Path], **beside: Sequence[Path]
) -> Iterator[tuple[Job, LanguageModel, Path]]:
    """The model of each of --adapters (without any, `base` itself) with its output, and the job as far as that goes.

    beside: other inputs that come in the same order, or not at all. `base` serves for nothing else afterwards.
    """
    files = {"adapters": job.adapters, **beside}
    for name, paths in files.items():
        if len(paths) != len(outputs) and (paths or (name == "adapters" and len(outputs) != 1)):
            raise JobError(f"{len(outputs)} outputs for {len(paths)} {name}; name one for each")
    for number, loaded in enumerate(each_save(base, job.adapters, job.params["model"]["device"])):
        yield job.part(**{name: paths[number : number + 1] for name, paths in files.items()}), loaded, outputs[number]


def rendered(loaded: LanguageModel, rows: Sequence[dict], new_tokens: int | Sequence[int] = 0) -> list[Rendered]:
    """The prompts of `rows`, with room for answers of so many tokens."""
    with reported():
        return loaded.render_rows(rows, new_tokens)


def recalled(job: Job, results: dict[str, dict]) -> dict[str, dict]:
    """The results, of which an earlier run of this job may have left some: their `Job.layout_changed` is taken over."""
    for what, rows in (item for result in results.values() for item in result["layout_changed"].items()):
        batch_size(job, what, rows["asked"]).recall(rows["used"])
    return results


def progress(total: int, what: str) -> Callable[[int], None]:
    """A tqdm bar with an ETA on a terminal; elsewhere a plain line at every tenth."""
    from tqdm import tqdm

    if sys.stderr.isatty():
        bar = tqdm(total=total, desc=what, leave=False)
        return lambda n: bar.update(n) and None
    done = 0

    def line(n: int) -> None:
        nonlocal done
        if (done + n) * 10 // total > done * 10 // total:
            print(f"{what}: {done + n}/{total}", file=sys.stderr, flush=True)
        done += n

    return line
