"""Ways to make a pass of GCG's exact scoring cheaper, each beside the pass as it is, in turns in one run.

A pass: rows that share a cached prefix through all blocks, and the log-normaliser of the logits at the target tokens.

parts     the blocks without logits; the matrix products of the blocks alone
fused     torch's own RMSNorm in the place of the model's
int8      torch's dynamic quantisation of all matrix products
bfloat16  the model in that dtype
rows      two threads with a half of the rows each, beside two threads an operation (wall time: only on an idle machine)

For the two that change losses: how they rank the candidates of one GCG step, over cases and steps: rank correlation with the
exact losses, the rank that the truly best candidate has (0: the best), and by how much the best of their first eighth is worse.

    PYTHONPATH=src python benchmarks/gcg_variants.py --model results/default/models/base --json gcg_variants.json
"""

import argparse
import copy
import statistics
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from gcg import CASES, LENGTH, START
from machine import CLOCKS, ROOT, show, write_json
from torch import Tensor, nn

from safety_geometry.attacks.gcg.batches import BatchSize
from safety_geometry.attacks.gcg.candidates import propose
from safety_geometry.attacks.gcg.scoring import look, prefix, score
from safety_geometry.attacks.gcg.screening import spearman
from safety_geometry.attacks.gcg.search import GCGConfig
from safety_geometry.attacks.gcg.suffix import allowed_tokens, initial_suffix, surviving
from safety_geometry.models.chat import ChatFormat
from safety_geometry.models.loading import configure, load_model
from safety_geometry.models.runner import Runner
from safety_geometry.models.tokenizer import load_tokenizer

PREFIX, TARGETS = 60, 10


def main() -> None:
    options = arguments()
    configure(1)
    model = load_model(options.model, "float32", "cpu")
    runner = Runner(model)
    variants = {"fused": fused(model), "int8": in_int8(model), "bfloat16": Runner(copy.deepcopy(model).bfloat16())}
    result = {"model": options.model.name, "rows": options.rows, "tokens": options.tokens, "torch": torch.__version__,
              "clock": options.clock, "seconds": times(options, runner, variants)}  # fmt: skip
    write_json(result, options.json)
    result["ranking"] = ranking(options, runner, {name: variants[name] for name in ("int8", "bfloat16")})
    write_json(result, options.json)
    if options.rows_per_thread:
        result["two_threads"] = two_threads(options, runner)
        write_json(result, options.json)
    whole = result["seconds"]["whole"]
    show([{"variant": n, "seconds": s, "ratio": whole / s} | result["ranking"].get(n, {}) for n, s in result["seconds"].items()], None)  # fmt: skip


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "results/default/models/base", help="model folder")
    parser.add_argument("--rows", type=int, default=64, help="of a pass")
    parser.add_argument("--tokens", type=int, default=24, help="of a row, behind the prefix")
    parser.add_argument("--repeats", type=int, default=5, help="the median counts")
    parser.add_argument("--cases", type=int, default=len(CASES), help="of the ranking")
    parser.add_argument("--steps", type=int, default=2, help="of each case of the ranking")
    parser.add_argument("--width", type=int, default=96, help="candidates of a step of the ranking")
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall", help="cpu: for a machine with other work")
    parser.add_argument("--rows-per-thread", action="store_true", help="also two threads; needs an idle machine")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


# ------------------------------------------------------------------------------------------------------------ variants


def fused(model: nn.Module) -> Runner:
    """The model with `torch.rms_norm`."""
    changed = copy.deepcopy(model)
    for module in changed.modules():
        if hasattr(module, "variance_epsilon"):
            module.forward = lambda x, m=module: nn.functional.rms_norm(x, x.shape[-1:], m.weight, m.variance_epsilon)
    return Runner(changed)


def in_int8(model: nn.Module) -> Runner:
    """The model with quantised weights, and activations that are quantised as they come."""
    return Runner(torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear}, dtype=torch.qint8))


