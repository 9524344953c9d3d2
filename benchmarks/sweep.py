"""Cells of a causal sweep by this project's engine against the same cells one after the other through forward hooks.

Readout: a target and its controls at several strengths, refusal log-odds on every prompt. The naive side runs whole prompts
through the Hugging Face model with a forward pre-hook, logits at the last position only, at its own best batch size and
padding, tried here. Since its cells cost the same each, it runs some of them, half before and half after the engine, and the
time of one is multiplied. Sites: the carrier's own layer, which is the headline, and an early, a middle and a late one.
Generation: a target and controls in one batch against one cell after the other with a cache and hooks; the tokens have to be
the same. Beside the times stands the floor: the least work over the rate of plain forward passes measured here too, and the share of
the rate of matrix products that this work is in the engine's time.

    PYTHONPATH=src python benchmarks/sweep.py --study results/default --json sweep.json --csv sweep.csv
    PYTHONPATH=src python benchmarks/sweep.py --study results/gpu --device cuda --batch-size 1024 --batches 32,128,512 --json sweep.json

Exit status 1: logits or log-odds of a cell differ by more than 1e-4, or an answer differs.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from machine import CLOCKS, ROOT, clock_of, matrix_rate, named, write_json
from machine import show as show_table
from safetensors import safe_open
from sweep_hooks import greedy, hooked

from safety_geometry.causal.readout import clean_prompts, read_log_odds
from safety_geometry.geometry.activations import record
from safety_geometry.models.chat import ChatFormat
from safety_geometry.models.generation import generate
from safety_geometry.models.interventions import Intervention
from safety_geometry.models.loading import configure, load_model
from safety_geometry.models.openings import opening_ids, refusal_log_odds
from safety_geometry.models.restart import edited_prefix, restart
from safety_geometry.models.runner import Runner, pack
from safety_geometry.models.tokenizer import load_tokenizer

OPENINGS = ["Sorry", "I", "Unfortunately"]
WANTED, AGREE = 3.0, 1e-4
Cell = tuple[Intervention, ...]
now = CLOCKS["wall"]  # of the device, once main has begun


def main() -> None:
    global now
    options = arguments()
    device = torch.device(options.device)
    now = clock_of(device)
    configure(options.threads)
    torch.set_grad_enabled(False)
    chat = ChatFormat(load_tokenizer(options.model))
    model = load_model(options.model, device=options.device, adapter=options.adapter)
    runner, prompts = Runner(model), requests(chat, options.prompts)
    openings = opening_ids(chat, OPENINGS, texts(options.prompts)[:3])
    own, direction = carrier(options, runner, chat)
    depth = runner.n_layers
    print(f"{options.threads} thread(s), {len(prompts)} prompts, {depth} blocks, carrier at layer {own}")

    rate = forward_rate(model, depth, prompts)
    matrix = matrix_rate(runner, now)
    layout, trials = best_layout(model, prompts, cells(own, direction, 0, [1.0])[0], options.batches)
    sites = {"own": own, "early": round(depth / 6), "middle": depth // 2, "late": round(0.8 * depth)}
    found = {}
    for name, layer in sites.items():
        few = name != "own"
        made = cells(layer, direction, options.controls // 2 if few else options.controls, [1.0] if few else options.strengths)  # fmt: skip
        count = options.naive_cells // 3 if few else options.naive_cells
        found[name] = readout(runner, chat, prompts, made, openings, options.batch_size, layout, count, rate) | {
            "layer": layer
        }
        print(f"  {name:<7}layer {layer:>2}: {len(made)} cells, ratio {found[name]['ratio']:.2f}", flush=True)
    spoken = generation(runner, chat, prompts, own, direction, options, rate)
    result = {
        "model": options.model.name, "adapter": options.adapter is not None, "threads": options.threads,
        "torch": torch.__version__, "prompts": len(prompts), "controls": options.controls, "strengths": options.strengths,
        "engine_batch": options.batch_size, "naive_layout": list(layout), "naive_trials_s": trials, "forward_rate": rate,
        "readout": found, "generation": spoken, "card": named(device), "matrix_rate": matrix,
    }  # fmt: skip
    show(result)
    show_table(table(result, runner), options.csv)
    write_json(result, options.json)
    if not worst(result) <= AGREE or spoken["different_answers"]:
        raise SystemExit(
            f"NO AGREEMENT: logits and log-odds differ by up to {worst(result):.1e} ({AGREE:g} is let pass), and"
            f" {spoken['different_answers']} answers are others"
        )


def arguments() -> argparse.Namespace:
    def listed(kind):
        return lambda text: [kind(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--study", type=Path, default=ROOT / "results/default", help="where base, checkpoint and carriers are looked up"
    )
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--regime", default="sft_refusal")
    parser.add_argument("--step", type=int, default=30)
    parser.add_argument("--carrier", choices=["h", "r"], default="r")
    parser.add_argument("--model", type=Path, help="model folder; default: the study's base")
    parser.add_argument(
        "--adapter", type=Path, help="LoRA folder; default: the study's checkpoint, if --model is not given"
    )
    parser.add_argument("--layer", type=int, help="instead of the carrier's; its direction is then a mean difference")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--controls", type=int, default=24)
    parser.add_argument("--strengths", type=listed(float), default=[0.5, 1.0, 2.0])
    parser.add_argument("--batch-size", type=int, default=96, help="of the engine")
    parser.add_argument("--batches", type=listed(int), default=[4, 8, 16, 32], help="tried for the naive side")
    parser.add_argument(
        "--naive-cells", type=int, default=8, help="that are run and compared; a third at the other sites"
    )
    parser.add_argument("--answers", type=int, default=8, help="prompts of the generation cells")
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--csv", type=Path, help="a table of all sites and of generation")
    options = parser.parse_args()
    if options.model is None:
        options.model = options.study / "models/base"
        trained = options.study / f"seed{options.seed}/checkpoints/{options.regime}/step{options.step}"
        options.adapter = options.adapter or (trained if trained.exists() else None)
        options.carriers = options.study / f"seed{options.seed}/carriers/{options.regime}/carriers.safetensors"
    else:
        options.carriers = None
    return options


def texts(n: int) -> list[str]:
    """n prompts, mild harmful ones and benign ones in turns."""
    files = [
        [
            json.loads(line)["prompt"]
            for line in (ROOT / "data" / f"{name}.jsonl").read_text("utf-8").rstrip("\n").split("\n")
        ]
        for name in ("smoke_harmful", "benign_instructions")
    ]
    found = [text for pair in zip(*files, strict=False) for text in pair]
    if len(found) < n:
        raise SystemExit(f"there are {len(found)} prompts; --prompts {n} is too many")
    return found[:n]


def requests(chat: ChatFormat, n: int) -> list[tuple[int, ...]]:
    """Their token ids."""
    return [r.ids for r in chat.render_many(texts(n))]


def carrier(options, runner: Runner, chat: ChatFormat) -> tuple[int, np.ndarray]:
    """Layer and unit direction [d]: of the study's carrier, else a mean difference at about half of the depth."""
    if options.layer is None and options.carriers is not None and options.carriers.exists():
        with safe_open(options.carriers, "np") as file:
            facts = json.loads(file.metadata()["carriers"])[str(options.step)]
            return facts[options.carrier]["layer"], file.get_tensor(f"step{options.step}.{options.carrier}")
    layer = round(0.47 * runner.n_layers) if options.layer is None else options.layer
    rows = [
        [json.loads(line)["prompt"] for line in (ROOT / "data" / f"{name}.jsonl").read_text("utf-8").split("\n")[:12]]
        for name in ("smoke_harmful", "benign_instructions")
    ]
    harmful, benign = (record(runner, chat.render_many(texts), [-1], 12)[:, 0, layer].mean(0) for texts in rows)
    delta = (harmful - benign).numpy()
    return layer, delta / np.linalg.norm(delta)


