"""GCG by this project's engine beside nanoGCG 0.3.0, in turns on the same machine.

nanoGCG needs an older transformers and gets an environment of its own below --work, made at the first run; it runs as a
child process on the same model, prompt, start, width, top-k, dtype, threads and allowed tokens.

a  exact scoring: candidates a second for one case on the same candidates, whose losses must agree, and the whole step with
   gradient, proposal and filter; beside it the floor: the tokens that have to be run over the measured rate of forward passes
b  wall time to the loss at which nanoGCG ends, by the recommended search (its final loss is recomputed without any cache)
c  eight cases in one batch against one after the other

    PYTHONPATH=src python benchmarks/gcg.py --model results/default/models/base --json gcg.json
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import venv
from dataclasses import replace
from pathlib import Path

import torch

from safety_geometry.chat import ChatFormat
from safety_geometry.gcg import GCGConfig, attack, attack_many, propose
from safety_geometry.gcg_batches import BatchSize
from safety_geometry.gcg_scoring import look, prefix, score
from safety_geometry.models import configure, load_model, load_tokenizer
from safety_geometry.runner import Runner
from safety_geometry.suffix import Suffix, allowed_tokens, initial_suffix, surviving

ROOT = Path(__file__).resolve().parents[1]
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
PEER = ["nanogcg==0.3.0", "transformers==4.47.*", "torch==2.13.0", "numpy<3", "jinja2"]
START, LENGTH, TOP_K = " x", 20, 256
RECOMMENDED = {"width": 40, "top_k": 64, "merge": 8}  # docs/performance.md tells what was tried
WANTED = {"a": 2.0, "b": 1 / 3, "c": 5.0}
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


now = time.perf_counter


def main() -> None:
    global now
    options = arguments()
    now = CLOCKS[options.clock]
    configure(options.threads)
    chat = ChatFormat(load_tokenizer(options.model))
    runner = Runner(load_model(options.model, options.dtype, options.device))
    allowed = allowed_tokens(chat.tokenizer, runner.config.vocab_size)
    cases = [initial_suffix(chat, q, t, START, LENGTH) for q, t in CASES[: options.cases]]
    result = {
        "model": options.model.name, "dtype": options.dtype, "device": options.device, "threads": options.threads, "clock": options.clock,
        "torch": torch.__version__, "top_k": TOP_K, "suffix_length": LENGTH,
        "forward_rate": forward_rate(runner, cases[0]),
    }  # fmt: skip
    print(f"{options.threads} thread(s), {result['forward_rate']:.0f} tokens/s of plain forward passes", flush=True)
    peer = None
    if set(options.parts) & {"a", "b"}:
        peer = Peer(options, allowed)
        result["peer_batch"], result["a"] = scoring(options, runner, chat, allowed, cases[0], peer, result["forward_rate"])  # fmt: skip
        show_scoring(result)
    if "b" in options.parts:
        result["b"] = to_the_same_loss(options, runner, chat, allowed, cases, peer, result["peer_batch"])
        show_search(result["b"])
    if "c" in options.parts:
        result["c"] = together(options, runner, chat, allowed, cases)
        found = result["c"]
        print(f"c  {len(cases)} cases: one by one {found['alone_s']:.1f} s, together {found['together_s']:.1f} s, "
              f"ratio {found['ratio']:.2f} (wanted on a GPU: {WANTED['c']:g})")  # fmt: skip
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "results/default/models/base", help="model folder")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build/gcg_benchmark", help="where nanoGCG's environment is"
    )
    parser.add_argument("--parts", type=lambda text: text.split(","), default=["a", "b", "c"])
    parser.add_argument("--cases", type=int, default=len(CASES))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--width", type=int, default=128, help="of part a; its rows are scored by both")
    parser.add_argument("--repeats", type=int, default=3, help="of part a; the fastest counts on either side")
    parser.add_argument("--batch-size", type=int, default=64, help="rows of a forward pass, ours")
    parser.add_argument("--peer-batches", type=lambda text: [int(x) for x in text.split(",")], default=[0, 16, 64], help="tried in part a; 0: all (its default)")  # fmt: skip
    parser.add_argument("--steps", type=int, default=10, help="of nanoGCG's runs in part b")
    parser.add_argument("--search-width", type=int, default=64, help="of nanoGCG's runs in part b")
    parser.add_argument("--search", type=json.loads, default=RECOMMENDED, help="our search in part b, as JSON")
    parser.add_argument(
        "--clock", choices=sorted(CLOCKS), default="wall", help="cpu: for a machine that has other work"
    )
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


class Peer:
    """The child process with nanoGCG."""

    def __init__(self, options: argparse.Namespace, allowed: torch.Tensor):
        python = environment(options.work)
        script = Path(__file__).with_name("gcg_peer.py")
        self.child = subprocess.Popen([python, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._ask({
            "model": str(options.model), "dtype": options.dtype, "device": options.device, "threads": options.threads, "clock": options.clock,
            "forbidden": (~allowed).nonzero()[:, 0].tolist(),
        })  # fmt: skip

    def call(self, name: str, case: Suffix, **settings) -> dict:
        settings = {"top_k": TOP_K, "init": START * LENGTH} | settings
        settings["batch_size"] = settings["batch_size"] or None
        return self._ask({"call": name, "request": case.request, "target": case.target, **settings})

    def _ask(self, message: dict) -> dict:
        print(json.dumps(message), file=self.child.stdin, flush=True)
        line = self.child.stdout.readline()
        if not line:
            raise SystemExit(f"nanoGCG's process ended with status {self.child.wait()}; its message is above")
        return json.loads(line)


def environment(work: Path) -> Path:
    """The Python of nanoGCG's environment, which is made where it is missing."""
    python = work / "nanogcg" / "bin" / "python"
    if not (work / "nanogcg" / ".done").exists():
        print(f"making nanoGCG's environment in {work / 'nanogcg'}", flush=True)
        venv.create(work / "nanogcg", with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEER], check=True, stdout=sys.stderr)
        (work / "nanogcg" / ".done").touch()
    return python