def rows_of(options: argparse.Namespace, vocabulary: int) -> tuple[Tensor, list[int]]:
    """Random rows [rows, tokens] and a prefix."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary, (options.rows, options.tokens), generator=generator)
    return ids, torch.randint(vocabulary, (PREFIX,), generator=generator).tolist()


@torch.no_grad()
def scored(runner: Runner, ids: Tensor, before: dict) -> Tensor:
    h = runner.blocks(runner.embed(ids), cache=before, past=PREFIX)
    return runner.logits(h[:, -TARGETS:]).logsumexp(-1)


@torch.no_grad()
def times(options: argparse.Namespace, runner: Runner, variants: dict[str, Runner]) -> dict[str, float]:
    """Median seconds of a pass on one thread: as it is (`whole`), its parts, and the variants."""
    ids, begin = rows_of(options, runner.config.vocab_size)
    before = runner.prefix(begin)
    products = [m for layer in runner.layers for m in layer.modules() if isinstance(m, nn.Linear)]
    inputs = {width: torch.randn(ids.numel(), width) for width in {m.in_features for m in products}}
    actions: dict[str, Callable[[], object]] = {
        "whole": lambda: scored(runner, ids, before),
        "blocks": lambda: runner.blocks(runner.embed(ids), cache=before, past=PREFIX),
        "products of the blocks": lambda: [m(inputs[m.in_features]) for m in products],
    }
    caches = {name: variant.prefix(begin) for name, variant in variants.items()}
    actions |= {name: lambda n=name: scored(variants[n], ids, caches[n]) for name in variants}
    return {name: statistics.median(spent) for name, spent in in_turns(actions, options).items()}


def in_turns(actions: dict[str, Callable[[], object]], options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each action, by round; one round before does not count."""
    now, spent = CLOCKS[options.clock], {name: [] for name in actions}
    for _ in range(options.repeats + 1):
        for name, action in actions.items():
            began = now()
            action()
            spent[name].append(now() - began)
    return {name: each[1:] for name, each in spent.items()}


def two_threads(options: argparse.Namespace, runner: Runner) -> dict[str, float]:
    """Median seconds of the pass with two threads an operation, and with two threads that have half of the rows each."""
    ids, begin = rows_of(options, runner.config.vocab_size)
    before = runner.prefix(begin)
    pool = ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,))

    def by_operation() -> None:
        torch.set_num_threads(2)
        scored(runner, ids, before)

    actions = {"operations": by_operation, "rows": lambda: list(pool.map(lambda part: scored(runner, part, before), ids.chunk(2)))}  # fmt: skip
    return {name: statistics.median(spent) for name, spent in in_turns(actions, options).items()}


# ------------------------------------------------------------------------------------------------------------- ranking


def ranking(options: argparse.Namespace, runner: Runner, drafts: dict[str, Runner]) -> dict[str, dict[str, float]]:
    """How the drafts rank the candidates of steps that take the truly best one."""
    chat = ChatFormat(load_tokenizer(options.model))
    allowed = allowed_tokens(chat.tokenizer, runner.config.vocab_size)
    config = GCGConfig(steps=1, width=options.width, top_k=64, suffix_length=LENGTH)
    seen: dict[str, list[tuple[float, int, float]]] = {name: [] for name in drafts}
    for question, target in CASES[: options.cases]:
        case = initial_suffix(chat, question, target, START, LENGTH)
        before = prefix(runner, case)
        for step in range(options.steps):
            batch = BatchSize.on(runner.device, config.batch_size)
            (current,) = look(runner, [case], [before], batch, None)
            rows = propose(current.gradient, case, config, allowed, torch.Generator().manual_seed(step))
            (texts,) = surviving(chat, [case], [rows.tolist()])
            kept = [i for i, text in enumerate(texts) if text is not None]
            rows, (exact,) = rows[kept], score(runner, [current], [rows[kept]], batch, None)
            best = int(exact.losses.argmin())
            for name, draft in drafts.items():
                (guess,) = score(draft, [current.in_dtype(draft.dtype)], [rows], batch, None)
                order = guess.losses.argsort(stable=True)
                eighth = exact.losses[order[: -(-len(rows) // 8)]].min()
                seen[name].append((spearman(guess.losses, exact.losses), int((order == best).nonzero()), float(eighth - exact.losses.min())))  # fmt: skip
            case = case.changed(rows[best].tolist(), texts[kept[best]], float(exact.losses.min()))
            print(f"{question}  step {step + 1}: {len(rows)} candidates", flush=True)
    return {
        name: {"steps": len(each), "least_correlation": min(r for r, _, _ in each), "mean_correlation": statistics.mean(r for r, _, _ in each),
               "worst_rank_of_the_best": max(k for _, k, _ in each), "largest_regret": max(g for _, _, g in each)}
        for name, each in seen.items()
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
