"""Answers as rows of completions: what a row holds, and the answers of a model as it is, or under interventions."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from safety_geometry.models.chat import Rendered
from safety_geometry.models.generation import Completion, generate, length_batches
from safety_geometry.models.interventions import Intervention
from safety_geometry.models.loaded import Loaded
from safety_geometry.models.memory import BatchSize

FOR_JUDGES = ("arm", "type", "bucket", "must", "min_words", "context")  # of a prompt's row, where it has them

Asked = tuple[str, dict]  # suite, row of the prompt


def first_rows(suites: Mapping[str, int | None], files: Iterable[Sequence[dict]]) -> list[Asked]:
    """The first prompts of each suite, as many as it names (None: all); `files`: rows of the suites, in that order."""
    return [(suite, row) for (suite, n), rows in zip(suites.items(), files, strict=True) for row in rows[:n]]


def completion_row(name: str, suite: str, row: dict, answer: Completion, tokenizer) -> dict:
    """A row of completions with `name` as its id; an attacked prompt stands in it without its attack (`request`)."""
    return {
        "id": name, "suite": suite, "prompt_id": row["id"], "prompt": row.get("request", row["prompt"]),
        "completion": tokenizer.decode(answer.ids, skip_special_tokens=True).strip(), "n_tokens": len(answer.ids),
        "hit_limit": answer.hit_limit, **{key: row[key] for key in FOR_JUDGES if key in row},
    }  # fmt: skip


def answer_suites(
    loaded: Loaded, asked: Sequence[Asked], prompts: Sequence[Rendered], limits: Mapping[str, int],
    batch_size: int | BatchSize, observe: Callable | None = None, progress: Callable[[int], None] | None = None,
) -> list[dict]:  # fmt: skip
    """Rows of the answers, up to limits[suite] tokens, to `asked`, whose rendered prompts are `prompts`.

    All suites share batches: wide batches decode several times faster.
    """
    answers = generate(
        loaded.runner, [prompt.ids for prompt in prompts], loaded.chat.stop_ids, [limits[suite] for suite, _ in asked],
        batch_size, loaded.chat.n_prefix, observe=observe, progress=progress,
    )  # fmt: skip
    names = [":".join(filter(None, (suite, row.get("arm"), row["id"]))) for suite, row in asked]
    return [
        completion_row(name, suite, row, answer, loaded.tokenizer)
        for name, (suite, row), answer in zip(names, asked, answers, strict=True)
    ]


def answer_cells(
    loaded: Loaded, cells: Mapping[str, Sequence[Intervention]], asked: Sequence[Asked], limit: int,
    batch_size: int | BatchSize, progress: Callable[[int], None] | None = None,
) -> list[dict]:  # fmt: skip
    """Rows of the answers, up to `limit` tokens, to every prompt under each cell's interventions; `arm` is the cell.

    cells: interventions by cell. A prompt is answered under all of them in one batch, if the batch has as many rows. Raises
    ContextError for a prompt that does not fit into the model's context.
    """
    prompts = [prompt.ids for prompt in loaded.render([row for _, row in asked], limit)]
    size, answers = BatchSize.of(batch_size, "answers"), {}
    for together in length_batches([len(prompt) for prompt in prompts], max(1, size.rows // len(cells))):
        places = [(cell, i) for i in together for cell in cells]
        batch = generate(
            loaded.runner, [prompts[i] for _, i in places], loaded.chat.stop_ids, limit, size, loaded.chat.n_prefix,
            [cells[cell] for cell, _ in places], progress=progress,
        )  # fmt: skip
        answers |= dict(zip(places, batch, strict=True))
    return [
        completion_row(f"{suite}:{row['id']}@{cell}", suite, row | {"arm": cell}, answers[cell, i], loaded.tokenizer)
        for cell in cells
        for i, (suite, row) in enumerate(asked)
    ]


def holds(
    loaded: Loaded, prompts: Sequence[Rendered], rule: Callable[[str], bool], limit: int, batch_size: int | BatchSize,
    progress: Callable[[int], None] | None = None,
) -> list[bool]:  # fmt: skip
    """Whether a rule holds for the greedy answer to each prompt, up to `limit` tokens."""
    answers = generate(
        loaded.runner, [prompt.ids for prompt in prompts], loaded.chat.stop_ids, limit, batch_size, loaded.chat.n_prefix,
        progress=progress,
    )  # fmt: skip
    return [rule(loaded.text(answer.ids)) for answer in answers]
