"""Reply inversion of all swept checkpoints in one table. --parts come in their order."""

from _job import Job

from safety_geometry.artefacts.tables.files import read_table
from safety_geometry.causal.inversion import stacked


def main() -> None:
    job = Job(__doc__, inputs=["parts*"], outputs=["table"])
    job.write_table(stacked([read_table(path) for path in job.parts]), job.table)


if __name__ == "__main__":
    main()
