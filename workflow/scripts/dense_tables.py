"""What goes with what over all saves, and when coupling changes level. params: stats_seed, draws, block_lengths."""

from _job import Job, explained

from safety_geometry.artefacts.tables.files import read_table
from safety_geometry.geometry.dense import coupling_transition, dense_correlations


def main() -> None:
    job = Job(__doc__, inputs=["trajectory"], outputs=["dense_correlations", "coupling_transition"])
    trajectory, bootstrap = read_table(job.trajectory), (job.params["draws"], job.params["stats_seed"])
    with explained(ValueError, of=job.trajectory):
        correlations = dense_correlations(trajectory, job.params["block_lengths"], *bootstrap)
        transition = coupling_transition(trajectory, *bootstrap)
    job.write_table(correlations, job.dense_correlations)
    job.write_table(transition, job.coupling_transition)


if __name__ == "__main__":
    main()
