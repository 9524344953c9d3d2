"""Rows of several tables of one kind, one below the other."""

import pandas as pd
from _job import Job


def main() -> None:
    job = Job(__doc__, inputs=["parts*"], outputs=["table"])
    job.write_table(pd.concat([pd.read_csv(p, keep_default_na=True) for p in job.parts], ignore_index=True), job.table)


if __name__ == "__main__":
    main()
