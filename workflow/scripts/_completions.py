"""Answers as rows of completions: which prompts a suite asks, what a row holds, and the answers of intervened models."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from _job import read_jsonl
from _model import Loaded, progress, rendered

from safety_geometry.chat import Rendered
from safety_geometry.generation import Completion, generate, length_batches
from safety_geometry.interventions import Intervention
from safety_geometry.memory import BatchSize

FOR_JUDGES = ("arm", "type", "bucket", "must", "min_words", "context")  # of a prompt's row, where it has them

Asked = tuple[str, dict]  # suite, row of the prompt


def read_suites(suites: Mapping[str, int | None], paths: Sequence[Path]) -> list[Asked]:
    """The first prompts of each suite, as many as it names (None: all); `paths` are the suites' files in that order."""
    return [
        (suite, row) for (suite, n), path in zip(suites.items(), paths, strict=True) for row in read_jsonl(path)[:n]
    ]


def completion_row(name: str, suite: str, row: dict, answer: Completion, tokenizer) -> dict:
    """A row of completions with `name` as its id; an attacked prompt stands in it without its attack (`request`)."""
    return {
        "id": name, "suite": suite, "prompt_id": row["id"], "prompt": row.get("request", row["prompt"]),
        "completion": tokenizer.decode(answer.ids, skip_special_tokens=True).strip(), "n_tokens": len(answer.ids),
        "hit_limit": answer.hit_limit, **{key: row[key] for key in FOR_JUDGES if key in row},
    }  # fmt: skip


def answer_suites(
    loaded: Loaded, asked: Sequence[Asked], prompts: Sequence[Rendered], limits: Mapping[str, int],
    batch_size: int | BatchSize,
    observe: Callable | None = None,
) -> list[dict]:  # fmt: skip
    """Rows of the answers, up to limits[suite] tokens, to `asked`, whose rendered prompts are `prompts`.

    All suites share batches: wide batches decode several times faster.
    """
    answers = generate(
        loaded.runner, [r.ids for r in prompts], loaded.chat.stop_ids, [limits[suite] for suite, _ in asked], batch_size,
        loaded.chat.n_prefix, observe=observe, progress=progress(len(asked), "completions"),
    )  # fmt: skip
    names = [":".join(filter(None, (suite, row.get("arm"), row["id"]))) for suite, row in asked]
    return [
        completion_row(name, suite, row, answer, loaded.tokenizer)
        for name, (suite, row), answer in zip(names, asked, answers, strict=True)
    ]


def answer_cells(
    loaded: Loaded, cells: Mapping[str, Sequence[Intervention]], asked: Sequence[Asked], limit: int, batch_size: int | BatchSize,
    progress: Callable[[int], None],
) -> list[dict]:  # fmt: skip
    """Rows of the answers, up to `limit` tokens, to every prompt under each cell's interventions; `arm` is the cell.

    cells: interventions by cell. A prompt is answered under all of them in one batch, if the batch has as many rows.
    """
    prompts = [r.ids for r in rendered(loaded, [row for _, row in asked], limit)]
    size, answers = BatchSize.of(batch_size, "answers"), {}
    for together in length_batches([len(prompt) for prompt in prompts], max(1, size.rows // len(cells))):
        places = [(cell, i) for i in together for cell in cells]
        found = generate(
            loaded.runner, [prompts[i] for _, i in places], loaded.chat.stop_ids, limit, size, loaded.chat.n_prefix,
            [cells[cell] for cell, _ in places], progress=progress,
        )  # fmt: skip
        answers |= dict(zip(places, found, strict=True))
    return [
        completion_row(f"{suite}:{row['id']}@{cell}", suite, row | {"arm": cell}, answers[cell, i], loaded.tokenizer)
        for cell in cells
        for i, (suite, row) in enumerate(asked)
    ]
