"""Two studies as folders: what they are, and what is said of them side by side."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from safety_geometry.artefacts.errors import ArtefactError
from safety_geometry.artefacts.recorded import Recorded, recorded
from safety_geometry.claims.verify_report import read, seeds

SHOWN = 12
NEEDED = {"id", "claim", "verdict", "lo", "hi", "reason"}


@dataclass(frozen=True)
class Compared:
    """One of two studies. claims: its table; records: what its sidecars say, empty where it has none."""

    folder: Path
    claims: pd.DataFrame
    seeds: list[int]
    records: Recorded


def read_study(folder: Path) -> Compared:
    """A study's folder, or one with its tables only. Raises ArtefactError where it is none."""
    claims = folder / "tables" / "claims.csv"
    if not str(folder).strip("."):
        raise ArtefactError("name two studies: make compare A=results/one B=results/other")
    if not folder.is_dir():
        raise ArtefactError(f"{folder} is no folder; name a study's, as results/default or docs/results/full")
    if not claims.is_file():
        inside = (folder / "claims.csv").is_file()
        advice = f"give {folder.parent}" if inside else "run the study to its end (make run), or name another folder"
        raise ArtefactError(f"{folder} is no finished study: it has no tables/claims.csv; {advice}")
    try:
        frame, of_seeds = read(claims), seeds(folder / "tables")
    except (OSError, ValueError, KeyError) as error:
        raise ArtefactError(f"{claims} or five_anchor.csv beside it is no table ({error}); make it anew") from error
    missing = NEEDED - set(frame) | ({"estimate"} if not {"estimate", "value"} & set(frame) else set())
    if missing or frame["id"].duplicated().any():
        what = f"it lacks {', '.join(sorted(missing))}" if missing else "claims stand in it twice"
        raise ArtefactError(f"{claims} is no table of claims: {what}; make it anew")
    return Compared(folder, frame, of_seeds, recorded(folder))


def report(a: Compared, b: Compared, table: pd.DataFrame, settings: list[dict]) -> Iterator[str]:
    """Lines for the terminal: verdicts that differ, then estimates, then settings."""
    for side, study in zip("AB", (a, b), strict=True):
        known = ", ".join(map(str, study.seeds)) or "unknown"
        yield f"{side}: {study.folder} ({len(study.claims)} claims, seeds {known})"
    both = table[table["verdicts"].isin(["same", "differ"])]
    if not len(both):
        yield "no claim applies to both: the names of their regimes are in the claims' ids"
    yield from section("verdicts differ", both[both["verdicts"] == "differ"], len(both))
    apart = both[(both["verdicts"] == "same") & both["apart"].eq(True)]
    yield from section("other estimates lie apart (95 % interval of B less A)", apart, int(both["apart"].notna().sum()))
    for side in "ab":
        if n := int((table["verdicts"] == f"only {side}").sum()):
            yield f"claims that apply to {side.upper()} only: {n}"
    if len(both) and not both["comparable"].all():
        left = int((~both["comparable"].astype(bool)).sum())
        yield f"{left} claims were decided by other rules, or of another quantity: their estimates are not compared"
    yield from of_settings(a, b, settings)


def section(what: str, rows: pd.DataFrame, of: int) -> Iterator[str]:
    if of:
        yield f"{len(rows)} of {of} {what}{':' if len(rows) else ''}"
    for row in rows.to_dict("records"):
        yield f"  {row['id']}: A {words(row, 'a')}; B {words(row, 'b')}"


def words(row: dict, side: str) -> str:
    """`holds 0.33 [0.14, 0.5]`."""
    numbers = {name: row[f"{name}_{side}"] for name in ("estimate", "lo", "hi")}
    return f"{row[f'verdict_{side}']}{',' * bool(pd.isna(numbers['estimate']))} {interval_words(numbers)}"


def interval_words(row: Mapping) -> str:
    """`0.33 [0.14, 0.5]` of a row with estimate, lo and hi."""
    estimate, lo, hi = (row[name] for name in ("estimate", "lo", "hi"))
    if pd.isna(estimate):
        return "no estimate"
    return f"{estimate:.3g}" + ("" if pd.isna(lo) or pd.isna(hi) else f" [{lo:.3g}, {hi:.3g}]")


def of_settings(a: Compared, b: Compared, rows: list[dict]) -> Iterator[str]:
    unknown = [str(study.folder) for study in (a, b) if not study.records]
    if unknown:
        yield f"settings, packages and code: unknown of {' and '.join(unknown)} (no sidecars)"
        return
    for kind, name in (("package", "packages"), ("python", "Python"), ("code", "code"), ("data", "data"),
                       ("setting", "settings"), ("only in one", "scripts")):  # fmt: skip
        mine = [row for row in rows if row["kind"] == kind]
        mine.sort(key=lambda row: -len(row["scripts"].split(", ")))  # what most scripts were told first
        if kind == "code" and mine:
            yield f"code: that of {len(mine[0]['scripts'].split(', '))} scripts differs"
        elif not mine:
            yield f"{name}: the same"
        else:
            yield f"{name}: {len(mine)} differ"
            yield from map(setting, mine[:SHOWN])
            if len(mine) > SHOWN:
                yield f"  … and {len(mine) - SHOWN} more"
    yield "The machine is recorded in no sidecar; packages say what kind of build it was."


def setting(row: dict) -> str:
    """`  gcg.steps (attack_gcg): 8 | 0`."""
    first, *others = row["scripts"].split(", ")
    told = "" if row["kind"] in ("package", "python", "only in one") else f" ({first}{', …' if others else ''})"
    return f"  {row['key']}{told}: {row['a'] or 'none'} | {row['b'] or 'none'}"
