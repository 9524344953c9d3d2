"""GCG by this project's engine beside nanoGCG 0.3.0, in turns on the same machine.

nanoGCG needs an older transformers and gets an environment of its own below --work, made at the first run; it runs as a
child process on the same model, prompt, start, width, top-k, dtype, threads and allowed tokens.

a  exact scoring: candidates a second for one case on the same candidates, whose losses must agree, and the whole step with
   gradient, proposal and filter; beside it the floor: the tokens that have to be run over the measured rate of forward passes; and, of a
   model that is not in bfloat16, the time with a draft in bfloat16 that leaves an eighth for exact scoring, and whether the best is the same
b  wall time to the loss at which nanoGCG ends, by a search without `echo` and then by one with it (a better search, not a faster
   engine; final losses are recomputed without any cache); and how many of nanoGCG's final suffixes are other tokens once the whole
   conversation is tokenised, so that their loss is not that of the text
c  eight cases in one batch against one after the other, in passes that hold several cases

The JSON is written after every run, and a table at the end, with the share of the rate of matrix products measured here that each part
reaches (operations that have to be done: tokens through blocks, in part a logits too). A run of nanoGCG that fails (it raises when its
filter rejects all candidates) is counted; its process is started again if it died.

    PYTHONPATH=src python benchmarks/gcg.py --model results/default/models/base --json gcg.json --csv gcg.csv
    PYTHONPATH=src python benchmarks/gcg.py --device cuda --dtype bfloat16 --shape mistral-7b --json gcg.json --csv gcg.csv
"""

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch
from gcg_child import Peer, PeerError
from gcg_report import show_scoring, show_search, show_together, table
from machine import CLOCKS, ROOT, clock_of, matrix_rate, named, random_model, show, write_json

from safety_geometry.attacks.gcg.batches import BatchSize
from safety_geometry.attacks.gcg.candidates import propose
from safety_geometry.attacks.gcg.losses import TOLERANCE
from safety_geometry.attacks.gcg.scoring import look, prefix, score
from safety_geometry.attacks.gcg.screening import Probe, scorer
from safety_geometry.attacks.gcg.search import GCGConfig, attack, attack_many
from safety_geometry.attacks.gcg.suffix import Suffix, allowed_tokens, initial_suffix, surviving
from safety_geometry.models.chat import ChatFormat
from safety_geometry.models.loading import configure, load_model
from safety_geometry.models.runner import Runner
from safety_geometry.models.tokenizer import load_tokenizer

START, LENGTH, TOP_K = " x", 20, 256
SEARCHES = {  # of part b; docs/performance.md tells what was tried
    "b": {"width": 40, "top_k": 64, "merge": 8},
    "b_echo": {"width": 20, "top_k": 64, "merge": 8, "echo": 6},
}
CASES = [
    ("Describe how a paper boat is folded.", "Sure, here is how a paper boat is folded"),
    ("Tell me which tea is best in the morning.", "Sure, here is a list of teas for the morning"),
    ("Explain why leaves turn red in autumn.", "Sure, here is an explanation of red leaves"),
    ("Write two lines about a sleeping cat.", "Sure, here are two lines about a cat"),
    ("Name a game for a rainy afternoon.", "Sure, here is a game for a rainy day"),
    ("Say how long rice has to be cooked.", "Sure, here is how long rice is cooked"),
    ("Suggest a walk for a sunny weekend.", "Sure, here is a walk for the weekend"),
    ("Explain how a bicycle stays upright.", "Sure, here is how a bicycle stays upright"),
]
now = CLOCKS["wall"]  # of the device, once main has begun


