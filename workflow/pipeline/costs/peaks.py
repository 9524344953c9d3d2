"""Published peaks of GPUs, and which measured rates lie above them: such a rate is a fault of the measurement.

Makers' data sheets, without sparsity, at boost clocks. A GPU that is not listed has no peak to be held against.
"""

from collections.abc import Mapping
from dataclasses import dataclass

RATES = ("forward", "train", "decode")  # of the rates of a device those that are operations a second
TFLOP, GB = 1e12, 1e9


@dataclass(frozen=True)
class Peak:
    """Of one GPU. half: TFLOP/s of bfloat16 (of float16 where it has no bfloat16); tf32, single: of float32 with and
    without TensorFloat-32 (tf32 0: it has none); bandwidth: GB/s of its memory."""

    half: float
    tf32: float
    single: float
    bandwidth: float

    def matrix(self, dtype: str, tf32: bool = False) -> float:
        """FLOP/s of matrix products in `dtype`; of float32 with TensorFloat-32 where torch was told to use it."""
        return TFLOP * (self.half if dtype != "float32" else (tf32 and self.tf32) or self.single)


# By words that a card's name, as torch tells it, has all of; the first entry that fits counts.
PEAKS = {
    ("H200", "NVL"): Peak(836, 418, 60, 4800),
    ("H200",): Peak(989.5, 494.7, 67, 4800),
    ("GH200",): Peak(989.5, 494.7, 67, 4900),
    ("H100", "PCIe"): Peak(756.5, 378, 51.2, 2039),
    ("H100", "NVL"): Peak(835.5, 417.5, 60, 3938),
    ("H100",): Peak(989.5, 494.7, 67, 3352),
    ("A100", "40GB"): Peak(312, 156, 19.5, 1555),
    ("A100",): Peak(312, 156, 19.5, 2039),
    ("L40S",): Peak(362.1, 183, 91.6, 864),
    ("L4",): Peak(121, 60, 30.3, 300),
    ("A40",): Peak(149.7, 74.8, 37.4, 696),
    ("A10",): Peak(125, 62.5, 31.2, 600),
    ("V100",): Peak(125, 0, 15.7, 900),
    ("T4",): Peak(65, 0, 8.1, 320),
}


def peak_of(card: str) -> Peak | None:
    """Of a GPU by its name (`NVIDIA H100 80GB HBM3`); None where it is not listed."""
    words = set(card.replace("-", " ").split())
    return next((peak for names, peak in PEAKS.items() if words.issuperset(names)), None)


def above_peak(card: str, dtype: str, rates: Mapping[str, float], tf32: bool = False) -> list[str]:
    """A sentence for each rate (FLOP/s, bytes/s) that the card cannot have; none for a card that is not listed."""
    peak = peak_of(card)
    if peak is None:
        return []
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
