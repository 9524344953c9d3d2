"""Seeds of random streams: a function of what a stream is for, the same on every platform and in every process."""

import hashlib
import json

import numpy as np


def derived_seed(*parts: object) -> int:
    """A 53-bit seed from any printable parts, by SHA-256: every reader of a table keeps all of its digits."""
    text = json.dumps([str(part) for part in parts])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 11


def generator(*parts: object) -> np.random.Generator:
    """The random stream of these parts: one that is added does not move another's draws."""
    return np.random.default_rng(derived_seed(*parts))
