"""`make plan-cost`: what a study needs before it is started. Jobs, hours, memory and disk by stage.

Jobs are those of Snakemake's own plan: what is left to do, or with --all the whole study. Nothing is fetched, run or written.
Hours come from a model of the work and the rates of a device (docs/cluster.md): those that `make calibrate` measured here,
or else those in docs/results/cost_rates.json.
"""

import argparse
import csv
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.config_file import read_study
from pipeline.costs.check import COLUMNS, compare
from pipeline.costs.facts import Facts, Need
from pipeline.costs.rates import Rates, read_rates
from pipeline.snakemake_internals import PlanError, dry_run
from pipeline.stages import TITLES, Stages

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--configfile", default="config.yaml")
    parser.add_argument("--all", action="store_true", help="also what is done already")
    parser.add_argument("--rules", action="store_true", help="a line for each rule under its stage")
    parser.add_argument(
        "--device", help="name of a device in the rates files, instead of the first of model.device's kind"
    )
    parser.add_argument("--rates", type=Path, help="another file of rates")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="results/STUDY",
        help="a finished run of the configuration, beside what is said of it",
    )
    parser.add_argument("--csv", type=Path, help="write --against to a file too")
    options = parser.parse_args()
    os.chdir(ROOT)
    study = read_study(Path(options.configfile))
    files = [options.rates] if options.rates else None
    rates = read_rates(study.config["model"]["device"], ROOT, options.device, files)
    stages = Stages(study, Facts(study, rates, ROOT / study.layout.root), ROOT)
    jobs = planned(Path(options.configfile), options.all or options.against is not None)
    if options.against is None:
        print("\n".join(lines(stages, summed(stages, jobs), options.rules)))
    else:
        print("\n".join(beside(stages, jobs, options.against, options.csv)))


def planned(config: Path, everything: bool = False) -> list:
    """Every job that Snakemake would run: `rule.name`, `wildcards_dict`, `benchmark`."""
    try:
        return dry_run(ROOT, config, everything, cores=1)[0]
    except PlanError as error:
        sys.exit(f"error: {error}")


@dataclass
class Total:
    """Of all jobs of a rule or stage: seconds of those with and without a model (times their processes), the largest memory and
    memory of a GPU (MB), disk (MB) and what passes (MB, of the largest job)."""

    jobs: int = 0
    seconds: float = 0.0
    other_seconds: float = 0.0
    memory: float = 0.0
    gpu: float = 0.0
    disk: float = 0.0
    passing: float = 0.0

    def add(self, need: Need) -> None:
        self.jobs += 1
        if need.model:
            self.seconds += need.processes * need.seconds
        else:
            self.other_seconds += need.seconds
        self.memory, self.gpu = max(self.memory, need.memory), max(self.gpu, need.gpu)
        self.disk, self.passing = self.disk + need.disk, max(self.passing, need.passing)


def summed(stages: Stages, jobs: Iterable) -> dict[str, Total]:
    """Totals by rule."""
    totals: dict[str, Total] = {}
    for job in jobs:
        totals.setdefault(job.rule.name, Total()).add(stages.need(job.rule.name, job.wildcards_dict))
    return totals


def together(totals: Iterable[Total]) -> Total:
    out = Total()
    for t in totals:
        out.jobs, out.seconds, out.other_seconds = (
            out.jobs + t.jobs,
            out.seconds + t.seconds,
            out.other_seconds + t.other_seconds,
        )
        out.memory, out.gpu, out.passing = max(out.memory, t.memory), max(out.gpu, t.gpu), max(out.passing, t.passing)
        out.disk += t.disk
    return out


