"""`make plan-cost`: what a study needs before it is started. Jobs, hours, memory and disk by stage.

Jobs are those of Snakemake's own plan: what is left to do, or with --all the whole study. Nothing is fetched, run or
written. Hours come from a model of the work and the rates of a device (docs/cluster.md): those that `make calibrate`
measured here, or else those in docs/results/cost_rates.json.
"""

import argparse
import csv
import os
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline import ROOT
from pipeline.config_file import overlay_of, read_study
from pipeline.costs.check import COLUMNS, compare
from pipeline.costs.facts import Facts, Need
from pipeline.costs.rates import Rates, read_rates
from pipeline.costs.rehearsal import error, read_rehearsal
from pipeline.snakemake_internals import PlanError, dry_run
from pipeline.stages import TITLES, Stages
from pipeline.stages.sources import passing_peak


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--configfile", default="config.yaml")
    parser.add_argument("--config", nargs="+", default=[], metavar="KEY=VALUE", help="overlay of the configuration")
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
    overlay = overlay_of(options.config)
    study = read_study(Path(options.configfile), overlay)
    files = [options.rates] if options.rates else None
    rates = read_rates(study.config["model"]["device"], ROOT, options.device, files)
    stages = Stages(study, Facts(study, rates, ROOT / study.layout.root), ROOT)
    jobs = planned(Path(options.configfile), options.all or options.against is not None, overlay)
    if options.against is None:
        print("\n".join(lines(stages, by_rule(stages, jobs), options.rules)))
    else:
        print("\n".join(beside(stages, jobs, options.against, options.csv)))


def planned(config: Path, everything: bool = False, overlay: Mapping | None = None) -> list:
    """Every job that Snakemake would run: `rule.name`, `wildcards_dict`, `benchmark`."""
    try:
        return dry_run(ROOT, config, everything, cores=1, overlay=overlay)[0]
    except PlanError as error:
        sys.exit(f"error: {error}")


@dataclass(frozen=True)
class Total:
    """Of all jobs of a rule or stage: seconds of those with and without a model (times their processes), the largest
    memory and memory of a GPU (MB), disk (MB) and what passes of training (MB, of the largest job)."""

    jobs: int
    seconds: float
    other_seconds: float
    memory: float
    gpu: float
    disk: float
    passing: float

    @classmethod
    def of(cls, needs: Collection[Need]) -> "Total":
        return cls(
            len(needs),
            sum(need.processes * need.seconds for need in needs if need.model),
            sum(need.seconds for need in needs if not need.model),
            max((need.memory for need in needs), default=0.0),
            max((need.gpu for need in needs), default=0.0),
            sum(need.disk for need in needs),
            max((need.passing for need in needs if need.model), default=0.0),
        )


def by_rule(stages: Stages, jobs: Iterable) -> dict[str, list[Need]]:
    """What the jobs of each rule need."""
    needs: dict[str, list[Need]] = {}
    for job in jobs:
        needs.setdefault(job.rule.name, []).append(stages.need(job.rule.name, job.wildcards_dict))
    return needs


def lines(stages: Stages, needs: dict[str, list[Need]], with_rules: bool = False) -> list[str]:
    """The report, line by line. needs: of the jobs by rule."""
    facts, rates, config = stages.facts, stages.facts.rates, stages.study.config
    gpu = ["GPU-hours", "GPU GB"] if facts.on_gpu else []
    light = f" and {len(stages.study.light_seeds)} light" if stages.study.light_seeds else ""
    out = [
        f"study {config['study']}, {len(config['seeds'])} seed(s){light}: {config['model']['name']},"
        f" {facts.base.describe()}, {config['model']['dtype']}",
        f"rates: {rates.name}, {origin(rates)}",
        "",
        row("stage", "jobs", *gpu[:1], "CPU-hours", "memory GB", *gpu[1:], "disk GB"),
    ]
    on_device = {}
    for name in TITLES:
        of_stage = {rule: each for rule, each in needs.items() if stages.title(rule) == name}
        if of_stage:
            total = Total.of([need for each in of_stage.values() for need in each])
            on_device[name] = total.seconds
            out.append(numbers(name, total, facts.on_gpu))
        rules = {rule: Total.of(each) for rule, each in of_stage.items() if with_rules}
        longest_first = sorted(rules.items(), key=lambda item: -item[1].seconds)
        out += [numbers(f"  {rule}", total, facts.on_gpu) for rule, total in longest_first]
    whole = Total.of([need for each in needs.values() for need in each])
    out += [
        numbers("total", whole, facts.on_gpu),
        "",
        "Hours are those of one job at a time, of all its processes; memory is that of the largest job, disk what stays"
        " at the end.",
    ]
    if whole.passing:
        out.append(
            "Adapters of saves that are no anchors are deleted when they have been read; a training job leaves"
            f" {whole.passing / 1e3:.1f} GB of them."
        )
    peak, held, steps = passing_peak(facts)
    if steps:
        out.append(
            f"Peak of disk: checkpoints with keep: none are deleted when they have been read; of {steps} such at most"
            f" {held} are there at a time, {gigabytes(peak)} GB beside what stays."
        )
    if rates.memory_gb and whole.gpu > rates.memory_gb * 1000:
        out.append(
            f"The largest job wants {whole.gpu / 1e3:.0f} GB of GPU memory, a {rates.name} has {rates.memory_gb:.0f}:"
            " lower batch sizes or train.micro_rows."
        )
    if facts.on_gpu and whole.seconds:
        rehearsal = read_rehearsal(ROOT, facts.base, config["model"]["dtype"])
        out += error(rehearsal, {name: seconds for name, seconds in on_device.items() if seconds}, rates)
    return out


