"""Loading what a model job works with: threads, tokenizer, chat format, weights; and progress that suits the stream."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from _job import Job, JobError, read_jsonl

from safety_geometry.activations import PositionError
from safety_geometry.chat import ChatFormat, Rendered, TemplateError
from safety_geometry.memory import BatchSize
from safety_geometry.models import ModelError, check_vocabulary, configure, end_ids, load_model, load_tokenizer
from safety_geometry.runner import ContextError, Runner, UnsupportedModel

BAD_INPUT = (ModelError, TemplateError, UnsupportedModel, PositionError, ContextError)


@dataclass
class Loaded:
    model: object
    tokenizer: object
    chat: ChatFormat
    runner: Runner

    def prompts(self, path: Path, limit: int | None = None, new_tokens: int = 0) -> list[Rendered]:
        """The first prompts of a role, rendered, with room for an answer of so many tokens."""
        return rendered(self, read_jsonl(path)[:limit], new_tokens)


def rendered(loaded: Loaded, rows: Sequence[dict], new_tokens: int | Sequence[int] = 0) -> list[Rendered]:
    """The prompts of `rows`. Raises JobError with the id of one that, with its answer, is longer than the model's context."""
    prompts = loaded.chat.render_many([row["prompt"] for row in rows])
    names = [str(row.get("id", place)) for place, row in enumerate(rows, 1)]
    try:
        loaded.runner.check_context([len(r.ids) for r in prompts], new_tokens, names)
    except ContextError as error:
        raise JobError(str(error)) from error
    return prompts


def load(job: Job, adapter: Path | None = None, folder: Path | None = None, device: str | None = None) -> Loaded:
    """The model of --model (or of `folder`) with params.model {dtype, device, threads, system}, and the adapter of a checkpoint.

    `device`: where to put it instead.
    """
    settings, folder = job.params["model"], folder or job.model
    configure(settings["threads"])
    say_not_finite(folder)
    try:
        tokenizer = load_tokenizer(folder)
        chat = ChatFormat(tokenizer, settings.get("system"), end_ids(folder))
        model = load_model(folder, settings["dtype"], device or settings["device"], adapter)
        check_vocabulary(tokenizer, model.config.vocab_size)
        return Loaded(model, tokenizer, chat, Runner(model))
    except BAD_INPUT as error:
        raise JobError(f"model {folder}: {error}") from error


def say_not_finite(folder: Path) -> None:
    """A job whose model overflows (`runner.NotFinite`) or whose training diverges ends with a sentence, whatever it was at."""
    before = sys.excepthook

    def hook(kind, error, trace) -> None:
        if issubclass(kind, FloatingPointError):
            print(f"error: model {folder}: {error}", file=sys.stderr)
        else:
            before(kind, error, trace)

    sys.excepthook = hook


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
