"""What a rehearsal took beside what was said, kept as a table; and what that says of another plan."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.costs.check import COLUMNS
from pipeline.costs.rates import Rates
from pipeline.costs.shapes import Shape

MEASURED_HERE = Path("results/rehearsal/rehearsal.csv")  # what `make rehearse` writes; comes before the committed file
COMMITTED = Path("docs/results/rehearsal.csv")
NUMBERS = COLUMNS[1:]  # of a stage, in place of a rule
FIELDS = ("stage", *NUMBERS, "card", "rates", "shape", "dtype")


@dataclass(frozen=True)
class Rehearsal:
    """rows: of the stages, with NUMBERS; card: of the device; rates: the name of those that were used; shape, dtype: of
    the model."""

    rows: Sequence[Mapping[str, object]]
    card: str
    rates: str
    shape: str
    dtype: str

    def ratio(self, stage: str | None = None) -> float:
        """Seconds that a stage took over those that were said; of all stages together where it was not rehearsed."""
        rows = [row for row in self.rows if row["stage"] == stage and row["said_seconds"]] or self.rows
        return sum(row["seconds"] for row in rows) / sum(row["said_seconds"] for row in rows)


def shape_text(shape: Shape) -> str:
    return f"{shape.layers}x{shape.hidden}x{shape.intermediate}"


def write_rehearsal(path: Path, rehearsal: Rehearsal) -> None:
    of_all = {name: getattr(rehearsal, name) for name in FIELDS if name not in ("stage", *NUMBERS)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as out:
        table = csv.DictWriter(out, FIELDS, lineterminator="\n")
        table.writeheader()
        for row in rehearsal.rows:
            numbers = {name: f"{row[name]:.1f}" if isinstance(row[name], float) else row[name] for name in NUMBERS}
            table.writerow({"stage": row["stage"]} | numbers | of_all)


def read_rehearsal(root: Path, shape: Shape, dtype: str) -> Rehearsal | None:
    """The first table that is of this shape and dtype: of this machine, or else committed."""
    for path in (root / MEASURED_HERE, root / COMMITTED):
        if path.exists():
            with path.open(encoding="utf-8", newline="") as file:
                rows = [{k: float(v) if k in NUMBERS else v for k, v in row.items()} for row in csv.DictReader(file)]
            of_all = [rows[0][name] for name in ("card", "rates", "shape", "dtype")] if rows else []
            if of_all[2:] == [shape_text(shape), dtype]:
                return Rehearsal(rows, *of_all)
    return None


def error(rehearsal: Rehearsal | None, seconds: Mapping[str, float], rates: Rates) -> list[str]:
    """Lines on how far hours are off, from seconds on the device that are said of the stages of a plan."""
    if rehearsal is None:
        return ["Not rehearsed yet: `make rehearse` on the device tells how far these hours are off."]
    ratios = {row["stage"]: rehearsal.ratio(row["stage"]) for row in rehearsal.rows if seconds.get(row["stage"])}
    said = sum(seconds.values())
    expected = sum(value * ratios.get(stage, rehearsal.ratio()) for stage, value in seconds.items())
    low, high = (pick(ratios, key=ratios.get, default="") for pick in (min, max))
    spread = f", by stage {ratios[low]:.2f} ({low}) to {ratios[high]:.2f} ({high})" if ratios else ""
    lines = [
        f"Rehearsed on {rehearsal.card}: it took {rehearsal.ratio():.2f} of what was said{spread}; so expect"
        f" {expected / 3600:.2f} {rates.hours} for the {said / 3600:.2f} above (docs/cluster.md)."
    ]
    if rehearsal.rates != rates.name:
        lines.append(f"That was said with the rates of {rehearsal.rates}; those above are of {rates.name}.")
    return lines
