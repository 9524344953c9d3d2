"""results/<study>/summary.html anew, from tables and figures of a finished study (`make run` makes it by itself)."""

import argparse
import sys
from pathlib import Path

from pipeline.config_file import overlay_of, read_config
from pipeline.study import Study
from pipeline.summary import write

from safety_geometry.artefacts.errors import ArtefactError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--configfile", type=Path, default="config.yaml", help="configuration of the study")
    parser.add_argument("--config", nargs="+", default=[], metavar="KEY=VALUE", help="overlay of the configuration")
    arguments = parser.parse_args()
    study = Study(read_config(arguments.configfile, overlay_of(arguments.config)))
    try:
        print(f"Summary: {write(study, Path(study.layout.root))}")
    except (ArtefactError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
