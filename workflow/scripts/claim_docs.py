"""Write docs/claims.md: the rules, every margin with its reason, every claim with who decides it.

PYTHONPATH=src python workflow/scripts/claim_docs.py; `--check` only compares.
"""

import argparse
import sys
from pathlib import Path

from safety_geometry.claims.document import document

ROOT = Path(__file__).parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, default=ROOT / "docs" / "claims.md", metavar="FILE")
    parser.add_argument("--check", action="store_true", help="exit with 1 when the file is not up to date")
    arguments = parser.parse_args()
    if arguments.check:
        if not arguments.file.exists() or arguments.file.read_text(encoding="utf-8") != document():
            sys.exit(f"{arguments.file} is not up to date; run PYTHONPATH=src python workflow/scripts/claim_docs.py")
    else:
        arguments.file.write_text(document(), encoding="utf-8")


if __name__ == "__main__":
    main()
