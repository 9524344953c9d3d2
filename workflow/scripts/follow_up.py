"""Answers of the followed-up cells of one checkpoint: direct requests that did not choose them, usefulness, benign utility.

The cells are made anew from the same settings as in the sweep; --choice names them. params: those of sweep.py, checkpoint
{regime, step}, answers {suites, max_new_tokens, batch_size}. Without a chosen cell here the output is empty and no model runs.
"""

import json

from _completions import answer_cells, read_suites
from _job import Job, JobError
from _model import batch_size, load, progress
from _sweep import Sweep

from safety_geometry.causal.cells import clean_unit


def main() -> None:
    job = Job(
        __doc__,
        inputs=["model", "adapter?", "activations", "carriers", "choice", "harmful", "suites*"],
        outputs=["completions"],
    )
    p, choice = job.params, json.loads(job.choice.read_text())
    here = [row for row in choice["chosen"] if {k: row[k] for k in p["checkpoint"]} == p["checkpoint"]]
    if not here:
        job.write_jsonl([], job.completions)
        return
    sweep = Sweep(job, load(job, job.adapter))
    known = {cell.id: cell.interventions for unit in (clean_unit(), *sweep.units()) for cell in unit.cells}
    if lost := sorted({row["cell"] for row in here} - set(known)):
        raise JobError(
            f"{job.choice} names the cell {lost[0]}, which the sweep does not have; run follow_up_choice again"
        )
    cells = {row["cell"]: known[row["cell"]] for row in here}
    asked = [
        (suite, row)
        for suite, row in read_suites(p["answers"]["suites"], job.suites)
        if suite != "direct" or row["id"] in choice["scoring"]
    ]
    bar = progress(len(cells) * len(asked), "follow-up")
    limit, size = p["answers"]["max_new_tokens"], batch_size(job, "answers", p["answers"]["batch_size"])
    job.write_jsonl(answer_cells(sweep.loaded, cells, asked, limit, size, bar), job.completions)


if __name__ == "__main__":
    main()
