"""Directions from files at all swept checkpoints in one table. --parts come in their order."""

import pandas as pd
from _job import Job

from safety_geometry.artefacts.tables.files import read_table


def main() -> None:
    job = Job(__doc__, inputs=["parts*"], outputs=["directions"])
    parts = [read_table(path) for path in job.parts]
    filled = [part for part in parts if len(part)]  # a model that none of them fits has no rows
    job.write_table(pd.concat(filled, ignore_index=True) if filled else parts[0], job.directions)


if __name__ == "__main__":
    main()
