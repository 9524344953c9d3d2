"""Greedy answers of a loaded model, as text, with the residual stream edited or as it is."""

from collections.abc import Sequence
from dataclasses import dataclass

from safety_geometry.models.generation import generate
from safety_geometry.models.interventions import Edits
from safety_geometry.models.language_model import LanguageModel
from safety_geometry.models.memory import BatchSize


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
