"""`make label-sample`: answers of a finished study for people to label, before they have seen a score.

Two files: the answers with their requests, in results/<study>/private, and an empty file for their labels, with ids and
digests only. Fill it in, keep it under a name of yours, name that in judges.hand_labels, and run the study again: the
agreement stands in the table of judges as *own outputs*.
"""

import argparse
import os
import sys
from pathlib import Path

import pandas as pd
from pipeline import ROOT
from pipeline.config_file import read_study
from pipeline.layout import filled
from pipeline.study import Study

from safety_geometry.artefacts.completions import read_completions
from safety_geometry.artefacts.errors import ArtefactError
from safety_geometry.artefacts.tables.files import read_table
from safety_geometry.judges.label_sample import HOW, drawn, empty_labels, sheet

SHEET, LABELS = "label_sample.csv", "judge_labels.csv"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--configfile", default="config.yaml", help="configuration of the study")
    parser.add_argument("--answers", type=int, default=150, help="how many (default 150)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default 0)")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    study = read_study(Path(arguments.configfile))
    private, labels = Path(study.layout.private) / SHEET, Path(study.layout.root) / LABELS
    if there := [path for path in (private, labels) if path.exists()]:
        sys.exit(f"error: {there[0]} exists already; it may hold labels: move it away, or remove it")
    try:
        judged, completions = answers(study)
        sample = drawn(judged, arguments.answers, arguments.seed)
        texts = sheet(sample, completions)
    except (ArtefactError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    texts.to_csv(private, index=False)
    with labels.open("w", encoding="utf-8", newline="") as file:
        file.write(HOW)
        empty_labels(sample).to_csv(file, index=False, lineterminator="\n")
    print(f"{len(sample)} answers stand in {private}; label them in {labels}, and name that file in judges.hand_labels")


def answers(study: Study) -> tuple[pd.DataFrame, dict[str, dict]]:
    """Judged answers of all checkpoints, and the answers themselves by id, which has the checkpoint before it."""
    judged, completions = [], {}
    for seed, regime, step in study.judged_checkpoints():
        prefix = f"{seed}:{regime}:{step}:"
        table = read_table(Path(filled(study.layout.judged(regime, step), seed)))
        judged.append(table.assign(id=prefix + table["id"], regime=regime))
        rows = read_completions(Path(filled(study.layout.completions(regime, step), seed)))
        completions |= {prefix + row["id"]: row for row in rows}
    return pd.concat(judged, ignore_index=True), completions


if __name__ == "__main__":
    main()
