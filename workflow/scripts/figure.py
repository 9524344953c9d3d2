"""One figure of the study as SVG and PNG, from its tables. A table or column that is missing or empty is an error.

params: name, one of safety_geometry.figures.draw.FIGURES; may_be_empty: a page that says what lacks, instead of the
error;
prompts: what -> n, numbers of prompts that stand in no table.
"""

import pandas as pd
from _job import Job, explained

from safety_geometry.artefacts.tables.files import read_table
from safety_geometry.figures.draw import NoData, empty_figure, make_figure, save


def main() -> None:
    job = Job(__doc__, inputs=["tables*"], outputs=["svg", "png"])
    name = job.params.get("name")
    tables = {path.stem: read_table(path) for path in job.tables}
    if stated := job.params.get("prompts"):
        tables["prompts"] = pd.DataFrame(stated.items(), columns=["what", "n"])
    with explained(ValueError, of=f"figure {name}"):
        try:
            figure = make_figure(name, tables)
        except NoData as error:
            if not job.params.get("may_be_empty"):
                raise
            figure = empty_figure(name, str(error))
    for path in (job.svg, job.png):
        with job.publish(path) as scratch:
            save(figure, scratch)


if __name__ == "__main__":
    main()
