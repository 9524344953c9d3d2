"""What the sidecars of a study say together: settings, versions and data of all that was made."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from safety_geometry.artefacts.integrity import SIDECAR

MOST = 4  # values of a setting that are written out
LONGEST = 120  # characters of one
Recorded = dict[tuple[str, str, str], str]


def recorded(study: Path) -> Recorded:
    """(kind, script, key) -> values, of all sidecars below a study's folder; empty where it has none.

    kind: package, python, setting, code or data. A sidecar that cannot be read counts as none.
    """
    values: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for path in study.rglob(f"*{SIDECAR}"):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            facts = list(facts_of(record))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            continue
        for place, value in facts:
            values[place].add(value)
    return {place: joined(found) for place, found in values.items()}


def facts_of(record: Mapping) -> Iterator[tuple[tuple[str, str, str], str]]:
    script = record["script"].removesuffix(".py")
    yield ("code", script, "code"), record["code"]
    yield ("python", script, "python"), record["python"]
    for name, version in record["packages"].items():
        yield ("package", script, name), version
    for key, value in flat(record["params"]):
        yield ("setting", script, key), value
    for key, digest in record["inputs"].items():
        name = key.partition("/")[2]
        if name.startswith("private/sources/") or "/" not in name:  # what was fetched, and files of the project
            yield ("data", script, name), digest[:16]


def flat(value: object, above: str = "") -> Iterator[tuple[str, str]]:
    """`a.b` and JSON of every value that is no mapping."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from flat(inner, f"{above}.{key}" if above else str(key))
    elif above:
        yield above, json.dumps(value, sort_keys=True, ensure_ascii=False)


def joined(values: set[str]) -> str:
    """A few values, each of a readable length, or how many there are."""
    shown = [value if len(value) <= LONGEST else f"{value[:LONGEST]}…" for value in sorted(values)]
    if len(shown) > MOST:
        return f"{' | '.join(shown[:MOST])} | … ({len(shown)} values)"
    return " | ".join(shown)


def differences(a: Recorded, b: Recorded) -> list[dict[str, str | None]]:
    """Rows of the table `settings`: what two studies have otherwise, one row for all scripts that agree on it."""
    ran_a, ran_b = ({script for _, script, _ in side} for side in (a, b))
    rows: dict[tuple, list[str]] = defaultdict(list)
    for kind, script, key in sorted(set(a) | set(b)):
        one, other = (side.get((kind, script, key)) for side in (a, b))
        if script in ran_a & ran_b and one != other:
            # Digests of code are each script's own: together they are one line.
            rows[(kind, key, None, None) if kind == "code" else (kind, key, one, other)].append(script)
    rows |= {("only in one", name, "ran", None): [name] for name in sorted(ran_a - ran_b)}
    rows |= {("only in one", name, None, "ran"): [name] for name in sorted(ran_b - ran_a)}
    return [
        {"kind": kind, "scripts": ", ".join(scripts), "key": key, "a": one, "b": other}
        for (kind, key, one, other), scripts in rows.items()
    ]
