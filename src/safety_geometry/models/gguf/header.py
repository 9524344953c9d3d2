"""The header of a GGUF file: its settings, and where each tensor lies.

Every count and length is held against the size of the file before it is believed, so that a damaged or hostile header
costs no time and no memory. Format: version 2 and 3, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from safety_geometry.models.configuration import ModelError

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
MOST_ITEMS = 2**22  # settings, tensors, or entries of a list; the longest vocabularies have 2**18 tokens
MOST_DIMENSIONS = 4
TOO_MANY = "its header names {} {}, more than the file can hold or than any model has: was the download complete?"


@dataclass(frozen=True)
class TensorPlace:
    """shape: as torch has it, the slowest axis first. kind: number of the storage type (F32 is 0). start, size: bytes
    in the file."""

    shape: tuple[int, ...]
    kind: int
    start: int
    size: int


@dataclass(frozen=True)
class Header:
    path: Path
    settings: dict[str, Any]
    tensors: dict[str, TensorPlace]

    def get(self, key: str, kind: type | tuple[type, ...], default=None):
        """A setting of a type. Raises ModelError when it is of another."""
        value = self.settings.get(key, default)
        wanted = kind if isinstance(kind, tuple) else (kind,)
        if value is not None and (not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted)):
            raise ModelError(f"{key} is a {type(value).__name__}, and has to be of type {wanted[0].__name__}")
        return value


class _Cursor:
    """Reads on from a place in the file; never beyond its end."""

    def __init__(self, data: mmap.mmap):
        self.data, self.place = data, 0

    def skip(self, size: int) -> int:
        """Where the next `size` bytes begin."""
        if size > len(self.data) - self.place:
            raise ModelError(f"its header goes beyond the file's {len(self.data)} bytes: was the download complete?")
        start, self.place = self.place, self.place + size
        return start

    def number(self, code: str):
        return struct.unpack_from("<" + code, self.data, self.skip(struct.calcsize(code)))[0]

    def count(self, what: str, at_least: int, limit: int = MOST_ITEMS) -> int:
        """A number of things of at least so many bytes each."""
        n = self.number("Q")
        if n > limit or n * at_least > len(self.data) - self.place:
            raise ModelError(TOO_MANY.format(n, what))
        return n

    def text(self) -> str:
        size = self.number("Q")
        start = self.skip(size)
        return self.data[start : start + size].decode("utf-8", errors="surrogateescape")

    def value(self, kind: int):
        if kind == STRING:
            return self.text()
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind != ARRAY:
            raise ModelError(f"its header has a value of type {kind}, which GGUF does not know")
        item = self.number("I")
        if item == STRING:
            return [self.text() for _ in range(self.count("strings in a list", 8))]
        if item not in SCALARS:
            raise ModelError(f"its header has a list of values of type {item}, which is not read")
        code = "?" if SCALARS[item] == "?" else "<" + SCALARS[item]
        n = self.count("values in a list", struct.calcsize(code))
        return np.frombuffer(self.data, code, n, self.skip(n * struct.calcsize(code))).tolist()


def read_header(file: Path) -> Header:
    """The header of a GGUF file of one part.

    Raises:
        ModelError: it is no GGUF file, of another version, damaged, one part of several, or goes beyond the file.
    """
    if file.stat().st_size < 24:
        raise ModelError("it is not a GGUF file: was the download complete?")
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:4] != b"GGUF":
            raise ModelError("it is not a GGUF file: was the download complete?")
        cursor = _Cursor(data)
        cursor.skip(4)
        version = cursor.number("I")
        if version not in (2, 3):
            raise ModelError(f"it is of GGUF version {version}; versions 2 and 3 are read (little-endian)")
        n_tensors, n_settings = cursor.count("tensors", 0), cursor.count("settings", 13)
        settings: dict[str, Any] = {}
        for _ in range(n_settings):
            key = cursor.text()
            if key in settings:
                raise ModelError(f"its header has {key} twice")
            settings[key] = cursor.value(cursor.number("I"))
        header = Header(file, settings, {})
        if (parts := header.get("split.count", int, 1)) > 1:
            raise ModelError(f"it is one of {parts} parts; merge them into one file first (llama-gguf-split --merge)")
        header.tensors.update(_places(cursor, n_tensors, header.get("general.alignment", int, 32)))
    return header


def _places(cursor: _Cursor, count: int, alignment: int) -> dict[str, TensorPlace]:
    from gguf.constants import GGML_QUANT_SIZES

    if alignment < 1 or alignment & (alignment - 1):
        raise ModelError(f"general.alignment is {alignment}, and has to be a power of two")
    if count * 32 > len(cursor.data) - cursor.place:
        raise ModelError(TOO_MANY.format(count, "tensors"))
    listed = []
    for _ in range(count):
        name, axes = cursor.text(), cursor.number("I")
        if axes > MOST_DIMENSIONS:
            raise ModelError(f"tensor {name} has {axes} dimensions, and at most {MOST_DIMENSIONS} are possible")
        shape = tuple(cursor.number("Q") for _ in range(axes))[::-1]
        listed.append((name, shape, cursor.number("I"), cursor.number("Q")))
    begin = -(-cursor.place // alignment) * alignment
    places = {}
    for name, shape, kind, offset in listed:
        if name in places:
            raise ModelError(f"its header has tensor {name} twice")
        if kind not in GGML_QUANT_SIZES:
            raise ModelError(f"tensor {name} is of storage type {kind}, which is not known")
        block, stored = GGML_QUANT_SIZES[kind]
        if not shape or min(shape) < 1 or shape[-1] % block:
            raise ModelError(f"tensor {name} has shape {list(shape)}, which its storage type does not have")
        size = math.prod(shape) // block * stored
        if begin + offset + size > len(cursor.data):
            raise ModelError(f"tensor {name} {list(shape)} goes beyond the end of the file: was the download complete?")
        places[name] = TensorPlace(shape, kind, begin + offset, size)
    return places