def cells(layer: int, direction: np.ndarray, controls: int, strengths: list[float]) -> list[Cell]:
    """Ablation of the direction and of random ones at every strength."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([direction[None], rng.standard_normal((controls, len(direction)))])
    rows = torch.from_numpy((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))
    return [(Intervention("ablate", layer, row[None], s),) for row in rows for s in strengths]


# ----------------------------------------------------------------------------------------------------------- readout


def readout(runner, chat, prompts, made, openings, batch_size, layout, count, rate) -> dict:
    """Times of all cells and of `count` naive ones, spread over them, and how far these agree."""
    layer = made[0][0].layer
    some = np.unique(np.linspace(0, len(made) - 1, max(count, 2)).round().astype(int)).tolist()
    first, second = some[: len(some) // 2], some[len(some) // 2 :]
    naive, times = {}, []

    def run(which: list[int]) -> None:
        for i in which:
            started = now()
            naive[i] = hooked(runner.model, prompts, made[i][0], *layout)
            times.append(now() - started)

    run(first)
    started = now()
    clean = clean_prompts(runner, prompts, [layer], chat.n_prefix)
    odds = read_log_odds(runner, clean, made, openings, batch_size)
    engine = now() - started
    run(second)

    theirs = torch.stack([refusal_log_odds(naive[i], openings) for i in some]).cpu()
    logits = np.max([float((last_logits(runner, clean, made[i]) - naive[i]).abs().max()) for i in some])
    batch, above = clean.batch, runner.n_layers - layer
    alone = len(batch.prefix) + int(batch.lengths.sum())
    needed = alone * runner.n_layers + len(made) * alone * above  # the clean run, then every cell from its layer on
    whole = (len(made) + 1) * sum(map(len, prompts)) * runner.n_layers
    each = float(np.mean(times))
    return {
        "cells": len(made), "engine_s": engine, "naive_cells": len(some), "naive_cell_s": times,
        "naive_s": each * (len(made) + 1), "ratio": each * (len(made) + 1) / engine,
        "difference_logits": float(logits), "difference_log_odds": float((odds[some] - theirs).abs().max()),
        "work_ratio": whole / needed, "floor_s": needed / rate, "floor_share": needed / rate / engine, "needed": needed,
    }  # fmt: skip


def last_logits(runner: Runner, clean, cell: Cell) -> torch.Tensor:
    """The engine's logits [n, V] after every prompt, which the readout makes into one number each."""
    n, prefix = len(clean.lengths), edited_prefix(runner, clean, cell[0].layer, [cell])
    rows, first = (make(n, device=runner.device, dtype=torch.long) for make in (torch.arange, torch.zeros))
    h = restart(runner, clean, cell[0].layer, rows, [cell] * n, prefix, first)
    return runner.logits(h[rows, clean.lengths - 1])


