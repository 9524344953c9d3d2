"""GCG's variants at equal operations: loss and success against floating-point operations spent.

The target is a string of random words, so that no variant gains by what a request and its answer have to do with each other; the
search starts at random words too, the same for every variant. A variant is chosen by its loss on the targets of set `choice`, and what
it gains is told on those of set `heldout`, which chose nothing. Operations are 2 · parameters · tokens (attacks/operations.py): a
backward pass counts as two forward ones, a draft by its share of the blocks. Loss (cross-entropy, nats a token, whatever a variant
minimises) and success (greedy decoding gives the target) are those of the best suffix at each budget, by a plain forward pass.
`nanogcg` is nanoGCG's setting in this engine: width 512, top-k 256, one substitution; the best suffix is kept, which nanoGCG does not.

    PYTHONPATH=src python benchmarks/attack_quality.py --model results/default/models/base --csv quality.csv
    PYTHONPATH=src python benchmarks/attack_quality.py --model MODEL --csv try.csv --budget 1e10 --targets 1 --seeds 1   # a try

The CSV is written after every case. The same command goes on where it was; so does one with other variants, more targets, more seeds.
Besides the CSV: NAME_summary.csv (means over targets with 95 % bootstrap intervals, and differences from `nanogcg`), NAME.png.
"""

import argparse
import csv
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from quality_summary import PEER, SETS, draw, summarise, told

from safety_geometry.artefacts.integrity import content_digest
from safety_geometry.attacks.gcg.config import GCGConfig
from safety_geometry.attacks.gcg.losses import target_loss
from safety_geometry.attacks.gcg.search import attack
from safety_geometry.attacks.gcg.suffix import Suffix, SuffixError, allowed_tokens, initial_suffix, random_texts
from safety_geometry.attacks.operations import operations
from safety_geometry.models.language_model import LanguageModel, load_language_model
from safety_geometry.models.loading import configure
from safety_geometry.stats.seeds import derived_seed

REQUEST, TARGET, UNBOUNDED = "Go on.", 10, 1_000_000  # request; tokens of a target; steps
BASE = {"top_k": 64, "suffix_length": 20, "init": "random"}
OURS = {"width": 40, "merge": 8}
VARIANTS = {
    PEER: {"width": 512, "top_k": 256},
    "plain": {"width": 40},
    "merge": OURS,
    "narrow": OURS | {"width": 20},
    "buffer": OURS | {"buffer": 8},
    "mellowmax": OURS | {"mellowmax": 1.0},
    "probe": OURS | {"width": 160, "probe": {"layers": 0.67, "draft": "gradient"}},
    "lsgm": OURS | {"lsgm": 0.5},
    "momentum": OURS | {"momentum": 0.4},
}
"""What differs from BASE, declared before the run; `layers` of a probe is a share of the model's. None has `echo`, which writes the target
into the suffix."""


@dataclass(frozen=True, order=True)
class Case:
    """A variant on a target; target: its number in its set."""

    seed: int
    target: int
    set: str
    variant: str


@dataclass(frozen=True)
class Row:
    """A case at a budget. operations, steps, seconds: spent by then; loss in nats a token; success: 0 or 1."""

    variant: str
    set: str
    target: int
    seed: int
    budget: float
    operations: float
    steps: int
    seconds: float
    loss_start: float
    loss: float
    success: int
    settings: str

    @property
    def case(self) -> Case:
        return Case(self.seed, self.target, self.set, self.variant)


def main() -> None:
    options = arguments()
    configure(options.threads)
    model = load_language_model(options.model, options.dtype, options.device)
    settings = variants(options, model)
    ran = {"model": content_digest(options.model), "dtype": options.dtype, "request": REQUEST, "target_tokens": TARGET}
    rows = finished(options.csv, ran)
    asked = [row for row in rows if row.variant in settings]
    if other := [row for row in asked if row.settings != json.dumps(settings[row.variant], sort_keys=True)]:
        raise SystemExit(f"error: {options.csv} has {other[0].variant} with other settings; name another --csv")
    budgets = {case: {row.budget for row in rows if row.case == case} for case in {row.case for row in rows}}
    cases = list(planned(options, settings))
    left = [case for case in cases if not set(options.budget) <= budgets.get(case, set())]
    rows = [row for row in rows if row.case not in left]
    print(f"{len(cases)} cases to {max(options.budget):.0e} operations each, {len(cases) - len(left)} done", flush=True)
    begun = time.perf_counter()
    for number, case in enumerate(left, 1):
        rows += search(model, case, settings[case.variant], sorted(options.budget), options.batch_size)
        write(options.csv, rows)
        hours = (time.perf_counter() - begun) / number * (len(left) - number) / 3600
        last = rows[-1]
        print(f"{number}/{len(left)} {case.variant:<10} {case.set:<8} target {case.target} seed {case.seed}: loss {last.loss:.3f}"
              f"{', succeeds' if last.success else ''}, {last.seconds:.0f} s; about {hours:.1f} h left", flush=True)  # fmt: skip
    frame = pd.DataFrame([vars(row) for row in rows if row.case in cases and row.budget in options.budget])
    summary = summarise(frame)
    beside(options.csv, "_summary.csv").write_text(summary.to_csv(index=False, float_format="%.6g"), encoding="utf-8")
    draw(summary, beside(options.csv, ".png"))
    print("\n".join(told(summary)))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--budget", type=lambda text: [float(x) for x in text.split(",")], default=[1e13, 3e13, 1e14], help="operations, a comma between them; 1e15 of SmolLM2 take an hour and a half a case on two cores")  # fmt: skip
    parser.add_argument("--targets", type=int, default=6, help="of each set")
    parser.add_argument("--seeds", type=int, default=2, help="searches of each target, each from a start of its own")
    parser.add_argument("--variants", help="names of VARIANTS, or a file of JSON: name -> settings; default: all")
    parser.add_argument("--batch-size", type=int, default=64, help="rows of a forward pass")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def variants(options: argparse.Namespace, model: LanguageModel) -> dict[str, dict]:
    """Settings of GCG by name, the peer's among them."""
    declared = VARIANTS
    if options.variants and options.variants.endswith(".json"):
        declared = {PEER: VARIANTS[PEER]} | json.loads(Path(options.variants).read_text(encoding="utf-8"))
    elif options.variants:
        names = [PEER, *options.variants.split(",")]
        if unknown := [name for name in names if name not in VARIANTS]:
            raise SystemExit(f"error: --variants: there is no {unknown[0]}; there are {', '.join(VARIANTS)}")
        declared = {name: VARIANTS[name] for name in names}
    settings = {name: BASE | changes for name, changes in declared.items()}
    for each in settings.values():
        if isinstance(layers := each.get("probe", {}).get("layers"), float):
            each["probe"] = each["probe"] | {"layers": max(1, round(layers * model.runner.n_layers))}
    return settings


