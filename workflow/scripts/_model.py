"""What a job with a model needs besides its files: settings and messages for what the library raises, batches, progress."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from _job import Job, JobError

from safety_geometry.models import loaded as models
from safety_geometry.models.chat import Rendered, TemplateError
from safety_geometry.models.loaded import Loaded
from safety_geometry.models.loading import ModelError, configure
from safety_geometry.models.memory import BatchSize
from safety_geometry.models.positions import PositionError
from safety_geometry.models.runner import ContextError, UnsupportedModel

BAD_INPUT = (ModelError, TemplateError, UnsupportedModel, PositionError, ContextError)


@contextlib.contextmanager
def said(where: str = "") -> Iterator[None]:
    """What the library cannot use ends the job with a sentence that names the setting, where there is one."""
    try:
        yield
    except BAD_INPUT as error:
        hint = "; see activations.positions in the configuration" * isinstance(error, PositionError)
        raise JobError(f"{where}{error}{hint}") from error
    except OverflowError as error:
        raise JobError(f"{where}{error}; set activations.dtype to bfloat16 or float32") from error


def load(job: Job, adapter: Path | None = None, folder: Path | None = None, device: str | None = None) -> Loaded:
    """The model of --model (or of `folder`) with params.model {dtype, device, threads, system}, and the adapter of a checkpoint.

    `device`: where to put it instead.
    """
    settings, folder = job.params["model"], folder or job.model
    configure(settings["threads"])
    say_not_finite(folder)
    with said(f"model {folder}: "):
        return models.load(folder, settings["dtype"], device or settings["device"], settings.get("system"), adapter)


def say_not_finite(folder: Path) -> None:
    """A job whose model overflows (`runner.NotFinite`) or whose training diverges ends with a sentence, whatever it was at."""
    before = sys.excepthook

    def hook(kind, error, trace) -> None:
        if issubclass(kind, FloatingPointError):
            print(f"error: model {folder}: {error}", file=sys.stderr)
        else:
            before(kind, error, trace)

    sys.excepthook = hook


def rendered(loaded: Loaded, rows: Sequence[dict], new_tokens: int | Sequence[int] = 0) -> list[Rendered]:
    """The prompts of `rows`, with room for answers of so many tokens."""
    with said():
        return loaded.render(rows, new_tokens)


def batch_size(job: Job, what: str, rows: int) -> BatchSize:
    """Rows of a forward pass of this job; where memory makes them fewer, the sidecars of what comes out say so."""
    size = next((b for b in job.batches if b.what == what), None)
    if size is None:
        job.batches.append(size := BatchSize(rows, what))
    return size


def recall(job: Job, changed: dict[str, dict[str, int]]) -> None:
    """Take over the `Job.layout_changed` of results that an earlier run of this job left."""
    for what, rows in changed.items():
        size = batch_size(job, what, rows["asked"])
        size.rows = min(size.rows, rows["used"])


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
