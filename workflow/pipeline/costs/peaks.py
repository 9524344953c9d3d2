"""Published peaks of GPUs, and which measured rates lie above them: such a rate is a fault of the measurement.

Maker's data sheets, without sparsity, at boost clocks. A GPU that is not listed has no peak to be held against.
"""

from collections.abc import Mapping
from dataclasses import dataclass

RATES = ("forward", "train", "decode")  # of the rates of a device those that are operations a second
TFLOP, GB = 1e12, 1e9


@dataclass(frozen=True)
class Peak:
    """Of one GPU. half: TFLOP/s of bfloat16 and float16; single: of float32; bandwidth: GB/s of its memory."""

    half: float
    single: float
    bandwidth: float

    def matrix(self, dtype: str, tf32: bool = False) -> float:
        """FLOP/s of matrix products in `dtype`; of float32 with TensorFloat-32, half the rate of bfloat16, where torch
        was told to use it."""
        return TFLOP * (self.half if dtype != "float32" else self.half / 2 if tf32 else self.single)


# By a card's name, as torch tells it.
PEAKS = {
    "NVIDIA H200": Peak(989, 67, 4800),
    "NVIDIA H100 80GB HBM3": Peak(989, 67, 3350),
    "NVIDIA A100-SXM4-80GB": Peak(312, 19.5, 2039),
}


def above_peak(card: str, dtype: str, rates: Mapping[str, float], tf32: bool = False) -> list[str]:
    """A sentence for each rate (FLOP/s, bytes/s) that the card cannot have; none for a card that is not listed."""
    if card not in PEAKS:
        return []
    peak = PEAKS[card]
    limits = {
        **dict.fromkeys(RATES, (peak.matrix(dtype, tf32), TFLOP, "TFLOP/s")),
        "bandwidth": (peak.bandwidth * GB, GB, "GB/s"),
    }
    return [
        f"{name} is {rates[name] / unit:.0f} {words}, and a {card} has {limit / unit:.0f} at the most"
        f"{f' in {dtype}' if name in RATES else ''}"
        for name, (limit, unit, words) in limits.items()
        if name in rates and rates[name] > limit
    ]
