"""Candidate scoring by this project's engine against scoring one candidate at a time with ordinary forward hooks.

Both score the same candidates on the same prompts in the same process: ablation on harmful and on benign prompts and
addition on benign ones. The naive side runs whole prompts through the Hugging Face model with one hook at a time, at its
own best batch size, logits at the last position only. Everything is timed at least twice, the best counts. Beside the ratio stands the floor: the tokens × layers that have to
be computed, over the tokens × layers a second of a plain forward pass measured here too.

    PYTHONPATH=src python benchmarks/scoring.py --model results/default/models/base --json scoring.json

Exit status 1: the two sides disagree by more than 1e-4.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from safety_geometry.artefacts.candidate_scores import CandidateScores
from safety_geometry.geometry.activations import evaluation_layers, record
from safety_geometry.geometry.candidate_scores import score_candidates
from safety_geometry.models.chat import ChatFormat, Rendered
from safety_geometry.models.generation import length_batches
from safety_geometry.models.loading import configure, load_model
from safety_geometry.models.runner import Runner, pack
from safety_geometry.models.tokenizer import load_tokenizer

ROOT = Path(__file__).resolve().parents[1]
AGREE = 1e-4  # of cosines and of KL in nats
Sites = dict[tuple[int, int], torch.Tensor]


def main() -> None:
    options = arguments()
    configure(options.threads)
    torch.set_grad_enabled(False)
    chat = ChatFormat(load_tokenizer(options.model))
    model = load_model(options.model)
    runner = Runner(model)
    harmful, benign = (prompts(chat, name, options.prompts) for name in ("smoke_harmful", "benign_instructions"))
    sites, evaluated = candidates(runner, options, harmful, benign)
    n = options.prompts
    harmful, benign = harmful[:n], benign[:n]
    print(
        f"{len(sites)} candidates × {n} + {n} prompts, evaluation layers {evaluated} of {runner.n_layers}, "
        f"{options.threads} thread(s)"
    )

    rate = forward_rate(model, runner.n_layers, harmful + benign)
    sizes = batch_seconds(model, harmful, benign, dict([next(iter(sites.items()))]), evaluated, options)
    best = min(sizes, key=sizes.get)
    ours, theirs = [], []
    for _ in range(options.repeats):  # in turns, so that a slow moment of the machine hits both
        started = time.perf_counter()
        scores = score_candidates(
            runner, sites, harmful, benign, evaluated, batch_size=options.batch_size, share=chat.n_prefix
        )
        ours.append(time.perf_counter() - started)
        started = time.perf_counter()
        reference = naive(model, harmful, benign, sites, evaluated, best)
        theirs.append(time.perf_counter() - started)

    needed = least_work(runner, harmful, benign, sites, evaluated, chat.n_prefix)
    floor = needed / rate
    result = {
        "model": options.model.name, "layers": sorted({s[0] for s in sites}), "positions": sorted({s[1] for s in sites}),
        "candidates": len(sites), "prompts": n, "threads": options.threads, "evaluation_layers": evaluated,
        "torch": torch.__version__, "engine_s": min(ours), "naive_s": min(theirs), "engine_runs_s": ours,
        "naive_runs_s": theirs, "ratio": min(theirs) / min(ours), "naive_batch": best,
        "naive_batch_s": {str(size): seconds for size, seconds in sizes.items()}, "engine_batch": options.batch_size,
        "forward_rate": rate, "naive_token_layers": whole_work(runner, harmful, benign, sites),
        "floor_token_layers": needed, "floor_s": floor, "floor_share": floor / min(ours), **differences(scores, reference),
    }  # fmt: skip
    show(result)
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    if not worst(result) <= AGREE:
        raise SystemExit(f"NO AGREEMENT: {worst(result):.1e} is not within {AGREE:g}")


def arguments() -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "results/default/models/base", help="model folder")
    parser.add_argument(
        "--layers", type=numbers, help="candidate layers; default: five between 1/6 and 0.77 of the depth"
    )
    parser.add_argument("--positions", type=numbers, default=[-5, -1], help="as --positions=-5,-1")
    parser.add_argument("--evaluation", type=numbers, help="evaluation layers; default: the study's rule")
    parser.add_argument("--prompts", type=int, default=12, help="of each class")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2, help="at least 2; the fastest counts")
    parser.add_argument("--batch-size", type=int, default=96, help="of the engine")
    parser.add_argument(
        "--batches", type=numbers, default=[1, 2, 4, 8, 16, 32], help="the naive side's, of which the best is used"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.repeats < 2:
        parser.error(f"--repeats {options.repeats}: a single run says nothing of its own spread; take 2 or more")
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


# ----------------------------------------------------------------------------------------------------- the naive side


def naive(model, harmful, benign, sites: Sites, evaluated: list[int], batch_size: int) -> CandidateScores:
    """One candidate and one operation at a time; harmful and benign prompts are ablated in the same batches."""
    n, order = len(harmful), sorted(sites)
    both = [p.ids for p in (*harmful, *benign)]
    clean, log_p = hooked(model, both, evaluated, batch_size)
    ablated, added, kl = [], [], []
    for site in order:
        vector = sites[site]
        unit = vector / vector.norm()
        sums, log_q = hooked(model, both, evaluated, batch_size, site[0], lambda x, u=unit: x - (x @ u)[..., None] * u)
        ablated.append(sums[:n])
        kl.append((log_p[n:].exp() * (log_p[n:] - log_q[n:])).double().sum(-1).float())
        added.append(
            hooked(model, both[n:], evaluated, batch_size, site[0], lambda x, v=vector: x + v, logits=False)[0]
        )
    norms, stacked = torch.stack([sites[s].norm() for s in order]), map(torch.stack, (ablated, added, kl))
    tensors = (norms, *stacked, clean[:n], clean[n:])
    layers, positions = np.array(order).T
    return CandidateScores(layers, positions, *(each.numpy() for each in tensors), model.config.num_hidden_layers)


def hooked(model, rows, evaluated, batch_size, layer=None, change=None, logits=True):
    """Sums of the evaluation layers' last-token outputs [n, d] and log p of the next token [n, V] of whole prompts."""
    sums, log_p = torch.zeros(len(rows), model.config.hidden_size), [None] * len(rows)
    for chunk in length_batches([len(r) for r in rows], batch_size):
        width = max(len(rows[i]) for i in chunk)
        ids = torch.zeros(len(chunk), width, dtype=torch.long)
        mask = torch.zeros(len(chunk), width, dtype=torch.long)
        for k, i in enumerate(chunk):
            ids[k, width - len(rows[i]) :] = torch.tensor(rows[i])
            mask[k, width - len(rows[i]) :] = 1
        total = []
        blocks = model.model.layers
        final = len(blocks) - 1
        hooks = [
            blocks[e].register_forward_hook(
                lambda module, args, out, t=total, last=(e == final): t.append(
                    model.model.norm(out[:, -1]) if last else out[:, -1]  # the last output is compared after the norm
                )
            )
            for e in evaluated
        ]
        if change is not None:
            hooks.append(blocks[layer].register_forward_pre_hook(lambda module, args: (change(args[0]), *args[1:])))
        out = (model if logits else model.model)(
            input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0), use_cache=False,
            **({"logits_to_keep": 1} if logits else {}),
        )  # fmt: skip
        for hook in hooks:
            hook.remove()
        sums[chunk] = sum(total)
        if logits:
            for k, i in enumerate(chunk):
                log_p[i] = out.logits[k, -1].log_softmax(-1)
    return sums, torch.stack(log_p) if logits else None


