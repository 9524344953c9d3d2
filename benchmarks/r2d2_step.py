"""Where the time of one R2D2 step goes: candidate scoring, gradient, filter, training and bookkeeping.

Settings are those of a configuration file; behaviours and rows are mild ones. The same script measures an older version of
the library when PYTHONPATH points at it, and --before puts that version's JSON beside this one's. The floor is what has
to be computed, in operations, over the matrix rate measured here: for a candidate the tokens from the changed one on,
forward and backward for the gradient and the training rows, logits at targets and labels. The share of the matrix rate that a part
reaches is its floor over its seconds.

    PYTHONPATH=src python benchmarks/r2d2_step.py --model results/default/models/base --json after.json --before before.json
    PYTHONPATH=src python benchmarks/r2d2_step.py --device cuda --dtype bfloat16 --shape mistral-7b --config configs/paper.yaml \\
        --row-tokens 1000 --batch-size 1024 --csv r2d2_step.csv        # a step at the papers' settings, with random weights
"""

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path

import torch
from machine import CLOCKS, ROOT, clock_of, matrix_rate, named, random_model, write_json
from machine import show as show_table

from safety_geometry.attacks.gcg import search as gcg
from safety_geometry.models.chat import ChatFormat
from safety_geometry.models.loading import add_lora, configure, load_model
from safety_geometry.models.runner import Runner
from safety_geometry.models.tokenizer import load_tokenizer
from safety_geometry.training.loop import TrainConfig, Trainer
from safety_geometry.training.pool import Pool, PoolConfig, adversarial_rows, clean_rows

try:
    from safety_geometry.attacks.gcg.suffix import allowed_tokens
except ImportError:  # an older version
    from safety_geometry.attacks.gcg.search import allowed_tokens

from pipeline.config_file import read_config  # where it is, `machine` says

TIMED = {  # names in the module gcg, of this version and of older ones
    "scoring": ["score", "screen", "_losses"],
    "gradient": ["look", "_gradient"],
    "filter": ["surviving", "_surviving"],
    "prefix": ["prefix", "_prefix"],
    "proposal": ["propose"],
}
PARTS = [*TIMED, "training", "bookkeeping"]
THINGS = ["paper boats", "tea", "red leaves", "a sleeping cat", "board games", "rice", "a sunny walk", "bicycles", "bread",
          "a garden", "swimming", "old maps", "umbrellas", "candles", "wooden spoons", "kites", "snow", "a picnic"]  # fmt: skip


now = CLOCKS["wall"]  # of the device, once main has begun


class Clock:
    """Seconds by part; a part that runs inside another counts to the outer one."""

    def __init__(self):
        self.spent, self.open = defaultdict(float), False

    def around(self, part: str, function):
        def timed(*args, **options):
            if self.open:
                return function(*args, **options)
            self.open, started = True, now()
            try:
                return function(*args, **options)
            finally:
                self.spent[part] += now() - started
                self.open = False

        return timed


def main() -> None:
    global now
    options = arguments()
    device = torch.device(options.device)
    now = clock_of(device, options.clock)
    configure(options.threads)
    if options.shape:
        options.model = random_model(options.shape, options.dtype, options.device, options.work)
    config = read_config(options.config)
    if options.batch_size:
        config["pool"]["gcg"]["batch_size"] = options.batch_size
    trainer = make(options, config)
    clock, steps = Clock(), []
    for part, names in TIMED.items():
        for name in names:
            if hasattr(gcg, name):
                setattr(gcg, name, clock.around(part, getattr(gcg, name)))
    for name in ("_clean_backward", "_adversarial_backward"):
        setattr(trainer, name, clock.around("training", getattr(trainer, name)))
    trainer.optimiser.step = clock.around("training", trainer.optimiser.step)
    trainer.advance(1, lambda line: None)  # warm-up
    for _ in range(options.steps):
        clock.spent.clear()
        started = now()
        trainer.advance(trainer.step + 1, lambda line: None)
        total = now() - started
        parts = {part: clock.spent[part] for part in PARTS}
        parts["bookkeeping"] = total - sum(parts.values())
        steps.append(parts | {"total": total})
    runner = trainer.runner
    rate = matrix_rate(runner, now)
    floor = {part: work / rate for part, work in operations(trainer).items()}
    result = {
        "model": options.model.name, "threads": options.threads, "clock": options.clock, "torch": torch.__version__, "steps": steps,
        "seconds": {part: statistics.median(step[part] for step in steps) for part in [*PARTS, "total"]},
        "floor_s": floor | {"total": sum(floor.values())}, "matrix_gflops": rate / 1e9, "gcg": config["pool"]["gcg"],
        "per_step": config["pool"]["per_step"], "rows": config["train"]["rows"], "card": named(device), "dtype": options.dtype,
        "row_tokens": statistics.mean(len(row.ids) for row in trainer.clean),
        "gpu_memory_gb": torch.cuda.max_memory_reserved(device) / 1e9 if device.type == "cuda" else None,
    }  # fmt: skip
    before = json.loads(options.before.read_text(encoding="utf-8")) if options.before else None
    show(result, before)
    show_table(table(result), options.csv)
    if before:
        result["before"] = {key: before[key] for key in ("seconds", "steps", "threads", "clock")}
    write_json(result, options.json)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "results/default/models/base", help="model folder")
    parser.add_argument("--shape", help="instead of --model: random weights of a known shape (mistral-7b), made on the device")  # fmt: skip
    parser.add_argument("--work", type=Path, default=ROOT / "build/r2d2_step", help="of random models")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--config", type=Path, default=ROOT / "config.yaml")
    parser.add_argument("--batch-size", type=int, help="rows of a pass of the attack, instead of the configuration's")
    parser.add_argument("--row-tokens", type=int, default=0, help="clean rows of about so many tokens; default: forty")
    parser.add_argument("--steps", type=int, default=5, help="measured, after one to warm up; medians")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--clock", choices=sorted(CLOCKS), default="wall", help="cpu: for a machine that has other work"
    )
    parser.add_argument("--before", type=Path, help="JSON of another version")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--csv", type=Path, help="the table of shares")
    return parser.parse_args()


