"""`make check`: every artefact of a study against its sidecar, and the sidecars against each other; exit 1 where
something is wrong.

--accept: let one that was edited by hand stand (`make accept`).
"""

import argparse
import os
import sys
from pathlib import Path

from pipeline import ROOT
from pipeline.config_file import read_study
from pipeline.damage import accept, check_study
from pipeline.study import Study

from safety_geometry.artefacts.integrity import CONFIG, IntegrityError, remake


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--configfile", default="config.yaml", help="configuration of the study")
    parser.add_argument("--accept", type=Path, metavar="FILE", help="an artefact that was edited on purpose")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    os.environ[CONFIG] = arguments.configfile
    try:
        if arguments.accept is not None:
            print(accept(arguments.accept))
            return 0
        study = read_study(Path(arguments.configfile))
        verdict = check_study(Path(study.layout.root), passing(study))
    except IntegrityError as error:
        sys.exit(f"error: {error}")
    for fault in verdict.faults:
        print(f"error: {fault.what}\n       make anew: {remake([fault.path])}", file=sys.stderr)
    for path in verdict.edited:
        print(f"edited by hand, and accepted: {path}")
    print(f"{verdict.artefacts} artefacts, {len(verdict.faults)} faults")
    return 1 if verdict.faults else 0


def passing(study: Study) -> set[Path]:
    """Weights that are deleted once everything that reads them has run, and what they were made of; their sidecars
    stay."""
    layout = study.layout
    saves = [(name, step) for name in study.regimes for step in study.steps(name) if study.passing(name, step)]
    adapters = [layout.checkpoint(*save).replace("{seed}", str(seed)) for save in saves for seed in study.all_seeds]
    return {Path(path) for path in (*adapters, *layout.passing(), *map(layout.source, study.passing_sources))}


if __name__ == "__main__":
    sys.exit(main())
