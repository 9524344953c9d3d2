"""Rates of this machine for the cost model: a minute of forward, backward and decoding passes of the study's model.

    make calibrate CONFIG=my-study.yaml        # writes results/cost_rates.json, which make plan-cost then reads

Runs the model of the study if it has been fetched, else random weights of the same shape. Run it on the device that the study
will run on, in a job of its own (--clock cpu counts the processor's time of one thread, for a machine that does other things too).
Operations a second are those that more rows add to a pass that is long already, bandwidth that of a matrix far larger than the cache. A
rate above what the card is published to have (workflow/pipeline/costs/peaks.py) is an error, and is not written.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from statistics import median

import psutil
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "workflow")]

from pipeline.config_file import read_config  # noqa: E402
from pipeline.costs.peaks import PEAKS, above_peak  # noqa: E402
from pipeline.costs.rates import MEASURED_HERE  # noqa: E402
from pipeline.costs.shapes import BYTES, Shape, fetched, shape_of  # noqa: E402

from safety_geometry.models.key_values import SlotKeyValues  # noqa: E402
from safety_geometry.models.loading import DTYPES, add_lora, configure, load_model  # noqa: E402
from safety_geometry.models.runner import Runner  # noqa: E402
from safety_geometry.models.tiny import random_llama  # noqa: E402

LAYOUT = {"cpu": {"rows": 16, "tokens": 32, "decoding": 40}, "cuda": {"rows": 64, "tokens": 64, "decoding": 64}}
ADAPTED = ["q_proj", "k_proj", "v_proj", "o_proj"]
LARGE = 4e9  # bytes: a random model of more is not written to the disk to be read again
DISK = 1e9  # bytes a second that such a model is taken to be read at
LEAST_BUFFER = {"cpu": 256e6, "cuda": 4e9}  # bytes; more where the cache is large
CACHES = 32  # a buffer is so many caches
WIDE = 4096  # columns of a matrix
LONG = 4  # a pass is long when it takes so many times what one token takes
MOST_GROWN = 64  # times the rows of LAYOUT


def main() -> None:
    options = arguments()
    config = read_config(Path(options.configfile))
    settings = config["model"]
    device = torch.device(options.device or settings["device"])
    configure(settings["threads"], deterministic=False)
    folder = ROOT / "results" / config["study"] / "models" / "base"
    shape = shape_of(settings, config["sources"].get(settings["source"]), folder)
    print(f"{settings['name']}: {shape.describe()}, on {named(device)}, {settings['dtype']}", flush=True)
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    measured = measure(shape, folder, settings["dtype"], device, options.seconds, clock)
    entry = {
        "name": options.name or named(device), "kind": device.type, "measured": True, "dtype": settings["dtype"],
        "threads": settings["threads"], "model": settings["name"], "clock": options.clock, "torch": torch.__version__,
        "when": date.today().isoformat(), "card": named(device),
        "tf32": torch.get_float32_matmul_precision() != "highest", **measured,
    }  # fmt: skip
    if device.type == "cuda":
        entry["memory_gb"] = round(torch.cuda.get_device_properties(device).total_memory / 1e9, 1)
    for key, unit, scale in (("forward", "GFLOP/s", 1e9), ("train", "GFLOP/s", 1e9), ("decode", "GFLOP/s", 1e9),
                             ("bandwidth", "GB/s", 1e9), ("launch", "ms a block", 1e-3), ("start", "s", 1), ("load", "GB/s", 1e9)):  # fmt: skip
        told = " (assumed: the model is not fetched, and too large to write)" if key in entry["assumed"] else ""
        print(f"{key:>10} {entry[key] / scale:10.3f} {unit}{told}")
    if faults := above_peak(entry["card"], entry["dtype"], entry, entry["tf32"]):
        raise SystemExit(
            f"error: {'; '.join(faults)}. Nothing is written: this is a fault of the measurement; report it"
        )
    if entry["card"] not in PEAKS:
        print(f"no published peak of {entry['card']} is known here (costs/peaks.py): the rates are not checked")
    path = options.json or ROOT / MEASURED_HERE
    before = json.loads(path.read_text(encoding="utf-8"))["devices"] if path.exists() else []
    path.parent.mkdir(parents=True, exist_ok=True)
    devices = [entry, *(e for e in before if e["name"] != entry["name"])]
    path.write_text(json.dumps({"devices": devices}, indent=1) + "\n", encoding="utf-8")
    print(f"written to {path}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configfile", default="config.yaml")
    parser.add_argument("--device", help="instead of model.device")
    parser.add_argument("--name", help="of the device, in the file; default: what torch calls it")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--json", type=Path, help="file to write instead of results/cost_rates.json")
    options = parser.parse_args()
    if options.clock == "cpu" and (options.device or "cpu") != "cpu":
        parser.error("--clock cpu says nothing about a GPU")
    return options


def named(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def measure(
    shape: Shape, folder: Path, dtype: str, device: torch.device, seconds: float, clock: Callable[[], float]
) -> dict[str, float | list[str]]:  # fmt: skip
    """All rates of costs.rates.Rates, and which of them are `assumed`. A pass costs L · (launch + weights of a block / bandwidth) + FLOP / rate."""
    start = min(start_seconds(clock) for _ in range(2))
    here = fetched(folder) is not None
    model, load = loaded(folder, shape, dtype, device, clock) if here else made(shape, dtype, device, clock)
    runner, layout = Runner(model), LAYOUT[device.type]
    timed = Timer(device, seconds, clock)
    each = 2 * shape.layers * shape.block

    small = Runner(
        random_model(
            replace(shape, hidden=64, intermediate=64, heads=1, kv_heads=1, head_dim=64, vocabulary=64), dtype, device
        )
    )
    launch = timed(step(small, 1)) / shape.layers
    one, many = timed(step(runner, 1)), timed(step(runner, layout["decoding"]))
    bandwidth = stream_bandwidth(dtype, device, timed)

    def ids(rows: int) -> torch.Tensor:
        return torch.arange(rows * layout["tokens"], device=device).reshape(rows, -1) % shape.vocabulary

    @torch.inference_mode()
    def passes(rows: int) -> None:
        runner.blocks(runner.embed(ids(rows)))

    forward = each * layout["tokens"] * rows_a_second(passes, layout["rows"], one, timed)
    decode = min(forward, (layout["decoding"] - 1) * each / max(many - one, 0.01 * many))

    adapted = add_lora(model, 64, 16, 0.0, ADAPTED, 0)
    parameters = [p for p in adapted.parameters() if p.requires_grad]

    def both(rows: int) -> None:
        runner.blocks(runner.embed(ids(rows))).float().pow(2).mean().backward()
        for p in parameters:
            p.grad = None

    train = 2 * each * layout["tokens"] * rows_a_second(both, max(2, layout["rows"] // 2), 3 * one, timed)
    rates = {
        "forward": forward,
        "train": train,
        "decode": decode,
        "bandwidth": bandwidth,
        "launch": launch,
        "start": start,
        "load": load or DISK,
    }
    return {key: float(f"{value:.4g}") for key, value in rates.items()} | {"assumed": [] if load else ["load"]}


def rows_a_second(action: Callable[[int], None], rows: int, short: float, timed: "Timer") -> float:
    """Rows that a second more of a pass takes: rows are doubled until a pass is LONG times the `short` one (else its time
    is that of its kernels' launches, and more rows seem to cost nothing), or until memory ends."""
    before, most = timed(lambda: action(rows)), MOST_GROWN * rows
    while True:
        try:
            took = timed(lambda: action(2 * rows))  # noqa: B023
        except torch.OutOfMemoryError:
            return rows / before
        if before >= LONG * short or 2 * rows >= most:
            return rows / max(took - before, 0.4 * took)  # at most 1.25 times the rate of the whole pass
        rows, before = 2 * rows, took


def stream_bandwidth(dtype: str, device: torch.device, timed: "Timer") -> float:
    """Bytes a second of a matrix-vector product, whose matrix is read once: what a step of decoding does with weights."""
    rows = int(beyond_the_cache(device) / (WIDE * BYTES[dtype]))
    matrix, vector = (torch.ones(*size, dtype=DTYPES[dtype], device=device) for size in ((rows, WIDE), (WIDE,)))
    return rows * WIDE * BYTES[dtype] / timed(lambda: torch.mv(matrix, vector))


def beyond_the_cache(device: torch.device) -> float:
    """Bytes of a buffer that no cache holds a notable part of; not more than half of the memory that is free."""
    if device.type == "cuda":
        cache, free = torch.cuda.get_device_properties(device).L2_cache_size, torch.cuda.mem_get_info(device)[0]
    else:
        cache, free = last_cache(), psutil.virtual_memory().available
    return min(max(LEAST_BUFFER[device.type], CACHES * cache), free / 2)


def last_cache(folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int:
    """Bytes of the last cache of the first core; 0 where Linux does not tell."""
    units = {"K": 2**10, "M": 2**20}
    sizes = [file.read_text(encoding="utf-8").strip() for file in folder.glob("index*/size")]
    return max((int(size[:-1]) * units[size[-1]] for size in sizes if size[-1:] in units), default=0)


class Timer:
    """Median of the times of an action, repeated for a while after one time that does not count."""

    def __init__(self, device: torch.device, seconds: float, clock: Callable[[], float]):
        self.device, self.seconds, self.clock = device, seconds, clock

    def __call__(self, action: Callable[[], object]) -> float:
        self.once(action)
        found: list[float] = []
        while sum(found) < self.seconds or len(found) < 3:
            found.append(self.once(action))
        return median(found)

    def once(self, action: Callable[[], object]) -> float:
        began = self.clock()
        action()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self.clock() - began


def step(runner: Runner, rows: int, past: int = 48) -> Callable[[], None]:
    """A step of decoding after `past` tokens, without its logits."""
    cache = SlotKeyValues(past + 1)
    with torch.inference_mode():
        runner.blocks(runner.embed(torch.zeros(rows, past, dtype=torch.long, device=runner.device)), cache=cache)
    ids = torch.zeros(rows, 1, dtype=torch.long, device=runner.device)

    def again() -> None:
        cache.offset = past
        with torch.inference_mode():
            runner.blocks(runner.embed(ids), cache=cache, past=past)

    return again


def start_seconds(clock: Callable[[], float]) -> float:
    """A Python with what a job imports."""
    children, began = os.times(), time.perf_counter()
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", "import torch, transformers, peft; from transformers import AutoModelForCausalLM"]
    subprocess.run(command, check=True, env=environment)
    after = os.times()
    if clock is time.process_time:
        return after.children_user + after.children_system - children.children_user - children.children_system
    return time.perf_counter() - began


def loaded(
    folder: Path, shape: Shape, dtype: str, device: torch.device, clock: Callable[[], float]
) -> tuple[torch.nn.Module, float]:
    """The model and the bytes a second at which it was read."""
    began = clock()
    model = load_model(folder, dtype, str(device))
    return model, shape.parameters * BYTES[dtype] / (clock() - began)


def made(
    shape: Shape, dtype: str, device: torch.device, clock: Callable[[], float]
) -> tuple[torch.nn.Module, float | None]:
    """A random model of the shape; it is written and read once, unless it is large: then the rate is None."""
    model, size = random_model(shape, dtype, device), shape.parameters * BYTES[dtype]
    if size > LARGE:
        return model, None
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return loaded(Path(folder), shape, dtype, device, clock)


def random_model(shape: Shape, dtype: str, device: torch.device) -> torch.nn.Module:
    from transformers import LlamaConfig

    config = LlamaConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim, tie_word_embeddings=shape.tied, dtype=DTYPES[dtype],
    )  # fmt: skip
    return random_llama(config, 0, device)


if __name__ == "__main__":
    main()
