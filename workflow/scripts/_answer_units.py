"""Answers of units of cells into a store; a unit's answers are kept as a whole, and do not depend on other units."""

from collections.abc import Mapping, Sequence

from _completions import Asked, answer_cells
from _job import Job
from _model import Loaded, batch_size, progress
from _store import UnitStore

from safety_geometry.interventions import Intervention


def answer_missing(
    job: Job, loaded: Loaded, units: Mapping[str, Mapping[str, Sequence[Intervention]]], asked: Sequence[Asked],
    settings: Mapping, store: UnitStore,
) -> None:  # fmt: skip
    """Answer `asked` under the cells of each unit that the store lacks.

    units: by key in the store, interventions by cell. settings: max_new_tokens, batch_size.
    """
    if not units:
        return
    bar = progress(len(asked) * sum(map(len, units.values())), "answers")
    limit, rows = settings["max_new_tokens"], batch_size(job, "answers", settings["batch_size"])
    for key, cells in units.items():
        found = {"answers": answer_cells(loaded, cells, asked, limit, rows, bar)}
        store.put(key, found | ({"layout_changed": changed} if (changed := job.layout_changed()) else {}))
