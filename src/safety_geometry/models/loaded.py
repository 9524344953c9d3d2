"""A model with all that it is asked with: tokenizer, chat format and runner."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from safety_geometry.models.chat import ChatFormat, Rendered
from safety_geometry.models.loading import end_ids, load_model
from safety_geometry.models.runner import Runner
from safety_geometry.models.tokenizer import check_vocabulary, load_tokenizer


@dataclass
class Loaded:
    model: nn.Module
    tokenizer: object
    chat: ChatFormat
    runner: Runner

    def render(self, rows: Sequence[dict], new_tokens: int | Sequence[int] = 0) -> list[Rendered]:
        """The prompts of `rows`, with room for answers of so many tokens.

        Raises ContextError with the id (or the place) of one that, with its answer, is longer than the model's context.
        """
        prompts = self.chat.render_many([row["prompt"] for row in rows])
        names = [str(row.get("id", place)) for place, row in enumerate(rows, 1)]
        self.runner.check_context([len(prompt.ids) for prompt in prompts], new_tokens, names)
        return prompts

    def text(self, ids: Sequence[int]) -> str:
        """Of an answer's tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)


def load(folder: Path, dtype: str, device: str, system: str | None = None, adapter: Path | None = None) -> Loaded:
    """The model in a folder, with an adapter merged into it, and its chat format with a system message (None: the template's own).

    Raises ModelError, TemplateError or UnsupportedModel.
    """
    tokenizer = load_tokenizer(folder)
    chat = ChatFormat(tokenizer, system, end_ids(folder))
    model = load_model(folder, dtype, device, adapter)
    check_vocabulary(tokenizer, model.config.vocab_size)
    return Loaded(model, tokenizer, chat, Runner(model))
