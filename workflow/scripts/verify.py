"""Compare the tables of a run with reference tables: what differs, where, and by how much.

Exit status 0: every table is identical, or every difference is within the tolerance, the reference's printed interval
or the range of the reference's seeds.
1: a table, row or cell is not, or there is nothing to compare with. Timings are in no table and are not compared.
"""

import argparse
import sys
from pathlib import Path

from safety_geometry.claims.verify_report import verify


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="tables of the run")
    parser.add_argument("--reference", type=Path, default=Path("docs/results/tables"), help="tables to compare with")
    parser.add_argument("--tolerance", type=float, default=0.01, help="relative difference that is let pass")
    arguments = parser.parse_args()
    lines, good = verify(arguments.results, arguments.reference, arguments.tolerance)
    print(f"{arguments.results} against {arguments.reference}:")
    print("\n".join(lines))
    print("all within tolerance" if good else "not all within tolerance")
    sys.exit(not good)


if __name__ == "__main__":
    main()
