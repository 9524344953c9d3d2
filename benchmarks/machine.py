"""What the benchmarks share: clocks that wait for a GPU, the rate of matrix products, random models of a known shape, a table."""

import csv
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT / "workflow") not in sys.path:
    sys.path.append(str(ROOT / "workflow"))

from pipeline.costs.shapes import KNOWN  # noqa: E402

from safety_geometry.models.runner import Runner  # noqa: E402

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
ROWS = {"cpu": 256, "cuda": 16384}  # tokens of the matrix products that are timed
DRAWN_FROM = ("benign_instructions", "benign_chat")  # texts of data/ that a random model's tokenizer is made from


def wait(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def clock_of(device: torch.device, name: str = "wall") -> Callable[[], float]:
    """Seconds of a clock of CLOCKS at which the device has done what it was told."""

    def now() -> float:
        wait(device)
        return CLOCKS[name]()

    if device.type == "cuda" and name == "cpu":
        sys.exit("error: --clock cpu does not count what a GPU does; use --clock wall")
    return now


def named(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def seconds(action: Callable[[], object], device: torch.device) -> float:
    """Wall time of an action, to the end of what it started on the device."""
    now = clock_of(device)
    began = now()
    action()
    return now() - began


@torch.inference_mode()
def matrix_rate(runner: Runner, now: Callable[[], float] | None = None) -> float:
    """Operations a second of products [tokens, d] · [d, w] in the shapes of the model's blocks, the best of a few; now: a
    clock of `clock_of`, wall time unless given."""
    now, best, tokens = now or clock_of(runner.device), 0.0, ROWS[runner.device.type]
    kind = {"dtype": runner.dtype, "device": runner.device}
    for wide in (runner.d, runner.config.intermediate_size):
        a, b = torch.randn(tokens, runner.d, **kind), torch.randn(runner.d, wide, **kind)
        for _ in range(5):
            began = now()
            for _ in range(10):
                a @ b
            best = max(best, 10 * 2 * tokens * runner.d * wide / (now() - began))
    return best


def operations(runner: Runner) -> tuple[float, float]:
    """Of one token through all blocks, attention scores not counted, and of the logits after it."""
    blocks = sum(p.numel() for block in runner.layers for p in block.parameters() if p.ndim == 2)
    return 2.0 * blocks, 2.0 * runner.body.embed_tokens.weight.numel()


def random_model(name: str, dtype: str, device: str, work: Path) -> Path:
    """A folder with random weights of a known model's shape (costs/shapes.py) and a tokenizer of this project's texts, made
    on the device where it is missing. Its losses say nothing; what it costs is what the model costs."""
    from safety_geometry.models.tiny import write_tiny_model

    if name not in KNOWN:
        sys.exit(f"error: --shape {name}: there is no such shape; there are {', '.join(KNOWN)}")
    shape, folder = KNOWN[name], work / f"{name}-{dtype}"
    if shape.head_dim * shape.heads != shape.hidden or shape.tied:
        sys.exit(
            f"error: --shape {name}: its heads or its tied head are not those of the random model; take mistral-7b"
        )
    if not (folder / ".done").exists():
        print(f"making random weights of {name}'s shape in {folder}", flush=True)
        lines = [line for file in DRAWN_FROM for line in (ROOT / f"data/{file}.jsonl").read_text("utf-8").splitlines()]
        texts = [json.dumps(json.loads(line)) for line in lines] + ["system\nuser\nassistant\n ! x a"] * 2000
        folder.mkdir(parents=True, exist_ok=True)
        write_tiny_model(
            folder, texts, seed=0, vocabulary=shape.vocabulary, hidden=shape.hidden, layers=shape.layers, heads=shape.heads,
            intermediate=shape.intermediate, kv_heads=shape.kv_heads, context=4096, deviation=0.02, dtype=dtype, device=device,
        )  # fmt: skip
        (folder / ".done").touch()
    return folder


def numbers(text: str) -> list[int]:
    """`1,2,8` of a command line."""
    return [int(part) for part in text.split(",")]


def write_json(result: dict, path: Path | None) -> None:
    """As JSON, where a path is given."""
    if path is not None:
        path.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def show(rows: Sequence[dict], path: Path | None) -> None:
    """A table, printed and, with a path, as CSV; a row lacks what it does not have."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([_text(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    print("\n" + "\n".join("  ".join(text.rjust(w) for text, w in zip(line, widths, strict=True)) for line in cells))
    if path is not None:
        with path.open("w", newline="", encoding="utf-8") as out:
            table = csv.DictWriter(out, names, lineterminator="\n")
            table.writeheader()
            table.writerows([{k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows])


def _text(value: object) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
