"""Candidate scoring by this project's engine, with and without CUDA graphs, against one candidate at a time with hooks.

All score the same candidates on the same prompts in the same process: ablation on harmful and on benign prompts and
addition on benign ones. The naive side runs whole prompts through the Hugging Face model with one hook at a time, at its
own best batch size, logits at the last position only. Everything is timed at least twice, the best counts. Beside the ratio
stands the floor: the tokens × layers that have to be computed, over the tokens × layers a second of a plain forward pass
measured here too. The table has the probes' activations as well, tokens a second that have to be computed, and the share of
the matrix rate measured here. Wanted on one H100, bfloat16, SmolLM2: 400,000 tokens/s of probes and of candidate scores.

    PYTHONPATH=src python benchmarks/scoring.py --json scoring.json                        # CPU, float32
    PYTHONPATH=src python benchmarks/scoring.py --device cuda --dtype bfloat16             # the same on a GPU

Exit status 1: in float32 two sides disagree by more than 1e-4.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from machine import ROOT, matrix_rate, named, numbers, operations, seconds, write_json
from scoring_hooks import Sites, hooked, naive

from safety_geometry.artefacts.candidate_scores import CandidateScores
from safety_geometry.geometry.activations import evaluation_layers, record
from safety_geometry.geometry.candidate_scores import score_candidates
from safety_geometry.models.chat import ChatFormat, Rendered
from safety_geometry.models.loading import DTYPES, configure, load_model
from safety_geometry.models.runner import Runner, pack
from safety_geometry.models.tokenizer import load_tokenizer

AGREE = 1e-4  # of cosines and of KL in nats
BATCH = {"cpu": 96, "cuda": 2048}


def main() -> None:
    options = arguments()
    configure(options.threads)
    torch.set_grad_enabled(False)
    chat = ChatFormat(load_tokenizer(options.model))
    model = load_model(options.model, options.dtype, options.device)
    runner = Runner(model)
    options.batch_size = options.batch_size or BATCH[runner.device.type]
    harmful, benign = (prompts(chat, name, options.prompts) for name in ("smoke_harmful", "benign_instructions"))
    sites, evaluated = candidates(runner, options, harmful, benign)
    n = options.prompts
    harmful, benign = harmful[:n], benign[:n]
    print(
        f"{len(sites)} candidates × {n} + {n} prompts, evaluation layers {evaluated} of {runner.n_layers}, "
        f"{options.threads} thread(s)"
    )

    rate, matrices = forward_rate(model, runner.n_layers, harmful + benign), matrix_rate(runner)
    sizes = batch_seconds(model, harmful, benign, dict([next(iter(sites.items()))]), evaluated, options)
    best = min(sizes, key=sizes.get)
    sides = {"engine": runner} | ({"graphs": Runner(model, graphs=True)} if options.graphs else {})
    probes, scores, spent = {}, {}, {}
    for turn in range(-2 if options.graphs else 0, options.repeats):  # two turns before, in which graphs are captured
        for side, used in sides.items():  # in turns, so that a slow moment of the machine hits all of them
            for work, action in (
                ("probes", lambda r=used, s=side: probes.update({s: probe(r, harmful + benign, options, chat)})),
                ("candidates", lambda r=used, s=side: scores.update({s: score_candidates(
                    r, sites, harmful, benign, evaluated, batch_size=options.batch_size, share=chat.n_prefix)})),
            ):  # fmt: skip
                spent.setdefault((work, side), []).append(seconds(action, runner.device))
        if turn >= 0:
            action = lambda: scores.update(naive=naive(model, harmful, benign, sites, evaluated, best))  # noqa: E731
            spent.setdefault(("candidates", "naive"), []).append(seconds(action, runner.device))

    ours, theirs = (spent["candidates", side][-options.repeats :] for side in ("engine", "naive"))
    needed = least_work(runner, harmful, benign, sites, evaluated, chat.n_prefix)
    batch = pack([p.ids for p in (*harmful, *benign)], share=chat.n_prefix)
    tokens = {"probes": len(batch.prefix) + int(batch.lengths.sum()), "candidates": needed / runner.n_layers}
    per_token, _ = operations(runner)
    table = [
        {"work": work, "side": side, "first_s": runs[0], "s": (took := min(runs[-options.repeats :])),
         "tokens_s": tokens[work] / took, "share": tokens[work] * per_token / took / matrices}
        for (work, side), runs in sorted(spent.items())
    ]  # fmt: skip
    floor = needed / rate
    result = {
        "model": options.model.name, "layers": sorted({s[0] for s in sites}), "positions": sorted({s[1] for s in sites}),
        "candidates": len(sites), "prompts": n, "threads": options.threads, "evaluation_layers": evaluated,
        "torch": torch.__version__, "engine_s": min(ours), "naive_s": min(theirs), "engine_runs_s": ours,
        "naive_runs_s": theirs, "ratio": min(theirs) / min(ours), "naive_batch": best,
        "naive_batch_s": {str(size): took for size, took in sizes.items()}, "engine_batch": options.batch_size,
        "forward_rate": rate, "naive_token_layers": whole_work(runner, harmful, benign, sites), "table": table,
        "floor_token_layers": needed, "floor_s": floor, "floor_share": floor / min(ours), "matrix_rate": matrices,
        "device": named(runner.device), "dtype": options.dtype, **differences(scores["engine"], scores["naive"]),
    }  # fmt: skip
    if options.graphs:
        apart = differences(scores["graphs"], scores["engine"])
        result |= {f"graphs_{name}": value for name, value in apart.items()}
    show(result)
    write_json(result, options.json)
    if options.dtype == "float32" and not worst(result) <= AGREE:
        raise SystemExit(f"NO AGREEMENT: {worst(result):.1e} is not within {AGREE:g}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "results/default/models/base", help="model folder")
    parser.add_argument(
        "--layers", type=numbers, help="candidate layers; default: five between 1/6 and 0.77 of the depth"
    )
    parser.add_argument("--positions", type=numbers, default=[-5, -1], help="as --positions=-5,-1")
    parser.add_argument("--evaluation", type=numbers, help="evaluation layers; default: the study's rule")
    parser.add_argument("--prompts", type=int, default=12, help="of each class")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="float32")
    parser.add_argument("--graphs", action=argparse.BooleanOptionalAction, help="with graphs too; default: on a GPU")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2, help="at least 2; the fastest counts")
    parser.add_argument("--batch-size", type=int, help=f"of the engine; default: {BATCH}")
    parser.add_argument(
        "--batches", type=numbers, default=[1, 2, 4, 8, 16, 32], help="the naive side's, of which the best is used"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.repeats < 2:
        parser.error(f"--repeats {options.repeats}: a single run says nothing of its own spread; take 2 or more")
    if options.graphs is None:
        options.graphs = options.device.startswith("cuda")
    return options


def prompts(chat: ChatFormat, name: str, n: int) -> list[Rendered]:
    """Twice as many as are scored: the directions are fitted on all of them."""
    rows = [json.loads(line) for line in (ROOT / "data" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    if len(rows) < n:
        raise SystemExit(f"data/{name}.jsonl has {len(rows)} prompts; --prompts {n} is too many")
    return chat.render_many([row["prompt"] for row in rows[: 2 * n]])


def candidates(runner: Runner, options, harmful, benign) -> tuple[Sites, list[int]]:
    """Mean differences at the candidate sites, and the evaluation layers by the rule of the study."""
    layers = options.layers or sorted({round(share * runner.n_layers) for share in (1 / 6, 1 / 3, 0.47, 0.63, 0.77)})
    positions = sorted({*options.positions, -1})
    means = [record(runner, found, positions, 16).mean(0) for found in (harmful, benign)]
    delta = means[0] - means[1]
    sites = {(ell, q): delta[positions.index(q), ell] for ell in layers for q in options.positions}
    sites = {site: vector for site, vector in sites.items() if vector.norm() > 0}
    last = positions.index(-1)
    return sites, options.evaluation or evaluation_layers(means[0][last], means[1][last])


def batch_seconds(model, harmful, benign, site: Sites, evaluated, options) -> dict[int, float]:
    """Seconds of one candidate at every batch size: the best of the repeats, which take turns."""
    hooked(model, [p.ids for p in benign[:4]], evaluated, 4)  # warm up
    best = dict.fromkeys(options.batches, float("inf"))
    for _ in range(options.repeats):
        for size in options.batches:
            took = seconds(lambda n=size: naive(model, harmful, benign, site, evaluated, n), model.device)
            best[size] = min(best[size], took)
    return best


def probe(runner: Runner, rendered: list[Rendered], options, chat: ChatFormat) -> torch.Tensor:
    """What a probe records: the stream at the last tokens of all prompts, at every block."""
    return record(runner, rendered, [-5, -1], options.batch_size, chat.n_prefix)


# ------------------------------------------------------------------------------------------------------------- floor


def forward_rate(model, n_layers: int, rows: list[Rendered]) -> float:
    """Tokens × layers a second of plain forward passes without padding and head: the best of a few shapes."""
    width = min(len(r.ids) for r in rows)
    best = 0.0
    for size in (8, 16, 32, 64):
        ids = torch.tensor([rows[i % len(rows)].ids[:width] for i in range(size)], device=model.device)
        for _ in range(2):
            took = seconds(lambda i=ids: model.model(input_ids=i, use_cache=False), model.device)
            best = max(best, size * width * n_layers / took)
    return best


def least_work(runner: Runner, harmful, benign, sites: Sites, evaluated, share: int) -> int:
    """Tokens × layers without padding: the clean run once; then per candidate what lies above its layer, with the edited
    prefix once per operation, up to the last layer that is read (the KL reads the last one)."""
    batch = pack([p.ids for p in (*harmful, *benign)], share=share)
    prefix, n = len(batch.prefix), len(harmful)
    own_harmful, own_benign = int(batch.lengths[:n].sum()), int(batch.lengths[n:].sum())
    last = max(evaluated) + 1
    work = (prefix + own_harmful + own_benign) * runner.n_layers
    for layer, _ in sites:
        to_evaluation, to_end = max(0, last - layer), runner.n_layers - layer
        work += (prefix + own_benign) * to_end + own_harmful * to_evaluation  # ablated
        work += (prefix + own_benign) * to_evaluation  # added
    return work


def whole_work(runner: Runner, harmful, benign, sites: Sites) -> int:
    """Tokens × layers of the naive side, padding not counted."""
    a, b = (sum(len(p.ids) for p in rows) for rows in (harmful, benign))
    return ((a + b) + len(sites) * (a + 2 * b)) * runner.n_layers


# ------------------------------------------------------------------------------------------------------------ result


def differences(ours: CandidateScores, theirs: CandidateScores) -> dict[str, float]:
    """Largest absolute differences of S_refuse, S_comply (cosines of means) and KL over the candidates."""

    def cosine(vectors: np.ndarray, clean: np.ndarray) -> np.ndarray:
        mean, target = vectors.astype(np.float64).mean(1), clean.astype(np.float64).mean(0)
        return mean @ target / (np.linalg.norm(mean, axis=1) * np.linalg.norm(target))

    pairs = {
        "s_refuse": [cosine(s.add_benign, s.clean_harmful) for s in (ours, theirs)],
        "s_comply": [cosine(s.ablate_harmful, s.clean_benign) for s in (ours, theirs)],
        "kl": [s.kl.astype(np.float64) for s in (ours, theirs)],
    }
    return {f"difference_{name}": float(np.abs(a - b).max()) for name, (a, b) in pairs.items()}


def worst(result: dict) -> float:
    """The largest difference of a score; NaN where one is."""
    return float(np.max([value for name, value in result.items() if "difference_" in name]))


def show(result: dict) -> None:
    lines = [
        ("engine", f"{result['engine_s']:.2f} s"),
        ("naive", f"{result['naive_s']:.2f} s (batch {result['naive_batch']})"),
        ("ratio", f"{result['ratio']:.2f}  (wanted: at least 2.5)"),
        ("work, naive : floor", f"{result['naive_token_layers'] / result['floor_token_layers']:.2f}"),
        ("floor", f"{result['floor_s']:.2f} s at {result['forward_rate']:,.0f} tokens × layers a second"),
        ("share of the floor reached", f"{result['floor_share']:.0%}"),
        *((name.replace("_", " "), f"{value:.1e}") for name, value in result.items() if "difference_" in name),
    ]
    for name, value in lines:
        print(f"{name:<28}{value}")
    print(f"\n{result['device']}, {result['dtype']}, matrix rate {result['matrix_rate'] / 1e12:.3g} TFLOP/s")
    print(f"{'work':<12}{'side':<8}{'first, s':>10}{'s':>9}{'tokens/s':>11}{'share':>8}")
    for row in result["table"]:
        print(
            f"{row['work']:<12}{row['side']:<8}{row['first_s']:>10.3f}{row['s']:>9.3f}{row['tokens_s']:>11,.0f}{row['share']:>8.1%}"
        )
    sizes = sorted(map(int, result["naive_batch_s"]))
    if result["naive_batch"] == sizes[-1] or result["naive_batch"] == sizes[0] > 1:
        print(f"batches of {result['naive_batch']} are at the edge of --batches: another size may be better")
    if worst(result) <= AGREE:
        print(f"agreement within {AGREE:g}")


if __name__ == "__main__":
    main()
