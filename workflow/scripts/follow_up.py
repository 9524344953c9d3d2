"""Answers of the followed-up cells of one checkpoint: direct requests that did not choose them, usefulness, benign utility.

--choice names the cells, each with the digest of what it does. Targets that share controls answer together with these; answers
that the same cells gave to the same requests before are taken from a store beside --completions (private). The cells of the
others are made anew from the same settings as in the sweep. params: those of sweep.py, checkpoint {regime, step}, answers
{suites, max_new_tokens, batch_size}. Where nothing is missing no model is loaded.
"""

import json

from _completions import read_suites
from _job import Job, JobError
from _model import load
from _store import UnitStore
from _sweep import Sweep
from _unit_key import answer_key
from _units import answer_missing, completed

from safety_geometry.causal.cells import Target, clean_unit
from safety_geometry.causal.names import CLEAN


def main() -> None:
    job = Job(
        __doc__,
        inputs=["model", "adapter?", "activations", "carriers", "choice", "harmful", "suites*"],
        outputs=["completions"],
    )
    p, choice = job.params, json.loads(job.choice.read_text(encoding="utf-8"))
    store = UnitStore(job.completions.with_suffix(".store"))
    asked = [
        (suite, row)
        for suite, row in read_suites(p["answers"]["suites"], job.suites)
        if suite != "direct" or row["id"] in choice["scoring"]
    ]
    here = [row for row in choice["chosen"] if {k: row[k] for k in p["checkpoint"]} == p["checkpoint"]]
    units = together(here)
    keys = {group: answer_key(job, cells, asked, p["answers"]) for group, cells in units.items()}

    def compute_missing(lacking: list[str]) -> None:
        if lacking:
            compute(job, {keys[group]: units[group] for group in lacking}, asked, store)

    results = completed(job, store, keys, compute_missing)
    job.write_jsonl((row for found in results.values() for row in found["answers"]), job.completions)


def together(chosen: list[dict]) -> dict[str, dict[str, str]]:
    """Cells and their digests, by id, of each group of targets, and of the baseline (a group of its own)."""
    groups: dict[str, dict[str, str]] = {}
    for row in chosen:
        what = (row[name] for name in ("family", "mode", "lambda", "scope", "rank"))
        group = CLEAN if row["role"] == "baseline" else Target(*what).group
        groups.setdefault(group, {})[row["cell"]] = row["digest"]
    return {group: dict(sorted(cells.items())) for group, cells in groups.items()}


def compute(job: Job, missing: dict[str, dict[str, str]], asked: list, store: UnitStore) -> None:
    sweep = Sweep(job, load(job, job.adapter))
    known = {cell.id: cell.interventions for unit in (clean_unit(), *sweep.units()) for cell in unit.cells}
    if lost := sorted({cell for cells in missing.values() for cell in cells} - set(known)):
        raise JobError(
            f"{job.choice} names the cell {lost[0]}, which the sweep does not have; run follow_up_choice again"
        )
    units = {key: {cell: known[cell] for cell in cells} for key, cells in missing.items()}
    answer_missing(job, sweep.loaded, units, asked, job.params["answers"], store)


if __name__ == "__main__":
    main()
