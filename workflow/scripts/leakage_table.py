"""The table leakage: that of every seed's prompt sets, in the order in which --parts come."""

import pandas as pd
from _job import Job

from safety_geometry.artefacts.tables.files import read_table


def main() -> None:
    job = Job(__doc__, inputs=["parts*"], outputs=["leakage"])
    job.write_table(pd.concat([read_table(path) for path in job.parts], ignore_index=True), job.leakage)


if __name__ == "__main__":
    main()
