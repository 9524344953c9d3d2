"""One figure of the study as SVG and PNG, from its tables. A table or column that is missing or empty is an error.

params: name, one of safety_geometry.figures.FIGURES.
"""

from _job import Job, JobError
from _read import read_tables

from safety_geometry.figures import make_figure, save


def main() -> None:
    job = Job(__doc__, inputs=["tables*"], outputs=["svg", "png"])
    name = job.params.get("name")
    try:
        figure = make_figure(name, read_tables(job.tables))
    except ValueError as error:
        raise JobError(f"figure {name}: {error}") from error
    for path in (job.svg, job.png):
        with job.publish(path) as scratch:
            save(figure, scratch)


if __name__ == "__main__":
    main()