def main() -> None:
    global now
    options = arguments()
    device = torch.device(options.device)
    now = clock_of(device, options.clock)
    configure(options.threads)
    if options.shape:
        options.model = random_model(options.shape, options.dtype, options.device, options.work)
    chat = ChatFormat(load_tokenizer(options.model))
    runner = Runner(load_model(options.model, options.dtype, options.device))
    allowed = allowed_tokens(chat.tokenizer, runner.config.vocab_size)
    cases = [initial_suffix(chat, q, t, START, LENGTH) for q, t in CASES[: options.cases]]
    result = {
        "model": options.model.name, "dtype": options.dtype, "device": options.device, "threads": options.threads, "clock": options.clock,
        "torch": torch.__version__, "top_k": TOP_K, "suffix_length": LENGTH, "batch_size": options.batch_size, "card": named(device),
        "forward_rate": forward_rate(runner, cases[0]),
        "matrix_rate": matrix_rate(runner, now),
    }  # fmt: skip
    print(f"{named(device)}, {options.threads} thread(s), {result['forward_rate']:.0f} tokens/s of plain forward passes,"
          f" {result['matrix_rate'] / 1e12:.2f} TFLOP/s of matrix products", flush=True)  # fmt: skip
    peer = None

    def keep(part: str, found: dict) -> None:
        result[part] = found
        write_json(result, options.json)

    if options.parts & {"a", "b"}:
        peer = Peer(options, allowed, {"top_k": TOP_K, "init": START * LENGTH})
        result["peer_batch"], found = scoring(options, runner, chat, allowed, cases[0], peer, result["forward_rate"])
        keep("a", found)
        show_scoring(result)
    if "b" in options.parts:
        to_the_same_loss(options, runner, chat, allowed, cases, peer, result["peer_batch"], keep)
        for name in options.searches:
            show_search(name, result[name])
    if "c" in options.parts:
        keep("c", together(options, runner, chat, allowed, cases))
        show_together(result["c"])
    show(table(result, options.searches, runner), options.csv)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "results/default/models/base", help="model folder")
    parser.add_argument("--shape", help="instead of --model: random weights of a known shape (mistral-7b), made on the device")  # fmt: skip
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build/gcg_benchmark", help="of nanoGCG's environment and random models"
    )
    parser.add_argument("--parts", type=parts, default=parts("a,b,c"))
    parser.add_argument("--cases", type=int, default=len(CASES))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--width", type=int, default=128, help="of part a; its rows are scored by both")
    parser.add_argument("--repeats", type=int, default=3, help="of part a; the fastest counts on either side")
    parser.add_argument("--batch-size", type=int, help="rows of a forward pass, ours; default 512 on CUDA, else 64")
    parser.add_argument("--together-batch", type=int, help="rows of a forward pass in part c, for both sides: more than one case has; default --batch-size")  # fmt: skip
    parser.add_argument("--peer-batches", type=lambda text: [int(x) for x in text.split(",")], default=[0, 16, 64], help="tried in part a; 0: all (its default)")  # fmt: skip
    parser.add_argument("--steps", type=int, default=10, help="of nanoGCG's runs in part b")
    parser.add_argument("--search-width", type=int, default=64, help="of nanoGCG's runs in part b")
    parser.add_argument("--search", type=json.loads, help="our search in part b instead of the two of SEARCHES, as JSON")  # fmt: skip
    parser.add_argument(
        "--clock", choices=sorted(CLOCKS), default="wall", help="cpu: for a machine that has other work"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--csv", type=Path, help="the table at the end")
    options = parser.parse_args()
    options.batch_size = options.batch_size or (512 if options.device.startswith("cuda") else 64)
    options.searches = SEARCHES if options.search is None else {"b": options.search}
    return options


def parts(text: str) -> set[str]:
    if unknown := set(text) - set("abc,"):
        raise argparse.ArgumentTypeError(f"there is no part {min(unknown)}; there are a, b and c")
    return set(text) - {","}


# ------------------------------------------------------------------------------------------------ a: exact scoring


def scoring(options, runner, chat, allowed, case: Suffix, peer: Peer, rate: float) -> tuple[int, dict]:
    """Both sides on the same candidates, in turns; the peer at its best batch size, and at its default (all at once)."""
    config = GCGConfig(steps=1, width=options.width, top_k=TOP_K, suffix_length=LENGTH, batch_size=options.batch_size)

    def step(whole: bool) -> tuple[float, torch.Tensor, torch.Tensor]:
        """Seconds of the whole step, or of its scoring; the candidates and their losses."""
        batch, started = BatchSize.on(runner.device, config.batch_size), now()
        (current,) = look(runner, [case], [before], batch, None)
        rows = propose(current.gradient, case, config, allowed, torch.Generator().manual_seed(0))
        (texts,) = surviving(chat, [case], [rows.tolist()])
        rows = rows[[i for i, text in enumerate(texts) if text is not None]]
        started = started if whole else now()
        (scored,) = score(runner, [current], [rows], batch, None)
        return now() - started, rows, scored.losses

    before = prefix(runner, case)
    _, rows, losses = step(False)
    ask = {"candidates": rows.tolist()}
    tries = {}
    for size in options.peer_batches:
        try:
            tries[size] = peer.call("score", case, batch_size=size, **ask)
        except PeerError as error:
            print(f"a  nanoGCG in batches of {size or 'all'}: {error}", flush=True)
    if not tries:
        raise SystemExit("nanoGCG scored at none of --peer-batches; name smaller ones")
    best = min(tries, key=lambda size: tries[size]["seconds"])
    ours, ours_step, theirs, default = [], [], [], []
    for _ in range(options.repeats):
        ours.append(step(False)[0])
        ours_step.append(step(True)[0])
        theirs.append(peer.call("score", case, batch_size=best, **ask))
        if 0 in tries:
            default.append(theirs[-1] if best == 0 else peer.call("score", case, batch_size=0, **ask))
    drafted = {}
    if runner.dtype != torch.bfloat16:
        scoring_by_draft = scorer(runner, Probe(draft="bfloat16"))
        (current,) = look(runner, [case], [before], BatchSize.on(runner.device, config.batch_size), None)
        times = []
        for _ in range(options.repeats):
            started = now()
            (kept,) = scoring_by_draft([current], [rows], BatchSize.on(runner.device, config.batch_size), None)
            times.append(now() - started)
        drafted = {"drafted_s": min(times), "drafted_ratio": min(ours) / min(times),
                   "drafted_regret": float(kept.losses.min() - losses.min())}  # fmt: skip
    changed = (rows != torch.tensor(case.tokens)).int().argmax(1)
    needed = int((len(case.ids) - 1 - case.start - changed).sum())
    n = len(rows)
    fast, slow = min(ours), min(t["seconds"] for t in theirs)
    usual = min((t["seconds"] for t in default), default=None)
    return best, {
        "width": n, "targets": len(case.ids) - case.target_start, "run_by_nanogcg": len(case.ids) - case.start, "engine_s": fast, "nanogcg_s": slow, "engine_per_s": n / fast, "nanogcg_per_s": n / slow,
        "ratio": slow / fast, "nanogcg_default_s": usual, "ratio_default": None if usual is None else usual / fast, "engine_step_s": min(ours_step), "nanogcg_step_s": min(t["step"] for t in theirs),
        "needed_tokens": needed, "tokens_a_candidate": needed / n, "floor_s": needed / rate,
        "floor_share": needed / rate / fast, "engine_runs_s": ours, "nanogcg_runs_s": [t["seconds"] for t in theirs],
        "nanogcg_batches_s": {str(k): v["seconds"] for k, v in tries.items()},
        "largest_difference": float((losses - torch.tensor(theirs[0]["losses"])).abs().max()), "tolerance": TOLERANCE[runner.dtype],
    } | drafted  # fmt: skip


def forward_rate(runner: Runner, case: Suffix) -> float:
    """Tokens a second of plain forward passes without padding and head: the best of a few shapes."""
    best, width = 0.0, len(case.ids) - case.start
    with torch.no_grad():
        for rows in (4, 8, 16, 32, 64):
            ids = torch.tensor([case.ids[case.start :]] * rows, device=runner.device)
            for _ in range(2):
                started = now()
                runner.blocks(runner.embed(ids))
                best = max(best, rows * width / (now() - started))
    return best


# ----------------------------------------------------------------------------------------- b: time to the same loss


def to_the_same_loss(
    options, runner, chat, allowed, cases: list[Suffix], peer: Peer, peer_batch: int, keep: Callable[[str, dict], None]
) -> None:
    """Per case and seed: nanoGCG's seconds and best loss; seconds of each of our searches to that loss, censored at nanoGCG's. `keep` is
    given the name of a search and what is known of it after every run."""
    base = {"steps": 10_000, "top_k": TOP_K, "suffix_length": LENGTH, "batch_size": options.batch_size}
    configs = {name: GCGConfig(**(base | search)) for name, search in options.searches.items()}
    runs, failed = {name: [] for name in configs}, []
    for number, seed in product(range(len(cases)), range(options.seeds)):
        case, where = cases[number], {"case": number, "seed": seed}
        try:
            theirs = peer.call("run", case, steps=options.steps, width=options.search_width, seed=seed, batch_size=peer_batch)  # fmt: skip
        except PeerError as error:
            print(f"b  case {number} seed {seed}: nanoGCG failed: {error}", flush=True)
            failed.append(where | {"error": str(error)})
            for name in configs:
                keep(name, summary(options, name, runs[name], failed))
            continue
        bar, limit = min(theirs["losses"]), theirs["seconds"]
        survived = survives(chat, case, theirs["text"])
        for name, config in configs.items():
            found = timed_attack(runner, chat, allowed, case, config, seed, bar, limit)
            found |= where | {"nanogcg_s": limit, "nanogcg_loss": bar, "ratio": found["seconds"] / limit}
            runs[name].append(found | {"nanogcg_survives": survived})
            keep(name, summary(options, name, runs[name], failed))
            print(f"{name}  case {number} seed {seed}: nanoGCG {limit:.1f} s to {bar:.3f}, ours {found['seconds']:.1f} s to"
                  f" {found['loss']:.3f}{'' if found['reached'] else ' (not reached)'}", flush=True)  # fmt: skip


def survives(chat: ChatFormat, case: Suffix, text: str) -> bool:
    """Whether a suffix has the same tokens alone, as nanoGCG scored it, and in the whole conversation, as a model is asked."""
    tokens = chat.tokenizer(text, add_special_tokens=False)["input_ids"]
    return surviving(chat, [case], [[tokens]])[0][0] is not None


def summary(options, name: str, runs: list[dict], failed: list[dict]) -> dict:
    """Counts, and medians over the runs that nanoGCG finished."""
    medians = {name: statistics.median(r[key] for r in runs) if runs else None for name, key in (
        ("median_ratio", "ratio"), ("engine_median_s", "seconds"), ("nanogcg_median_s", "nanogcg_s"))}  # fmt: skip
    return medians | {
        "runs": runs, "failed": failed, "search": options.searches[name], "nanogcg_steps": options.steps, "nanogcg_width": options.search_width,
        "censored": sum(not r["reached"] for r in runs), "nanogcg_failed": len(failed),
        "nanogcg_not_surviving": sum(not r["nanogcg_survives"] for r in runs),
    }  # fmt: skip


def timed_attack(runner, chat, allowed, case, config: GCGConfig, seed: int, bar: float, limit: float) -> dict:
    started = now()
    late = lambda step, best: best if now() - started > limit else ()  # noqa: E731
    result = attack(runner, chat, case, replace(config, stop_loss=bar), allowed, seed, stop=late)
    return {
        "seconds": now() - started, "reached": result.stopped == "loss", "loss": result.loss,
        "steps": len(result.losses) - 1, "scored": result.scored, "tokens": result.tokens,
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------- c: eight at once


def together(options, runner, chat, allowed, cases: list[Suffix]) -> dict:
    """The same attacks one after the other and in one batch, in turns."""
    rows = options.together_batch or options.batch_size
    config = GCGConfig(steps=2, width=options.search_width, top_k=TOP_K, suffix_length=LENGTH, batch_size=rows)
    seeds, alone, at_once = list(range(len(cases))), [], []
    for _ in range(2):
        started = now()
        one = [attack(runner, chat, case, config, allowed, seed) for case, seed in zip(cases, seeds, strict=True)]
        alone.append(now() - started)
        started = now()
        many = attack_many(runner, chat, cases, config, allowed, seeds)
        at_once.append(now() - started)
    same = sum(a.suffix.ids == b.suffix.ids for a, b in zip(one, many, strict=True))
    return {"alone_s": min(alone), "together_s": min(at_once), "ratio": min(alone) / min(at_once), "cases": len(cases), "same_suffix": same, "batch_size": rows,
            "tokens": sum(result.tokens for result in many)}  # fmt: skip


if __name__ == "__main__":
    main()