def best_layout(model, prompts, cell: Cell, sizes: list[int]) -> tuple[tuple[int, str], dict[str, float]]:
    """Batch size and padding at which one naive cell is fastest: all sizes padded left, the best of them right too."""
    hooked(model, prompts[:4], cell[0], 4, "left")  # warm up
    times: dict[tuple[int, str], float] = {}

    def attempt(size: int, side: str) -> None:
        started = now()
        hooked(model, prompts, cell[0], size, side)
        times[size, side] = now() - started

    for size in sizes:
        attempt(size, "left")
    attempt(min(times, key=times.get)[0], "right")
    return min(times, key=times.get), {f"{size} {side}": seconds for (size, side), seconds in times.items()}


# -------------------------------------------------------------------------------------------------------- generation


def generation(runner: Runner, chat: ChatFormat, prompts, layer, direction, options, rate) -> dict:
    """A target and four controls on a few prompts, 40 rows with the defaults, against one cell after the other."""
    asked, limit = prompts[: options.answers], options.tokens
    made = cells(layer, direction, 4, [1.0])
    edits = [cell for cell in made for _ in asked]
    started = now()
    ours = generate(runner, asked * len(made), chat.stop_ids, limit, len(edits), chat.n_prefix, edits)
    engine = now() - started
    started = now()
    theirs = [answer for cell in made for answer in greedy(runner.model, asked, cell[0], chat.stop_ids, limit)]
    naive = now() - started
    drawn = [len(answer.ids) + (not answer.hit_limit) for answer in ours]  # the stop token is drawn too
    batch = pack(asked, share=chat.n_prefix)
    fill = (len(batch.prefix) + int(batch.lengths.sum())) * len(made) * runner.n_layers / rate
    widths = [sum(n > step for n in drawn) for step in range(1, max(drawn))]
    seconds = {rows: step_seconds(runner.model, rows) for rows in set(widths)}
    steps = sum(seconds[rows] for rows in widths)
    return {
        "cells": len(made), "prompts": len(asked), "limit": limit, "tokens": sum(drawn), "engine_s": engine, "naive_s": naive,
        "ratio": naive / engine, "engine_tokens_s": sum(drawn) / engine, "naive_tokens_s": sum(drawn) / naive,
        "different_answers": sum(a.ids != tuple(b) for a, b in zip(ours, theirs, strict=True)),
        "floor_prompts_s": fill, "floor_steps_s": steps, "floor_share": (fill + steps) / engine,
    }  # fmt: skip