# ------------------------------------------------------------------------------------------------ a: exact scoring


def scoring(options, runner, chat, allowed, case: Suffix, peer: Peer, rate: float) -> tuple[int, dict]:
    """Both sides on the same candidates, in turns; the peer at its best batch size."""
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
        wait(runner)
        return now() - started, rows, scored.losses

    before = prefix(runner, case)
    _, rows, losses = step(False)
    ask = {"candidates": rows.tolist()}
    tries = {size: peer.call("score", case, batch_size=size, **ask) for size in options.peer_batches}
    best = min(tries, key=lambda size: tries[size]["seconds"])
    ours, ours_step, theirs = [], [], []
    for _ in range(options.repeats):
        ours.append(step(False)[0])
        ours_step.append(step(True)[0])
        theirs.append(peer.call("score", case, batch_size=best, **ask))
    changed = (rows != torch.tensor(case.tokens)).int().argmax(1)
    needed = int((len(case.ids) - 1 - case.start - changed).sum())
    n = len(rows)
    fast, slow = min(ours), min(t["seconds"] for t in theirs)
    return best, {
        "width": n, "engine_s": fast, "nanogcg_s": slow, "engine_per_s": n / fast, "nanogcg_per_s": n / slow,
        "ratio": slow / fast, "engine_step_s": min(ours_step), "nanogcg_step_s": min(t["step"] for t in theirs),
        "needed_tokens": needed, "tokens_a_candidate": needed / n, "floor_s": needed / rate,
        "floor_share": needed / rate / fast, "engine_runs_s": ours, "nanogcg_runs_s": [t["seconds"] for t in theirs],
        "nanogcg_batches_s": {str(k): v["seconds"] for k, v in tries.items()},
        "largest_difference": float((losses - torch.tensor(theirs[0]["losses"])).abs().max()),
    }  # fmt: skip


def forward_rate(runner: Runner, case: Suffix) -> float:
    """Tokens a second of plain forward passes without padding and head: the best of a few shapes."""
    best, width = 0.0, len(case.ids) - case.start
    with torch.no_grad():
        for rows in (4, 8, 16, 32, 64):
            ids = torch.tensor([case.ids[case.start :]] * rows, device=runner.device)
            for _ in range(2):
                started = now()
                runner.blocks(runner.embed(ids))
                wait(runner)
                best = max(best, rows * width / (now() - started))
    return best


def wait(runner: Runner) -> None:
    if runner.device.type == "cuda":
        torch.cuda.synchronize()


