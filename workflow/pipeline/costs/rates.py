"""How fast a device is, and how long a piece of work takes on it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from pipeline.costs.peaks import above_peak
from pipeline.costs.shapes import Shape

MEASURED_HERE = Path("results/cost_rates.json")  # what `make calibrate` writes; comes before the committed file
COMMITTED = Path("docs/results/cost_rates.json")


class RatesError(SystemExit):
    """No usable rates. Ends the program with a message."""


@dataclass(frozen=True)
class Rates:
    """Of one job on one device.

    forward, train, decode: FLOP/s of long passes, of passes with their backward passes, and of what a further row adds
    to a step of decoding. bandwidth: bytes/s of weights that a pass reads. launch: seconds that a pass costs per block,
    however short. start: seconds of a Python start with its imports. load: bytes/s of weights from the disk. measured:
    false for devices that only published peaks are known of; assumed: rates of a measured device that were not
    measured.
    """

    name: str
    kind: str
    measured: bool
    forward: float
    train: float
    decode: float
    bandwidth: float
    launch: float
    start: float
    load: float
    memory_gb: float | None = None
    assumed: Sequence[str] = ()

    @property
    def hours(self) -> str:
        return "GPU-hours" if self.kind == "cuda" else "CPU-hours"


def read_rates(device: str, root: Path, name: str | None = None, files: Sequence[Path] | None = None) -> Rates:
    """Rates for `model.device`: the first of its kind that was measured here, or else is committed; or those of `name`.

    Raises RatesError when there are none, or when one is above what the card is published to have.
    """
    kind = device.split(":")[0]
    entries = [
        entry
        for path in files or (root / MEASURED_HERE, root / COMMITTED)
        if path.exists()
        for entry in json.loads(path.read_text(encoding="utf-8"))["devices"]
    ]
    matching = [e for e in entries if (e["name"] == name if name else e["kind"] == kind)]
    if not matching:
        names = ", ".join(sorted({e["name"] for e in entries})) or "none"
        raise RatesError(
            f"error: no rates for {name or f'a device of kind {kind}'}; known are {names}; measure yours with make"
            " calibrate"
        )
    entry = matching[0]
    card = entry.get("card", entry["name"])
    if faults := above_peak(card, entry.get("dtype", "bfloat16"), entry, entry.get("tf32", False)):
        raise RatesError(f"error: the rates of {entry['name']} are wrong: {'; '.join(faults)}; make calibrate again")
    known = {field.name for field in fields(Rates)}
    return Rates(**{key: value for key, value in entry.items() if key in known})


class Work:
    """Adds up what a job computes, in FLOP, passes and bytes."""

    def __init__(self, shape: Shape, size: int, loads: int = 1):
        """size: bytes of a parameter; loads: how often the model is read."""
        self.shape, self.size = shape, size
        self.forward_flop = self.train_flop = self.decode_flop = 0.0
        self.passes = self.seconds_besides = 0.0
        self.bytes_loaded = loads * shape.parameters * size

    def flop(self, tokens: float, share: float = 1.0, logits: float = 0.0) -> float:
        """Of `tokens` through a share of the blocks and `logits` rows of next-token logits; attention itself is left
        out."""
        return 2 * (tokens * share * self.shape.layers * self.shape.block + logits * self.shape.head)

    def forward(self, tokens: float, passes: float = 1, share: float = 1.0, logits: float = 0.0) -> None:
        self.forward_flop += self.flop(tokens, share, logits)
        self.passes += passes * share

    def train(self, tokens: float, passes: float = 1, logits: float = 0.0) -> None:
        """Forward and backward with frozen weights: the backward pass costs about as much as the forward one."""
        self.train_flop += 2 * self.flop(tokens, logits=logits)
        self.passes += 2 * passes

    def answers(self, rows: float, prompt: float, limit: float, batch: int, answered: float = 1.0) -> None:
        """Greedy answers of up to `limit` tokens, of which `answered` are used, to `rows` prompts."""
        batches = -(-rows // batch) if rows else 0
        self.forward(rows * prompt, batches, logits=rows)
        self.decode_flop += self.flop(rows * limit * answered, logits=rows * limit * answered)
        self.passes += batches * limit

    def seconds(self, rates: Rates) -> float:
        weights = self.shape.layers * self.shape.block * self.size
        return (
            rates.start
            + self.seconds_besides
            + self.bytes_loaded / rates.load
            + self.forward_flop / rates.forward
            + self.train_flop / rates.train
            + self.decode_flop / rates.decode
            + self.passes * (self.shape.layers * rates.launch + weights / rates.bandwidth)
        )