def batch_seconds(model, harmful, benign, site: Sites, evaluated, options) -> dict[int, float]:
    """Seconds of one candidate at every batch size: the best of the repeats, which take turns."""
    hooked(model, [p.ids for p in benign[:4]], evaluated, 4)  # warm up
    best = dict.fromkeys(options.batches, float("inf"))
    for _ in range(options.repeats):
        for size in options.batches:
            started = time.perf_counter()
            naive(model, harmful, benign, site, evaluated, size)
            best[size] = min(best[size], time.perf_counter() - started)
    return best


# ------------------------------------------------------------------------------------------------------------- floor


def forward_rate(model, n_layers: int, rows: list[Rendered]) -> float:
    """Tokens × layers a second of plain forward passes without padding and head: the best of a few shapes."""
    width = min(len(r.ids) for r in rows)
    best = 0.0
    for size in (8, 16, 32, 64):
        ids = torch.tensor([rows[i % len(rows)].ids[:width] for i in range(size)])
        for _ in range(2):
            started = time.perf_counter()
            model.model(input_ids=ids, use_cache=False)
            best = max(best, size * width * n_layers / (time.perf_counter() - started))
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
    return float(np.max([result[f"difference_{k}"] for k in ("s_refuse", "s_comply", "kl")]))


def show(result: dict) -> None:
    lines = [
        ("engine", f"{result['engine_s']:.2f} s"),
        ("naive", f"{result['naive_s']:.2f} s (batch {result['naive_batch']})"),
        ("ratio", f"{result['ratio']:.2f}  (wanted: at least 2.5)"),
        ("work, naive : floor", f"{result['naive_token_layers'] / result['floor_token_layers']:.2f}"),
        ("floor", f"{result['floor_s']:.2f} s at {result['forward_rate']:,.0f} tokens × layers a second"),
        ("share of the floor reached", f"{result['floor_share']:.0%}"),
        *((f"largest difference {k}", f"{result[f'difference_{k}']:.1e}") for k in ("s_refuse", "s_comply", "kl")),
    ]
    for name, value in lines:
        print(f"{name:<28}{value}")
    sizes = sorted(map(int, result["naive_batch_s"]))
    if result["naive_batch"] == sizes[-1] or result["naive_batch"] == sizes[0] > 1:
        print(f"batches of {result['naive_batch']} are at the edge of --batches: another size may be better")
    if worst(result) <= AGREE:
        print(f"agreement within {AGREE:g}")


if __name__ == "__main__":
    main()
