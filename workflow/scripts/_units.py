"""Units of cells and their store: a unit's results are kept as a whole, and do not depend on other units."""

import sys
from collections.abc import Callable, Mapping, Sequence

from _completions import Asked, answer_cells
from _job import Job, JobError
from _model import Loaded, batch_size, progress, recall
from _store import UnitStore

from safety_geometry.interventions import Intervention


def completed(
    job: Job, store: UnitStore, keys: Mapping[str, str], compute: Callable[[list[str]], None]
) -> dict[str, dict]:
    """Results of all units by name: what the store has, and what compute(names of the others) puts there. Other units are forgotten.

    keys: in the store, by name. Raises JobError when results cannot be read back.
    """
    results = {name: store.get(key) for name, key in keys.items()}
    lacking = [name for name, found in results.items() if found is None]
    print(f"{len(keys)} units of cells, {len(lacking)} of them to compute", file=sys.stderr, flush=True)
    compute(lacking)
    results |= {name: store.get(keys[name]) for name in lacking}
    if lost := [name for name, found in results.items() if found is None]:
        raise JobError(f"{store.folder}: results of {lost[0]} cannot be read back; is the disk damaged?")
    for found in results.values():
        recall(job, found.get("layout_changed", {}))
    store.keep(set(keys.values()))
    return results


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
