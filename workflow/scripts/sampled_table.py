"""Attack success of sampled answers to the direct requests, beside that of the greedy ones.

--sampled and --greedy are judged answers in the order of params.checkpoints ({seed, regime, step, anchor}). params:
checkpoints, suite, temperature, stats_seed, draws.
"""

import pandas as pd
from _job import Job, explained

from safety_geometry.artefacts.per_checkpoint import by_checkpoint, identified
from safety_geometry.artefacts.tables.files import read_table
from safety_geometry.judges.sampled import sampled_success
from safety_geometry.settings.identity import Checkpoint


def main() -> None:
    job = Job(__doc__, inputs=["sampled*", "greedy*"], outputs=["table"])
    params, rows = job.params, []
    checkpoints = [Checkpoint(**identity) for identity in params["checkpoints"]]
    greedy = by_checkpoint(checkpoints, job.greedy, read_table)
    for checkpoint, sampled in by_checkpoint(checkpoints, job.sampled, read_table).items():
        first = greedy[checkpoint]
        with explained(ValueError, of=f"sampled answers of {checkpoint.regime} at step {checkpoint.step}"):
            row = sampled_success(
                sampled, first[first["suite"] == params["suite"]], params["stats_seed"], params["draws"]
            )
        rows.append(identified(pd.DataFrame([{"temperature": params["temperature"]} | row]), checkpoint.columns()))
    job.write_table(pd.concat(rows, ignore_index=True), job.table)


if __name__ == "__main__":
    main()