def lines(stages: Stages, totals: dict[str, Total], by_rule: bool = False) -> list[str]:
    """The report, line by line."""
    facts, rates, c = stages.facts, stages.facts.rates, stages.facts.c
    out = [
        f"study {c['study']}, {len(c['seeds'])} seed(s): {c['model']['name']}, {facts.base.describe()}, {c['model']['dtype']}",
        f"rates: {rates.name}, {said(rates)}",
        "",
        row("stage", "jobs", *(["GPU-hours"] if facts.on_gpu else []), "CPU-hours", "memory GB", *(["GPU GB"] if facts.on_gpu else []), "disk GB"),
    ]  # fmt: skip
    for name in TITLES:
        mine = {rule: t for rule, t in totals.items() if stages.title(rule) == name}
        if not mine:
            continue
        out.append(numbers(name, together(mine.values()), facts.on_gpu))
        if by_rule:
            out += [
                numbers(f"  {rule}", t, facts.on_gpu) for rule, t in sorted(mine.items(), key=lambda i: -i[1].seconds)
            ]
    whole = together(totals.values())
    out += [numbers("total", whole, facts.on_gpu), ""]
    out.append(
        "Hours are those of one job at a time, of all its processes; memory is that of the largest job, disk what stays at the end."
    )
    if whole.passing:
        out.append(
            f"Adapters of saves that are no anchors are deleted when they have been read; a training job leaves {whole.passing / 1e3:.1f} GB of them."
        )
    if rates.memory_gb and whole.gpu > rates.memory_gb * 1000:
        out.append(
            f"The largest job wants {whole.gpu / 1e3:.0f} GB of GPU memory, a {rates.name} has {rates.memory_gb:.0f}: lower batch sizes or train.micro_rows."
        )
    return out


def beside(stages: Stages, jobs: Iterable, results: Path, file: Path | None) -> list[str]:
    """A finished run and what is said of it, by rule."""
    facts, root = stages.facts, Path(stages.study.layout.root)
    rows = compare(
        (job.rule.name, stages.need(job.rule.name, job.wildcards_dict), results / Path(job.benchmark).relative_to(root))
        for job in jobs
        if job.benchmark
    )
    if not rows:
        sys.exit(f"error: {results} has no benchmark files of finished jobs; name the folder of a study that was run")
    if file is not None:
        with file.open("w", newline="", encoding="utf-8") as out:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows([f"{v:.1f}" if isinstance(v, float) else v for v in row.values()] for row in rows)
    out = [
        f"rates: {facts.rates.name}, {said(facts.rates)}",
        "",
        row("rule", "jobs", "seconds", "said", "ratio", "memory MB", "said", "ratio"),
    ]
    whole = {name: sum(r[name] for r in rows) for name in ("jobs", "seconds", "said_seconds")}
    for r in [*rows, {"rule": "total", "memory_mb": 0.0, "said_memory_mb": 0.0} | whole]:
        pairs = [(r["seconds"], r["said_seconds"]), (r["memory_mb"], r["said_memory_mb"])]
        cells = [cell for took, said in pairs if took for cell in (f"{took:.0f}", f"{said:.0f}", f"{said / took:.2f}")]
        out.append(row(str(r["rule"]), r["jobs"], *cells))
    return out


def said(rates: Rates) -> str:
    if rates.measured:
        return "measured" + "".join(f"; its rate `{name}` is assumed" for name in rates.assumed)
    return "ESTIMATED from published peaks, not measured; `make calibrate` on the device itself measures them"


def numbers(name: str, t: Total, gpu: bool) -> str:
    if gpu:
        return row(
            name,
            t.jobs,
            hours(t.seconds),
            hours(t.other_seconds),
            gigabytes(t.memory),
            gigabytes(t.gpu),
            gigabytes(t.disk),
        )
    return row(name, t.jobs, hours(t.seconds + t.other_seconds), gigabytes(t.memory), gigabytes(t.disk))


def row(name: str, *cells: object) -> str:
    return f"{name:<32}" + "".join(f"{cell!s:>11}" for cell in cells)


def hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f}" if seconds < 360_000 else f"{seconds / 3600:.0f}"


def gigabytes(megabytes: float) -> str:
    return f"{megabytes / 1000:.1f}" if megabytes >= 100 or not megabytes else f"{megabytes / 1000:.2f}"


if __name__ == "__main__":
    main()
