"""Two studies side by side: verdicts that differ, estimates with their intervals, settings and packages.

Prints what differs, and writes comparison.csv, settings.csv (no row where a side has no sidecars), comparison.svg and
.png. A folder of tables only, as in docs/results, is a study too: its settings are unknown. Exit status 1: bad input.
"""

import argparse
import re
import sys
from pathlib import Path

from safety_geometry.artefacts.errors import ArtefactError
from safety_geometry.artefacts.recorded import differences
from safety_geometry.artefacts.tables.comparison import COMPARISON, SETTINGS, SIDES
from safety_geometry.artefacts.tables.files import frame_of, write_table
from safety_geometry.claims.compare import axis_of, compared
from safety_geometry.claims.compare_report import Compared, read_study, report, words
from safety_geometry.figures.comparison import comparison
from safety_geometry.figures.draw import NoData, empty_figure, save
from safety_geometry.figures.style import styled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, nargs=2, metavar="FOLDER", help="of a study, as results/default")
    parser.add_argument("--to", type=Path, help="folder to write to; default: build/compare/A--B")
    arguments = parser.parse_args()
    try:
        a, b = (read_study(folder) for folder in arguments.studies)
        named = "--".join(re.sub(r"[^A-Za-z0-9]+", "-", str(side.folder)).strip("-")[-80:] for side in (a, b))
        folder = arguments.to or Path("build/compare") / named
        folder.mkdir(parents=True, exist_ok=True)
        print(*write(a, b, folder), sep="\n")
    except ArtefactError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename} cannot be written ({error.strerror}); name another folder with TO=")
    print(f"Table and figure: {folder}")


def write(a: Compared, b: Compared, folder: Path) -> list[str]:
    """Table and figure; returns the lines for the terminal."""
    table = frame_of(compared(a.claims, b.claims).to_dict("records"), COMPARISON)
    write_table(table, folder / "comparison.csv", COMPARISON)
    rows = differences(a.records, b.records) if a.records and b.records else []
    write_table(frame_of(rows, SETTINGS), folder / "settings.csv", SETTINGS)
    said = {f"words_{side}": [words(row, side) for row in table.to_dict("records")] for side in SIDES}
    drawn = table.assign(axis=table["unit"].fillna("").map(axis_of), **said)
    with styled():
        try:
            figure = comparison(drawn, str(a.folder), str(b.folder))
        except NoData as error:
            figure = empty_figure("comparison", str(error))
    for kind in ("svg", "png"):
        save(figure, folder / f"comparison.{kind}")
    return list(report(a, b, table, rows))


if __name__ == "__main__":
    main()
