"""Greedy decoding by this project's engine, with and without CUDA graphs, beside `generate` of transformers.

All answer the same prompts, left-padded, to the same number of tokens: no token ends an answer, so that every row
decodes to the end. A step is what one more token a row costs: the time of all tokens less that of the first, over the
number of the others. Its share is that of the matrix rate measured here: the operations of a step over its time. Wanted
on one H100, bfloat16, SmolLM2: a step with graphs in a fifth of the time without.

    PYTHONPATH=src python benchmarks/generation.py                                        # CPU, float32
    PYTHONPATH=src python benchmarks/generation.py --device cuda --dtype bfloat16         # the same on a GPU

Exit status 1: in float32 the engine's answers are not those of transformers, with graphs or without.
"""

import argparse
import json
from pathlib import Path

import torch
from machine import ROOT, matrix_rate, named, numbers, operations, seconds, write_json

from safety_geometry.models.chat import ChatFormat
from safety_geometry.models.generation import generate
from safety_geometry.models.loading import DTYPES, configure, load_model
from safety_geometry.models.runner import Runner
from safety_geometry.models.tokenizer import load_tokenizer

ROWS = {"cpu": [1, 8], "cuda": [1, 64, 200, 512]}


def main() -> None:
    options = arguments()
    configure(options.threads)
    torch.set_grad_enabled(False)
    chat = ChatFormat(load_tokenizer(options.model))
    model = load_model(options.model, options.dtype, options.device)
    runner, static = Runner(model), Runner(model, graphs=True)
    lines = (ROOT / "data" / "benign_instructions.jsonl").read_text(encoding="utf-8").splitlines()
    prompts = [prompt.ids for prompt in chat.render_many([json.loads(line)["prompt"] for line in lines])]
    per_token, per_logit = operations(runner)
    never = [model.config.vocab_size]  # a token that nobody draws
    rate, table = matrix_rate(runner), []
    where = f"{named(runner.device)}, {options.threads} thread(s)"
    print(f"{options.model.name}, {options.dtype}, {where}, {options.tokens} tokens a row")
    print(f"matrix rate {rate / 1e12:.3g} TFLOP/s")
    print(
        f"{'rows':>5} {'side':<13}{'ms a step':>10}{'tokens/s':>10}{'TFLOP/s':>9}{'share':>7}"
        f"{'x engine':>9}{'other answers':>15}"
    )
    for rows in options.rows or ROWS[runner.device.type]:
        asked = [prompts[i % len(prompts)] for i in range(rows)]
        sides = {
            "transformers": lambda limit, a=asked: theirs(model, a, never, limit),
            "engine": lambda limit, a=asked: ours(runner, a, never, limit, chat.n_prefix),
            "graphs": lambda limit, a=asked: ours(static, a, never, limit, chat.n_prefix),
        }
        measured = measure(sides, options.tokens, options.repeats, runner.device)
        work = rows * (per_token + per_logit)
        for side, (answers, step, whole) in measured.items():
            other = sum(a != b for a, b in zip(answers, measured["transformers"][0], strict=True))
            entry = {
                "rows": rows, "side": side, "step_s": step, "tokens_s": rows / step, "whole_s": whole,
                "flops": work / step, "share": work / step / rate, "ratio": measured["engine"][1] / step,
                "other_answers": other,
            }  # fmt: skip
            table.append(entry)
            print(
                f"{rows:>5} {side:<13}{1e3 * step:>10.2f}{rows / step:>10,.0f}{entry['flops'] / 1e12:>9.3g}"
                f"{entry['share']:>7.1%}{entry['ratio']:>9.2f}{other:>9} of {rows}",
                flush=True,
            )
    result = {
        "model": options.model.name, "dtype": options.dtype, "device": named(runner.device), "threads": options.threads,
        "tokens": options.tokens, "torch": torch.__version__, "matrix_rate": rate, "table": table,
    }  # fmt: skip
    write_json(result, options.json)
    if options.dtype == "float32" and (wrong := sum(entry["other_answers"] for entry in table)):
        raise SystemExit(f"NO AGREEMENT: {wrong} answers are not those of transformers")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "results/default/models/base", help="model folder")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="float32")
    parser.add_argument("--rows", type=numbers, help=f"of a batch; default: {ROWS}")
    parser.add_argument("--tokens", type=int, default=48, help="of an answer")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2, help="at least 2; the fastest counts, after one to warm up")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.repeats < 2:
        parser.error(f"--repeats {options.repeats}: a single run says nothing of its own spread; take 2 or more")
    if options.tokens < 2:
        parser.error(f"--tokens {options.tokens}: a step is measured from the second token on; take 2 or more")
    return options


def measure(sides: dict, tokens: int, repeats: int, device: torch.device) -> dict[str, tuple[list, float, float]]:
    """Answers, seconds of a step and of all of it, by side; sides take turns, so that a slow moment hits all."""
    answers = {side: answer(tokens) for side, answer in sides.items()}
    whole, first = (dict.fromkeys(sides, float("inf")) for _ in range(2))
    for _ in range(repeats):
        for side, answer in sides.items():
            first[side] = min(first[side], seconds(lambda a=answer: a(1), device))
            whole[side] = min(whole[side], seconds(lambda a=answer: a(tokens), device))
    return {side: (answers[side], max(whole[side] - first[side], 1e-9) / (tokens - 1), whole[side]) for side in sides}


def ours(runner: Runner, prompts: list, never: list[int], limit: int, share: int) -> list[list[int]]:
    return [list(c.ids) for c in generate(runner, prompts, never, limit, len(prompts), share)]


def theirs(model, prompts: list, never: list[int], limit: int) -> list[list[int]]:
    width, device = max(map(len, prompts)), model.device
    ids, mask = (torch.zeros(len(prompts), width, dtype=torch.long) for _ in range(2))
    for i, prompt in enumerate(prompts):
        ids[i, width - len(prompt) :] = torch.tensor(prompt)
        mask[i, width - len(prompt) :] = 1
    out = model.generate(
        ids.to(device), attention_mask=mask.to(device), do_sample=False, max_new_tokens=limit, eos_token_id=never,
        pad_token_id=0,
    )  # fmt: skip
    return out[:, width:].tolist()


if __name__ == "__main__":
    main()