def make(options: argparse.Namespace, config: dict) -> Trainer:
    chat, model = ChatFormat(load_tokenizer(options.model)), load_model(options.model, options.dtype, options.device)
    lora, pool = config["lora"], {k: v for k, v in config["pool"].items() if k != "gcg"}
    adapted = add_lora(model, lora["rank"], lora["alpha"], lora["dropout"], lora["targets"], 1)
    train = {k: v for k, v in config["train"].items() if k in TrainConfig.__annotations__}
    behaviours = [
        {"id": x, "prompt": f"Tell me about {x}.", "target": f"Sure, here is a text about {x}"} for x in THINGS
    ]
    said = "They are short, and they say what it looks like, what it is for, and why people like it so much."
    said = " ".join(
        [said] * max(1, options.row_tokens // len(chat.tokenizer(said, add_special_tokens=False)["input_ids"]))
    )
    answers = [
        {"prompt": f"Write three lines on {x}.", "response": f"Here are three lines on {x}. {said}"} for x in THINGS
    ]
    made = Pool(
        PoolConfig(**pool, refresh=True), gcg.GCGConfig(**config["pool"]["gcg"]), behaviours[: pool["size"]], chat, 1
    )
    allowed = allowed_tokens(chat.tokenizer, model.config.vocab_size)
    rows = clean_rows(chat, answers, config["train"]["max_length"])
    return Trainer(adapted, Runner(model), chat, TrainConfig(**train), rows, made, allowed, 1)


def operations(trainer: Trainer) -> dict[str, float]:
    """Floating-point operations of one step without padding, embedding and attention scores."""
    runner, pool, config = trainer.runner, trainer.pool, trainer.pool.gcg
    token = 2 * sum(p.numel() for n, p in runner.model.named_parameters() if ".layers." in n and p.ndim == 2)
    logit = 2 * runner.body.embed_tokens.weight.numel()
    case = pool.step(0, runner, trainer.allowed).suffixes[0]
    rest, targets, n = len(case.ids) - 1 - case.start, len(case.ids) - case.target_start, case.stop - case.start
    candidate = token * (rest - (n - 1) / 2) + logit * targets
    attacked = pool.config.per_step * config.steps
    away, toward = adversarial_rows(trainer.chat, [case] * pool.config.per_step, pool.config)
    shared, rows = trainer.chat.n_prefix, [*trainer.clean[: trainer.config.rows], *away, *toward]
    tokens, labels = (sum(len(r.ids) - at for r in rows for at in [k(r)]) for k in (lambda r: shared, lambda r: r.label_from))  # fmt: skip
    return {
        "scoring": attacked * config.width * candidate,
        "gradient": attacked * (2 * (token * rest + logit * targets) + logit * n),
        "prefix": pool.config.per_step * token * case.start,
        "training": 2 * (token * tokens + logit * labels),
    }


def show(result: dict, before: dict | None) -> None:
    names = ["after" if before else "seconds", "share", "floor"]
    print(f"{'part':<14}" + ("  before   share" if before else "") + "".join(f"{name:>9}" for name in names))
    for part in [*PARTS, "total"]:
        line = f"{part:<14}"
        if before:
            line += f"{before['seconds'][part]:8.2f}{before['seconds'][part] / before['seconds']['total']:8.0%}"
        spent, floor = result["seconds"][part], result["floor_s"].get(part)
        print(line + f"{spent:9.2f}{spent / result['seconds']['total']:9.0%}" + (f"{floor:9.2f}" if floor is not None else ""))  # fmt: skip
    print(f"{result['card']}, {result['dtype']}, matrix rate {result['matrix_gflops']:.0f} GFLOP/s, {result['threads']} thread(s), {result['clock']} time, median of {len(result['steps'])} steps")  # fmt: skip


def table(result: dict) -> list[dict]:
    """A row for each part with a floor."""
    of_all = {name: result[name] for name in ("model", "card", "dtype")} | {"rows": result["gcg"]["batch_size"]}
    return [
        {"part": part} | of_all | {"seconds": spent, "floor_s": floor, "share": floor / spent}
        for part, floor in result["floor_s"].items()
        if (spent := result["seconds"][part])
    ]


if __name__ == "__main__":
    main()
