"""Lines of all segments of a seed's training, with the share of the monitor's prompts that were refused, by the refusal
rules.

--logs and --answers come in the same order.
"""

import pandas as pd
from _job import Job

from safety_geometry.artefacts.tables.files import read_table
from safety_geometry.artefacts.training_log import read_answers
from safety_geometry.training.table import with_refusals


def main() -> None:
    job = Job(__doc__, inputs=["logs*", "answers*"], outputs=["table"])
    parts = [
        with_refusals(read_table(log), read_answers(answers))
        for log, answers in zip(job.logs, job.answers, strict=True)
    ]
    job.write_table(pd.concat(parts, ignore_index=True), job.table)


if __name__ == "__main__":
    main()
