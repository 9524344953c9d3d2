"""Bytes of the smoke study's tables that are known to be good: golden.json, for each platform a list of valid sets.

    python tests/workflow/golden.py [results/smoke/tables]      # adds what stands there as one more valid set

Kinds of processors round differently, so a platform may have several sets. A change that is meant to alter tables removes
the sets that it makes wrong (--anew) and says in its commit what moved.
"""

import argparse
import hashlib
import json
import platform
import sys
from pathlib import Path

FILE = Path(__file__).with_suffix(".json")
HERE = f"{platform.system()}-{platform.machine()}".lower()
Digests = dict[str, str]


def digests(tables: Path) -> Digests:
    """Table -> SHA-256 of its file."""
    return {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(tables.glob("*.csv"))}


def known() -> dict[str, list[Digests]]:
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


def nearest(found: Digests, sets: list[Digests]) -> tuple[list[str], Digests]:
    """Tables that differ from the valid set that has most in common with `found`, and that set."""
    differing = [([name for name in {**found, **valid} if found.get(name) != valid.get(name)], valid) for valid in sets]
    return min(differing, key=lambda pair: len(pair[0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path, nargs="?", default=Path("results/smoke/tables"), help="of a finished run")
    parser.add_argument("--anew", action="store_true", help="take away the sets of this platform first")
    arguments = parser.parse_args()
    found, sets = digests(arguments.tables), known()
    if "claims" not in found:
        sys.exit(f"{arguments.tables} is not of a finished smoke study; run `make smoke`")
    mine = [] if arguments.anew else sets.get(HERE, [])
    if found not in mine:
        sets[HERE] = [*mine, found]
        FILE.write_text(json.dumps(sets, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{HERE}: {len(sets[HERE])} valid sets")


if __name__ == "__main__":
    main()