def beside(stages: Stages, jobs: Iterable, results: Path, file: Path | None) -> list[str]:
    """A finished run and what is said of it, by rule."""
    facts, rows = stages.facts, took(stages, jobs, results)
    if file is not None:
        with file.open("w", newline="", encoding="utf-8") as out:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows([f"{v:.1f}" if isinstance(v, float) else v for v in row.values()] for row in rows)
    out = [
        f"rates: {facts.rates.name}, {origin(facts.rates)}",
        "",
        *comparison(rows, "rule", facts.on_gpu),
    ]
    return out


def took(stages: Stages, jobs: Iterable, results: Path, together: Callable[[str], str] = str) -> list[dict]:
    """Rows of `costs.check.compare` of the jobs of a finished run, by rule, or by what `together` makes of the rule's
    name."""
    root = Path(stages.study.layout.root)
    rows = compare(
        (
            together(job.rule.name),
            stages.need(job.rule.name, job.wildcards_dict),
            *(results / Path(path).relative_to(root) for path in (job.benchmark, *job.log)),
        )
        for job in jobs
        if job.benchmark
    )
    if not rows:
        sys.exit(f"error: {results} has no benchmark files of finished jobs; name the folder of a study that was run")
    return rows


def comparison(rows: list[dict], what: str, gpu: bool) -> list[str]:
    """A line for each row: seconds and memory as they were, as they were said, and how many times the first the second
    is."""
    kinds = {"seconds": "seconds", "memory_mb": "memory MB"} | ({"gpu_mb": "GPU MB"} if gpu else {})
    out = [row(what, "jobs", *(cell for title in kinds.values() for cell in (title, "said", "ratio")))]
    whole = {name: sum(r[name] for r in rows) for name in ("jobs", "seconds", "said_seconds")}
    for r in [*rows, {"rule": "total"} | whole]:
        pairs = [(r[kind], r[f"said_{kind}"]) for kind in kinds if kind in r]
        cells = [
            cell
            for took, said in pairs
            for cell in (f"{took:.0f}", f"{said:.0f}", f"{said / took:.2f}" if took else "-")
        ]
        out.append(row(str(r["rule"]), r["jobs"], *cells))
    return out


def origin(rates: Rates) -> str:
    if rates.measured:
        return "measured" + "".join(f"; its rate `{name}` is assumed" for name in rates.assumed)
    return "ESTIMATED from published peaks, not measured; `make calibrate` on the device itself measures them"


def numbers(name: str, total: Total, gpu: bool) -> str:
    jobs, memory, disk = total.jobs, gigabytes(total.memory), gigabytes(total.disk)
    if gpu:
        return row(name, jobs, hours(total.seconds), hours(total.other_seconds), memory, gigabytes(total.gpu), disk)
    return row(name, jobs, hours(total.seconds + total.other_seconds), memory, disk)


def row(name: str, *cells: object) -> str:
    return f"{name:<40}" + "".join(f"{cell!s:>11}" for cell in cells)


def hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f}" if seconds < 360_000 else f"{seconds / 3600:.0f}"


def gigabytes(megabytes: float) -> str:
    return f"{megabytes / 1000:.1f}" if megabytes >= 100 or not megabytes else f"{megabytes / 1000:.2f}"


if __name__ == "__main__":
    main()
