"""Compare the tables of a run with reference tables: verdicts and headline values, then what else differs and where.

Exit status 0: every verdict is the reference's, and every headline value (the claims' estimates, the rates of
five_anchor) lies within the reference's interval or the range of its seeds. Other cells may differ, as they do on
another processor. 1: a verdict differs or a headline value does not lie there, named first; or there is nothing to
compare with.
"""

import argparse
import sys
from pathlib import Path

from safety_geometry.claims.verify_report import verify


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="tables of the run")
    parser.add_argument("--reference", type=Path, default=Path("docs/results/tables"), help="tables to compare with")
    parser.add_argument(
        "--tolerance", type=float, default=0.01, help="relative difference of other cells that is small"
    )
    arguments = parser.parse_args()
    lines, good = verify(arguments.results, arguments.reference, arguments.tolerance)
    print(f"{arguments.results} against {arguments.reference}:")
    print("\n".join(lines))
    sys.exit(not good)


if __name__ == "__main__":
    main()
