"""A declared trial of R2D2's inner attack: loss that a step takes off the training pool, at equal seconds.

Every variant attacks the same requests of the training pool, as many at a time as an optimiser step does, from its own start,
and is stopped when its seconds are used up (at the end of the step of GCG that it is in; what it really took stands in `spent_s`).
A case is visited several times, each from the suffix of the visit before with a new random stream, as between two resets. What is
compared is gain_s: the loss that a visit takes off, in nats a token, over the seconds it took. Evaluation prompts have no part in it.

    PYTHONPATH=src python benchmarks/pool_trial.py --model results/default/models/base --csv pool_trial.csv \\
        --pool results/default/private/prompts/train_pool.jsonl
"""

import argparse
import csv
import json
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from safety_geometry.artefacts.prompts import read_behaviours
from safety_geometry.attacks.gcg.config import GCGConfig
from safety_geometry.attacks.gcg.search import attack_many
from safety_geometry.attacks.gcg.suffix import allowed_tokens, initial_suffix
from safety_geometry.models.language_model import LanguageModel, load_language_model
from safety_geometry.models.loading import configure
from safety_geometry.stats.seeds import derived_seed

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
UNBOUNDED = 10_000  # steps; the seconds end a visit
BASE = {"width": 16, "top_k": 256, "suffix_length": 8, "batch_size": 32}
VARIANTS = {
    "present": {},
    "random": {"init": "random"},
    "echo": {"echo": 4},
    "merge": {"merge": 4},
    "echo_merge": {"echo": 4, "merge": 4},
    "random_echo_merge": {"init": "random", "echo": 4, "merge": 4},
    "narrow": {"width": 8, "echo": 4, "merge": 4},
    "wide": {"width": 32, "echo": 4, "merge": 4},
}
"""What differs from BASE, declared before the trial."""


@dataclass(frozen=True)
class Outcome:
    """Of a variant; losses in nats a token, means over cases (and visits). start: before the first visit; end: after the
    last; gain: that a visit takes off, with its standard error over cases; steps: of GCG in a visit; spent_s: seconds of a
    visit, of all cases of a step together; gain_s: gain over spent_s."""

    variant: str
    settings: str
    cases: int
    visits: int
    start: float
    end: float
    gain: float
    gain_se: float
    steps: float
    spent_s: float
    gain_s: float


def main() -> None:
    options = arguments()
    configure(options.threads)
    model = load_language_model(options.model, options.dtype, options.device, options.adapter)
    rows = read_behaviours(options.pool, options.cases)
    variants = json.loads(options.variants.read_text(encoding="utf-8")) if options.variants else VARIANTS
    outcomes = []
    for name, changes in variants.items():
        outcomes.append(trial(model, rows, name, changes, options))
        show(outcomes[-1], first=len(outcomes) == 1)
        if options.csv is not None:  # after every variant: a stopped trial keeps what it has
            write(options.csv, outcomes)


def trial(model: LanguageModel, rows: list[dict], name: str, changes: dict, options: argparse.Namespace) -> Outcome:
    """All cases of one variant, in groups of an optimiser step."""
    config = GCGConfig(steps=UNBOUNDED, **{**BASE, **changes})
    allowed, now = allowed_tokens(model.tokenizer, model.model.config.vocab_size), CLOCKS[options.clock]
    starts, ends, spent, steps = [], [], [], []
    for first in range(0, len(rows), options.per_step):
        group = rows[first : first + options.per_step]
        seeds = [derived_seed(options.seed, "trial", row["id"]) for row in group]
        now_suffixes = [
            initial_suffix(model.chat, row["prompt"], row["target"], config.init, config.suffix_length, seed)
            for row, seed in zip(group, seeds, strict=True)
        ]
        for visit in range(options.visits):
            begun = now()

            def over(step: int, open_cases: dict, begun: float = begun) -> list[int]:
                return list(open_cases) if step and now() - begun >= options.seconds else []

            seeds = [derived_seed(options.seed, row["id"], visit) for row in group]
            results = attack_many(
                model.runner, model.chat, now_suffixes, config, allowed, seeds, stop=over, verify=False
            )
            spent.append(now() - begun)
            steps.append(len(results[0].losses) - 1)
            if visit == 0:
                starts += [result.losses[0] for result in results]
            now_suffixes = [result.suffix for result in results]
        ends += [suffix.loss for suffix in now_suffixes]
    gains = [(a - b) / options.visits for a, b in zip(starts, ends, strict=True)]
    error = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
    seconds, gain = statistics.mean(spent), statistics.mean(gains)
    return Outcome(
        name, json.dumps(changes, sort_keys=True), len(rows), options.visits, statistics.mean(starts),
        statistics.mean(ends), gain, error, statistics.mean(steps), seconds, gain / seconds,
    )  # fmt: skip


def show(outcome: Outcome, first: bool) -> None:
    if first:
        print(f"{'variant':<20}{'start':>8}{'end':>8}{'gain':>8}{'s.e.':>7}{'steps':>7}{'spent s':>9}{'gain/s':>8}")
    print(
        f"{outcome.variant:<20}{outcome.start:8.2f}{outcome.end:8.2f}{outcome.gain:8.3f}{outcome.gain_se:7.3f}"
        f"{outcome.steps:7.1f}{outcome.spent_s:9.2f}{outcome.gain_s:8.3f}",
        flush=True,
    )


def write(path: Path, outcomes: list[Outcome]) -> None:
    with path.open("w", newline="", encoding="utf-8") as out:
        table = csv.DictWriter(out, list(Outcome.__annotations__), lineterminator="\n")
        table.writeheader()
        for outcome in outcomes:
            numbers = {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in vars(outcome).items()}
            table.writerow(numbers)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--adapter", type=Path, help="a checkpoint of r2d2; without it the base model is attacked")
    parser.add_argument("--pool", type=Path, required=True, help="prompts of role train_pool, with their targets")
    parser.add_argument("--cases", type=int, default=12, help="the first of them")
    parser.add_argument("--per-step", type=int, default=2, help="attacked together (pool.per_step)")
    parser.add_argument("--visits", type=int, default=3, help="of every case")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a visit to the cases of one step")
    parser.add_argument("--variants", type=Path, help="JSON: name -> settings of GCG that differ from those in BASE")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="cpu", help="cpu: for a machine that has other work")
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    if options.device != "cpu" and options.clock == "cpu":
        sys.exit("error: --clock cpu does not count what a GPU does; use --clock wall")
    return options


if __name__ == "__main__":
    main()
