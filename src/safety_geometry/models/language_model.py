"""A model and its chat format, loaded together, and its greedy answers as text: for users of the library."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safety_geometry.models.chat import ChatFormat, Rendered
from safety_geometry.models.generation import generate
from safety_geometry.models.interventions import Edits
from safety_geometry.models.loaded import load
from safety_geometry.models.memory import BatchSize
from safety_geometry.models.runner import Runner


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """`runner` runs its blocks, `chat` renders conversations for it."""

    runner: Runner
    chat: ChatFormat

    def render(self, requests: Sequence[str], new_tokens: int = 0) -> list[Rendered]:
        """Prompts of requests. Raises ContextError for one that, with an answer of `new_tokens`, exceeds the model's
        context."""
        prompts = self.chat.render_many(requests)
        self.runner.check_context([len(prompt.ids) for prompt in prompts], new_tokens)
        return prompts


def load_language_model(
    folder: Path | str,
    dtype: str = "float32",
    device: str = "cpu",
    adapter: Path | None = None,
    system: str | None = None,
) -> LanguageModel:
    """The model of a folder of transformers, with the LoRA `adapter` folder of a checkpoint merged into it.

    dtype: float32, bfloat16 or float16; system: the system prompt of every conversation.

    Raises:
        ModelError: weights, tokenizer or device are missing, or do not belong together.
        TemplateError: its chat template does not show where request and answer stand.
        UnsupportedModel: the family is not one that `Runner` knows.
    """
    loaded = load(Path(folder), dtype, device, system, adapter)
    return LanguageModel(loaded.runner, loaded.chat)


@dataclass(frozen=True)
class Answer:
    """The answer to a request; hit_limit: the length limit ended it. A frame of these is what `judge_completions`
    takes."""

    id: str
    request: str
    completion: str
    hit_limit: bool


def answer(
    model: LanguageModel,
    requests: Sequence[str],
    edits: Edits | None = None,
    max_new_tokens: int = 64,
    batch_size: int | BatchSize = 32,
) -> list[Answer]:
    """Greedy answers, in the order of the requests; `edits` act on every token of prompts and answers.

    Raises ContextError for a prompt that, with its answer, exceeds the model's context.
    """
    prompts, chat = model.render(requests, max_new_tokens), model.chat
    completions = generate(
        model.runner,
        [prompt.ids for prompt in prompts],
        chat.stop_ids,
        max_new_tokens,
        batch_size,
        chat.n_prefix,
        None if edits is None else [edits] * len(prompts),
    )
    texts = chat.tokenizer.batch_decode([list(completion.ids) for completion in completions], skip_special_tokens=True)
    return [
        Answer(str(place), request, text.strip(), completion.hit_limit)
        for place, (request, text, completion) in enumerate(zip(requests, texts, completions, strict=True))
    ]
