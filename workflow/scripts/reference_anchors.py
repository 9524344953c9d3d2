"""Which reference anchor the papers' rule would choose, beside the configured one.

params: configured {regime: step}.
"""

from _job import Job

from safety_geometry.artefacts.tables.files import read_table
from safety_geometry.training.reference import reference_table


def main() -> None:
    job = Job(__doc__, inputs=["training"], outputs=["table"])
    job.write_table(reference_table(read_table(job.training), job.params["configured"]), job.table)


if __name__ == "__main__":
    main()
