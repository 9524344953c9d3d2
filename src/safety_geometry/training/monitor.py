"""The monitor's answers while a model trains. They are judged apart from training (`table.py`)."""

from collections.abc import Mapping, Sequence

from safety_geometry.artefacts.training_log import MonitorAnswer
from safety_geometry.models.generation import generate
from safety_geometry.models.language_model import LanguageModel
from safety_geometry.models.memory import BatchSize
from safety_geometry.models.runner import Runner


def ask(
    loaded: LanguageModel, step: int, roles: Mapping[str, Sequence[dict]], limit: int, batch_size: int | BatchSize
) -> list[MonitorAnswer]:
    """Greedy answers of up to `limit` tokens, after `step` steps, to the rows (`id`, `prompt`) of each role.

    Raises ContextError for a prompt that does not fit into the model's context.
    """
    answers = []
    for role, rows in roles.items():
        prompts = [prompt.ids for prompt in loaded.render_rows(rows, limit)]
        completions = generate(
            Runner(loaded.model), prompts, loaded.chat.stop_ids, limit, batch_size, loaded.chat.n_prefix
        )
        answers += [
            MonitorAnswer(step, role, row["id"], loaded.text(completion.ids))
            for row, completion in zip(rows, completions, strict=True)
        ]
    return answers
