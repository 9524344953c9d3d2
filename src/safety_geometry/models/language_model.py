"""A model and its chat format, loaded together: what is asked, and read inside."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from safety_geometry.models.adapters import with_adapter
from safety_geometry.models.chat import ChatFormat, Rendered
from safety_geometry.models.loading import end_ids, load_model
from safety_geometry.models.runner import Runner
from safety_geometry.models.tokenizer import check_vocabulary, load_tokenizer


@dataclass(eq=False)
class LanguageModel:
    """`runner` runs its blocks, `chat` renders conversations for it."""

    runner: Runner
    chat: ChatFormat

    @property
    def model(self) -> nn.Module:
        return self.runner.model

    @property
    def tokenizer(self):
        return self.chat.tokenizer

    def render(
        self, requests: Sequence[str], new_tokens: int | Sequence[int] = 0, names: Sequence[str] | None = None
    ) -> list[Rendered]:
        """Prompts of requests. Raises ContextError, with its name or place, for one that, with an answer of
        `new_tokens`, exceeds the model's context."""
        prompts = self.chat.render_many(requests)
        self.runner.check_context([len(prompt.ids) for prompt in prompts], new_tokens, names)
        return prompts

    def render_rows(self, rows: Sequence[dict], new_tokens: int | Sequence[int] = 0) -> list[Rendered]:
        """Those of the rows' `prompt`, whose names are their ids, or their places where they have none."""
        names = [str(row.get("id", place)) for place, row in enumerate(rows, 1)]
        return self.render([row["prompt"] for row in rows], new_tokens, names)

    def text(self, ids: Sequence[int]) -> str:
        """Of an answer's tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)


def load_language_model(
    folder: Path | str,
    dtype: str = "float32",
    device: str = "cpu",
    adapter: Path | None = None,
    system: str | None = None,
    graphs: bool = False,
) -> LanguageModel:
    """The model of a folder of transformers, with the LoRA `adapter` folder of a checkpoint merged into it.

    dtype: float32, bfloat16 or float16; system: the system prompt of every conversation (None: the template's own);
    graphs: blocks are replayed as CUDA graphs (`graphs.py`).

    Raises:
        ModelError: weights, tokenizer or device are missing, or do not belong together.
        TemplateError: its chat template does not show where request and answer stand.
        UnsupportedModel: the family is not one that `Runner` knows.
    """
    tokenizer = load_tokenizer(Path(folder))
    chat = ChatFormat(tokenizer, system, end_ids(Path(folder)))
    model = load_model(Path(folder), dtype, device, adapter)
    check_vocabulary(tokenizer, model.config.vocab_size)
    return LanguageModel(Runner(model, graphs), chat)


def each_save(base: LanguageModel, adapters: Sequence[Path], device: str) -> Iterator[LanguageModel]:
    """The model of each adapter folder on `device`, or, without any, `base` itself. `base` serves for nothing else
    afterwards.

    One model is there at a time: what was yielded loses its weights when the next is asked for.
    """
    if not adapters:
        yield base
        return
    graphs = base.runner.graphs is not None
    if graphs:
        base.runner.graphs.clear()
    plain = base.model.to("cpu")
    for adapter in adapters:
        save = replace(base, runner=Runner(with_adapter(plain, adapter, device), graphs))
        yield save
        save.runner = None  # the next one is made before the caller lets go of this one
