"""Greedy answers: as text, for users of the library, and as rows of completions, of a model as it is or under
interventions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from safety_geometry.models.chat import Rendered
from safety_geometry.models.generation import Completion, by_length, generate
from safety_geometry.models.interventions import Edits, Intervention
from safety_geometry.models.language_model import LanguageModel
from safety_geometry.models.memory import BatchSize

FOR_JUDGES = ("arm", "pair", "type", "bucket", "must", "min_words", "context")  # of a prompt's row, where it has them

Question = tuple[str, dict]  # suite, row of the prompt


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
    prompts = model.render(requests, max_new_tokens)
    row_edits = None if edits is None else [edits] * len(prompts)
    completions = complete(model, prompts, max_new_tokens, batch_size, edits=row_edits)
    return [
        Answer(str(place), request, model.text(completion.ids).strip(), completion.hit_limit)
        for place, (request, completion) in enumerate(zip(requests, completions, strict=True))
    ]


def complete(
    model: LanguageModel,
    prompts: Sequence[Rendered],
    limit: int | Sequence[int],
    batch_size: int | BatchSize,
    **options,
) -> list[Completion]:
    """Greedy answers to rendered prompts, in their order; options: edits, observe, progress, choose of `generate`."""
    ids, chat = [prompt.ids for prompt in prompts], model.chat
    return generate(model.runner, ids, chat.stop_ids, limit, batch_size, chat.n_prefix, **options)


def completion_row(name: str, suite: str, row: dict, completion: Completion, model: LanguageModel) -> dict:
    """A row of completions with `name` as its id; an attacked prompt stands in it without its attack (`request`)."""
    return {
        "id": name, "suite": suite, "prompt_id": row["id"], "prompt": row.get("request", row["prompt"]),
        "completion": model.text(completion.ids).strip(), "n_tokens": len(completion.ids),
        "hit_limit": completion.hit_limit, **{key: row[key] for key in FOR_JUDGES if key in row},
    }  # fmt: skip


def answer_suites(
    model: LanguageModel, questions: Sequence[Question], prompts: Sequence[Rendered], limits: Mapping[str, int],
    batch_size: int | BatchSize, **options,
) -> list[dict]:  # fmt: skip
    """Rows of the answers, up to limits[suite] tokens, to `questions`, whose rendered prompts are `prompts`.

    All suites share batches: wide batches decode several times faster. options: of `complete`.
    """
    completions = complete(model, prompts, [limits[suite] for suite, _ in questions], batch_size, **options)
    names = [":".join(filter(None, (suite, row.get("arm"), row["id"]))) for suite, row in questions]
    return [
        completion_row(name, suite, row, completion, model)
        for name, (suite, row), completion in zip(names, questions, completions, strict=True)
    ]


def answer_cells(
    model: LanguageModel, cells: Mapping[str, Sequence[Intervention]], questions: Sequence[Question],
    prompts: Sequence[Rendered], limit: int, batch_size: int | BatchSize, **options,
) -> list[dict]:  # fmt: skip
    """Rows of the answers, up to `limit` tokens, to `questions`, whose rendered prompts are `prompts`, under each
    cell's interventions; `arm` is the cell.

    cells: interventions by cell. A prompt is answered under all of them in one batch, if the batch has as many rows.
    """
    size, completions, left = BatchSize.of(batch_size, "answers"), {}, by_length([len(p.ids) for p in prompts])
    while left:
        n = max(1, size.rows // len(cells))
        together, left = left[:n], left[n:]
        places = [(cell, i) for i in together for cell in cells]
        edits = [cells[cell] for cell, _ in places]
        batch = complete(model, [prompts[i] for _, i in places], limit, size, edits=edits, **options)
        completions |= dict(zip(places, batch, strict=True))
    return [
        completion_row(f"{suite}:{row['id']}@{cell}", suite, row | {"arm": cell}, completions[cell, i], model)
        for cell in cells
        for i, (suite, row) in enumerate(questions)
    ]


def holds(
    model: LanguageModel, prompts: Sequence[Rendered], rule: Callable[[str], bool], limit: int,
    batch_size: int | BatchSize, **options,
) -> list[bool]:  # fmt: skip
    """Whether a rule holds for the greedy answer to each prompt, up to `limit` tokens."""
    return [rule(model.text(completion.ids)) for completion in complete(model, prompts, limit, batch_size, **options)]