def show_scoring(result: dict) -> None:
    a = result["a"]
    lines = [
        ("scoring, candidates a second", f"{a['engine_per_s']:.1f}, nanoGCG {a['nanogcg_per_s']:.1f} (batch {result['peer_batch'] or 'all'})"),
        ("ratio", f"{a['ratio']:.2f}  (wanted: at least {WANTED['a']:g})"),
        ("whole step", f"{a['engine_step_s']:.2f} s, nanoGCG {a['nanogcg_step_s']:.2f} s, ratio {a['nanogcg_step_s'] / a['engine_step_s']:.2f}"),
        ("floor", f"{a['floor_s']:.2f} s for {a['tokens_a_candidate']:.1f} tokens a candidate"),
        ("share of the floor reached", f"{a['floor_share']:.0%}"),
        ("largest difference of losses", f"{a['largest_difference']:.1e}{'' if a['largest_difference'] < 1e-3 else '  NO AGREEMENT'}"),
    ]  # fmt: skip
    for name, value in lines:
        print(f"a  {name:<30}{value}", flush=True)


# ----------------------------------------------------------------------------------------- b: time to the same loss


def to_the_same_loss(options, runner, chat, allowed, cases: list[Suffix], peer: Peer, peer_batch: int) -> dict:
    """Per case and seed: nanoGCG's seconds and best loss; our seconds to that loss, censored at nanoGCG's seconds."""
    config = GCGConfig(**({"steps": 10_000, "top_k": TOP_K, "suffix_length": LENGTH, "batch_size": options.batch_size} | options.search))  # fmt: skip
    runs = []
    for number, case in enumerate(cases):
        for seed in range(options.seeds):
            theirs = peer.call("run", case, steps=options.steps, width=options.search_width, seed=seed, batch_size=peer_batch)  # fmt: skip
            bar, limit = min(theirs["losses"]), theirs["seconds"]
            found = timed_attack(runner, chat, allowed, case, config, seed, bar, limit)
            ratio = found["seconds"] / limit
            runs.append(found | {"case": number, "seed": seed, "nanogcg_s": limit, "nanogcg_loss": bar, "ratio": ratio})
            print(f"b  case {number} seed {seed}: nanoGCG {limit:.1f} s to {bar:.3f}, ours {found['seconds']:.1f} s to {found['loss']:.3f}"
                  f"{'' if found['reached'] else ' (not reached)'}", flush=True)  # fmt: skip
    return {
        "runs": runs, "search": options.search, "nanogcg_steps": options.steps, "nanogcg_width": options.search_width,
        "censored": sum(not r["reached"] for r in runs), "median_ratio": statistics.median(r["ratio"] for r in runs),
        "engine_median_s": statistics.median(r["seconds"] for r in runs),
        "nanogcg_median_s": statistics.median(r["nanogcg_s"] for r in runs),
    }  # fmt: skip


def timed_attack(runner, chat, allowed, case, config: GCGConfig, seed: int, bar: float, limit: float) -> dict:
    started = now()
    late = lambda step, best: best if now() - started > limit else ()  # noqa: E731
    result = attack(runner, chat, case, replace(config, stop_loss=bar), allowed, seed, stop=late)
    wait(runner)
    return {
        "seconds": now() - started, "reached": result.stopped == "loss", "loss": result.loss,
        "steps": len(result.losses) - 1, "scored": result.scored, "tokens": result.tokens,
    }  # fmt: skip


def show_search(found: dict) -> None:
    print(f"b  {len(found['runs'])} runs, medians: nanoGCG {found['nanogcg_median_s']:.1f} s, ours {found['engine_median_s']:.1f} s; "
          f"median ratio {found['median_ratio']:.2f} (wanted: at most {WANTED['b']:.2f}); {found['censored']} did not reach the loss "
          f"in nanoGCG's time")  # fmt: skip


# ------------------------------------------------------------------------------------------------- c: eight at once


def together(options, runner, chat, allowed, cases: list[Suffix]) -> dict:
    """The same attacks one after the other and in one batch, in turns."""
    config = GCGConfig(
        steps=2, width=options.search_width, top_k=TOP_K, suffix_length=LENGTH, batch_size=options.batch_size
    )
    seeds, alone, at_once = list(range(len(cases))), [], []
    for _ in range(2):
        started = now()
        one = [attack(runner, chat, case, config, allowed, seed) for case, seed in zip(cases, seeds, strict=True)]
        wait(runner)
        alone.append(now() - started)
        started = now()
        many = attack_many(runner, chat, cases, config, allowed, seeds)
        wait(runner)
        at_once.append(now() - started)
    same = sum(a.suffix.ids == b.suffix.ids for a, b in zip(one, many, strict=True))
    return {"alone_s": min(alone), "together_s": min(at_once), "ratio": min(alone) / min(at_once), "cases": len(cases), "same_suffix": same}  # fmt: skip


if __name__ == "__main__":
    main()
