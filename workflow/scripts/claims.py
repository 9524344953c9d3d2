"""The papers' claims against this run: verdict, numbers and reason, from the study's tables alone.

params: configuration, the study's name, which says what was declared to be decided by it; tuned, ids of the claims that
hyper-parameters were chosen for (the default study's, where it is left out).
"""

from _job import Job, JobError, explained

from safety_geometry.artefacts.tables.files import read_table
from safety_geometry.claims.catalogue import TUNED
from safety_geometry.claims.decide import claims_table

NEEDED = ("five_anchor", "trajectory", "coupling", "contrasts", "coupling_controls", "geometry", "profile")


def main() -> None:
    job = Job(__doc__, inputs=["tables*"], outputs=["claims"])
    tables = {path.stem: read_table(path) for path in job.tables}
    if missing := set(NEEDED) - set(tables):
        raise JobError(f"--tables: {', '.join(sorted(missing))} missing")
    with explained(ValueError, of="claims"):
        table = claims_table(tables, job.params.get("tuned", TUNED), job.params.get("configuration"))
    job.write_table(table, job.claims)


if __name__ == "__main__":
    main()