def planned(options: argparse.Namespace, settings: dict[str, dict]) -> Iterator[Case]:
    """All variants of a target before the next target, so that a run that is stopped compares what it has."""
    for seed in range(options.seeds):
        for target in range(options.targets):
            for name in SETS:
                yield from (Case(seed, target, name, variant) for variant in settings)


# --------------------------------------------------------------------------------------------------------- searching


def search(model: LanguageModel, case: Case, settings: dict, budgets: list[float], batch_size: int) -> list[Row]:
    """A case at every budget: the best suffix of the last step that ended within it."""
    config = GCGConfig(**settings, steps=UNBOUNDED, batch_size=batch_size)
    start = conversation(model, case, config)
    begun, spent = time.perf_counter(), [(0.0, start, 0.0)]

    def note(state: dict) -> None:
        of = state["cases"][0]
        tokens, text, loss = of["kept"][0]
        spent.append((operations(model.model, of["tokens"]), start.changed(tokens, text, loss), time.perf_counter() - begun))  # fmt: skip

    enough = lambda step, best: best if spent[-1][0] >= budgets[-1] else ()  # noqa: E731
    allowed = allowed_tokens(model.tokenizer, model.model.config.vocab_size)
    seed = derived_seed("search", case.set, case.target, case.seed)
    attack(model.runner, model.chat, start, config, allowed, seed, stop=enough, save=note, verify=False)
    (loss_start, _), rows = plain(model, start), []
    for budget in budgets:
        step = max(i for i, (cost, *_) in enumerate(spent) if cost <= budget)
        cost, suffix, seconds = spent[step]
        loss, success = plain(model, suffix)
        rows.append(Row(case.variant, case.set, case.target, case.seed, budget, cost, step, seconds, loss_start, loss,
                        int(success), json.dumps(settings, sort_keys=True)))  # fmt: skip
    return rows


def conversation(model: LanguageModel, case: Case, config: GCGConfig) -> Suffix:
    """The target's, with the start of the seed: the same for every variant."""
    start = derived_seed("start", case.set, case.target, case.seed)
    for text in random_texts(model.chat, TARGET, derived_seed("target", case.set, case.target)):
        try:
            placed = initial_suffix(model.chat, REQUEST, text, config.init, config.suffix_length, start)
        except SuffixError:
            continue
        if len(placed.ids) - placed.target_start == TARGET:
            return placed
    raise SystemExit(f"error: no {TARGET} random words of this tokenizer stay {TARGET} tokens as an answer")


@torch.no_grad()
def plain(model: LanguageModel, suffix: Suffix) -> tuple[float, bool]:
    """Cross-entropy and success by one forward pass over the whole conversation, without any cache."""
    runner = model.runner
    h = runner.blocks(runner.embed(torch.tensor([suffix.ids], device=runner.device)))
    labels = torch.tensor([suffix.ids[suffix.target_start :]], device=runner.device)
    logits = runner.logits(h[:, suffix.target_start - 1 : -1])
    loss, exact = target_loss(logits, labels, torch.ones_like(labels, dtype=torch.bool), None)
    return float(loss), bool(exact)


# ------------------------------------------------------------------------------------------------------------- files


def beside(path: Path, ending: str) -> Path:
    return path.with_name(path.stem + ending)


def finished(path: Path, ran: dict) -> list[Row]:
    """Rows of an earlier run, of the same model and protocol: what that is stands in NAME.json."""
    facts = beside(path, ".json")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        facts.write_text(json.dumps(ran, indent=1) + "\n", encoding="utf-8")
        return []
    before = json.loads(facts.read_text(encoding="utf-8"))
    if changed := [key for key in ran if before.get(key) != ran[key]]:
        raise SystemExit(f"error: {path} is of another {' and '.join(changed)}; name another --csv")
    kinds = {"target": int, "seed": int, "steps": int, "success": int, "variant": str, "set": str, "settings": str}
    with path.open(encoding="utf-8", newline="") as file:
        return [Row(**{k: kinds.get(k, float)(v) for k, v in row.items()}) for row in csv.DictReader(file)]


def write(path: Path, rows: list[Row]) -> None:
    """The whole file, in the place of the one before at once."""
    scratch = path.with_name(f".{path.name}.partial")
    with scratch.open("w", newline="", encoding="utf-8") as out:
        table = csv.DictWriter(out, list(Row.__annotations__), lineterminator="\n")
        table.writeheader()
        table.writerows([vars(replace(row, seconds=round(row.seconds, 2))) for row in rows])
    scratch.replace(path)


if __name__ == "__main__":
    main()
