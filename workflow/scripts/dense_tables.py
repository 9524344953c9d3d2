"""What goes with what over all saves, and when coupling changes level. params: stats_seed, draws, block_lengths."""

from _job import Job, JobError, read_table

from safety_geometry.geometry.dense import coupling_transition, dense_correlations


def main() -> None:
    job = Job(__doc__, inputs=["trajectory"], outputs=["dense_correlations", "coupling_transition"])
    trajectory, p = read_table(job.trajectory), job.params
    try:
        correlations = dense_correlations(trajectory, p["block_lengths"], p["draws"], p["stats_seed"])
        transition = coupling_transition(trajectory, p["draws"], p["stats_seed"])
    except ValueError as error:
        raise JobError(f"{job.trajectory}: {error}") from error
    job.write_table(correlations, job.dense_correlations)
    job.write_table(transition, job.coupling_transition)


if __name__ == "__main__":
    main()
