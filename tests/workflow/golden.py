"""Bytes of the smoke study's tables that are known to be good: golden.json, for each platform a list of valid sets.

    python tests/workflow/golden.py [results/smoke/tables]      # adds what stands there as one more valid set

Kinds of processors round differently, so each has sets of its own, and one kind may have several. A change that is meant to
alter tables removes the sets that it makes wrong (--anew: all kinds') and says in its commit what moved.
"""

import argparse
import contextlib
import hashlib
import json
import platform
import sys
from pathlib import Path

FILE = Path(__file__).with_suffix(".json")
PROCESSOR = ("vendor_id", "cpu family", "model")  # of /proc/cpuinfo
Digests = dict[str, str]


def kind_of_machine() -> str:
    """System, architecture and, where Linux tells it, the kind of processor."""
    words = [platform.system(), platform.machine()]
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        words += [facts[name] for name in PROCESSOR if name in facts]
    return "-".join(words).lower()


HERE = kind_of_machine()


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
    parser.add_argument("--anew", action="store_true", help="take away all sets first")
    arguments = parser.parse_args()
    found, sets = digests(arguments.tables), known()
    if "claims" not in found:
        sys.exit(f"{arguments.tables} is not of a finished smoke study; run `make smoke`")
    if arguments.anew:
        sets.clear()
    mine = sets.get(HERE, [])
    if found not in mine:
        sets[HERE] = [*mine, found]
        FILE.write_text(json.dumps(sets, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{HERE}: {len(sets[HERE])} valid sets")


if __name__ == "__main__":
    main()
