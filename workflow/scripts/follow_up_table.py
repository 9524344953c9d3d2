"""The follow-up table of all seeds: chosen cells, their controls and baselines with the scores of their answers.

--choices: one file per seed; --judged: in the order of params.checkpoints ({seed, regime, step, anchor}); a checkpoint
without a chosen cell has an empty file. params: checkpoints, stats_seed, draws.
"""

import json

import pandas as pd
from _job import Job, explained

from safety_geometry.artefacts.per_checkpoint import by_checkpoint
from safety_geometry.artefacts.tables.files import read_table
from safety_geometry.causal.follow_up import chosen_of, follow_up_table
from safety_geometry.settings.identity import Checkpoint


def main() -> None:
    job = Job(__doc__, inputs=["choices*", "judged*"], outputs=["table"])
    params = job.params
    checkpoints = [Checkpoint(**identity) for identity in params["checkpoints"]]
    judged = by_checkpoint(checkpoints, job.judged, read_table)
    tables = []
    for path in job.choices:
        choice = json.loads(path.read_text(encoding="utf-8"))
        with explained(ValueError, of=path):
            table = follow_up_table(chosen_of(choice), judged, choice["scoring"], params["stats_seed"], params["draws"])
        tables.append(table)
    job.write_table(pd.concat(tables, ignore_index=True), job.table)


if __name__ == "__main__":
    main()
