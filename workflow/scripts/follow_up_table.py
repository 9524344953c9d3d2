"""The follow-up table of all seeds: chosen cells, their controls and baselines with the scores of their answers.

--choices: one file per seed; --judged: in the order of params.checkpoints ({seed, regime, step, anchor}); a checkpoint
without a chosen cell has an empty file. params: checkpoints, stats_seed, draws.
"""

import json

import pandas as pd
from _job import Job, JobError
from _per_checkpoint import by_checkpoint, read_judged

from safety_geometry.causal.follow_up import follow_up_table
from safety_geometry.tables import Checkpoint

NAMES = ("seed", "regime", "step", "anchor")


def main() -> None:
    job = Job(__doc__, inputs=["choices*", "judged*"], outputs=["table"])
    p = job.params
    judged = by_checkpoint(p["checkpoints"], job.judged, read_judged)
    tables = []
    for path in job.choices:
        choice = json.loads(path.read_text(encoding="utf-8"))
        rows = [
            {k: v for k, v in row.items() if k not in NAMES} | {"checkpoint": Checkpoint(**{k: row[k] for k in NAMES})}
            for row in choice["chosen"]
        ]
        try:
            chosen = pd.DataFrame(rows)
            tables.append(follow_up_table(chosen, judged, choice["scoring"], p["stats_seed"], p["draws"]))
        except ValueError as error:
            raise JobError(f"{path}: {error}") from error
    job.write_table(pd.concat(tables, ignore_index=True), job.table)


if __name__ == "__main__":
    main()