def step_seconds(model, rows: int) -> float:
    """Seconds of one token of so many rows through all blocks and the head, without cache and edits: the best of five."""
    ids, times = torch.ones(rows, 1, dtype=torch.long, device=model.device), []
    for _ in range(5):
        started = now()
        model(input_ids=ids, use_cache=False)
        times.append(now() - started)
    return min(times)


# ------------------------------------------------------------------------------------------------------------ result


def forward_rate(model, n_layers: int, rows: list[tuple[int, ...]]) -> float:
    """Tokens × layers a second of plain forward passes without padding and head: the best of a few shapes."""
    width, best = min(map(len, rows)), 0.0
    for size in (8, 16, 32, 64):
        ids = torch.tensor([rows[i % len(rows)][:width] for i in range(size)], device=model.device)
        for _ in range(2):
            started = now()
            model.model(input_ids=ids, use_cache=False)
            best = max(best, size * width * n_layers / (now() - started))
    return best


def table(result: dict, runner: Runner) -> list[dict]:
    """A row for each site, and one for generation, which has no count of operations of its own."""
    layer = 2 * sum(p.numel() for p in runner.layers[0].parameters() if p.ndim == 2)  # operations of a token in a block
    of_all = {name: result[name] for name in ("model", "card")} | {"rows": result["engine_batch"]}
    parts = {f"readout, {site}": found for site, found in result["readout"].items()} | {
        "generation": result["generation"]
    }
    rows = []
    for part, found in parts.items():
        share = layer * found["needed"] / found["engine_s"] / result["matrix_rate"] if "needed" in found else None
        numbers = {name: found[name] for name in ("engine_s", "naive_s", "ratio", "floor_share")}
        rows.append({"part": part} | of_all | numbers | {"matrix_share": share})
    return rows


def worst(result: dict) -> float:
    """The largest difference of a logit or log-odds at any site; NaN where one is."""
    return float(np.max([r[f"difference_{k}"] for r in result["readout"].values() for k in ("logits", "log_odds")]))


def show(result: dict) -> None:
    size, side = result["naive_layout"]
    print(f"\nnaive side at its best: batches of {size}, padded {side}; forward rate {result['forward_rate']:,.0f} tokens × layers a second\n")  # fmt: skip
    head = ("site", "layer", "cells", "engine s", "naive s", "ratio", "work", "of floor", "Δ logits", "Δ log-odds")
    print("{:<8}{:>6}{:>7}{:>10}{:>9}{:>7}{:>6}{:>10}{:>10}{:>12}".format(*head))
    for name, r in result["readout"].items():
        print(f"{name:<8}{r['layer']:>6}{r['cells']:>7}{r['engine_s']:>10.2f}{r['naive_s']:>9.1f}{r['ratio']:>7.2f}{r['work_ratio']:>6.2f}{r['floor_share']:>10.0%}{r['difference_logits']:>10.1e}{r['difference_log_odds']:>12.1e}")  # fmt: skip
    g, own = result["generation"], result["readout"]["own"]
    print(
        f"\ngeneration: {g['cells']} cells × {g['prompts']} prompts × {g['limit']} tokens, {g['tokens']} tokens drawn"
    )
    print(f"  engine {g['engine_s']:.2f} s, {g['engine_tokens_s']:.0f} tokens/s; naive {g['naive_s']:.2f} s, {g['naive_tokens_s']:.0f} tokens/s; ratio {g['ratio']:.2f}")  # fmt: skip
    print(f"  floor: prompts {g['floor_prompts_s']:.2f} s and steps {g['floor_steps_s']:.2f} s, {g['floor_share']:.0%} of the engine's time")  # fmt: skip
    print(f"  answers that differ: {g['different_answers']}")
    print(f"\nheadline: {own['ratio']:.2f} times faster at the carrier's layer (wanted: at least {WANTED:g})")
    if worst(result) <= AGREE:
        print(f"logits and log-odds agree within {AGREE:g}")


if __name__ == "__main__":
    main()
