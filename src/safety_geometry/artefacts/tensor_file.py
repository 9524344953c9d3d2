"""Safetensors files that are larger than what should be in memory: written row by row, read slice by slice.

The reader goes by the file's header itself: safetensors' own slices know no bfloat16 where there is no torch, and the analysis has
none. Here a bfloat16 is widened to float32 by shifting its bits.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open

from safety_geometry.artefacts.errors import ArtefactError

if TYPE_CHECKING:
    from torch import Tensor

# Names of the format and bytes of a number, by torch's name, in the order in which the format puts types.
WRITTEN = {"float32": ("F32", 4), "bfloat16": ("BF16", 2), "float16": ("F16", 2), "uint8": ("U8", 1)}
READ = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2", "I32": "<i4", "I64": "<i8", "U8": "u1"}
Shapes = Mapping[str, tuple[str, tuple[int, ...]]]  # type (as torch calls it) and shape by name


class TensorFile:
    """Context manager: writes the header at once, the tensors as they come, and checks at the end that none is missing.

    The file is byte for byte what safetensors' `save_file` makes of the same tensors.
    """

    def __init__(self, path: Path, shapes: Shapes, metadata: Mapping[str, str]):
        """`metadata`: one entry at the most; the format leaves the order of several open."""
        if len(metadata) > 1:
            raise ValueError(f"one entry of metadata is kept, not {sorted(metadata)}")
        self.path, self.shapes = path, dict(shapes)
        self.missing = {name: set(range(shape[0])) for name, (_, shape) in shapes.items()}
        order = sorted(shapes, key=lambda name: (list(WRITTEN).index(shapes[name][0]), name))
        header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
        self._starts, end = {}, 0
        for name in order:
            dtype, shape = shapes[name]
            code, width = WRITTEN[dtype]
            self._starts[name], begin = end, end
            end += width * math.prod(shape)
            header[name] = {"dtype": code, "shape": list(shape), "data_offsets": [begin, end]}
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        self._header = text + b" " * (-len(text) % 8)
        self._base = 8 + len(self._header)

    def __enter__(self) -> "TensorFile":
        self._file = self.path.open("wb")
        self._file.write(len(self._header).to_bytes(8, "little") + self._header)
        return self

    def write(self, name: str, values: "Tensor", rows: Sequence[int] | None = None) -> None:
        """Rows (None: all) of a tensor; values [rows, …] of any floating type are rounded to the file's.

        Raises:
            OverflowError: a value is not finite in the file's type.
        """
        import torch

        dtype, shape = self.shapes[name]
        rows = range(shape[0]) if rows is None else rows
        if values.shape != (len(rows), *shape[1:]):
            raise ValueError(f"{name}: values are {tuple(values.shape)}, expected {(len(rows), *shape[1:])}")
        stored = values.to(getattr(torch, dtype)).contiguous()
        if stored.is_floating_point() and not torch.isfinite(stored).all():
            raise OverflowError(f"{name} is not finite as {dtype}")
        size = WRITTEN[dtype][1] * math.prod(shape[1:])
        for row, value in zip(rows, stored, strict=True):
            self._file.seek(self._base + self._starts[name] + row * size)
            self._file.write(value.reshape(-1).view(torch.uint8).numpy().tobytes())
        self.missing[name] -= set(rows)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        lacking = sorted(name for name, rows in self.missing.items() if rows)
        if kind is None and lacking:
            raise ValueError(f"{self.path}: {len(self.missing[lacking[0]])} rows of {lacking[0]} were not written")


class Tensors:
    """A safetensors file: `metadata`, and its tensors as slices on demand, from a memory map."""

    def __init__(self, path: Path):
        """Raises ArtefactError when the file is none of safetensors, or is cut off."""
        self.path = path
        try:
            # Reads the header alone, and checks that the tensors fill the file: neither a byte less nor one more.
            with safe_open(path, "np") as file:
                self.metadata: dict[str, str] = file.metadata() or {}
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                self._entries = json.loads(file.read(length))
        except (SafetensorError, OSError, ValueError) as error:
            raise ArtefactError(
                f"{path} is not a safetensors file, or is cut off ({error}); delete it and run its rule again"
            ) from error
        self._entries.pop("__metadata__", None)
        self._start = 8 + length

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._entry(name)["shape"])

    def dtype(self, name: str) -> str:
        """As torch calls it, where this project writes it, else as the file does."""
        code = self._entry(name)["dtype"]
        return next((dtype for dtype, (written, _) in WRITTEN.items() if written == code), code)

    def check(self, name: str, *shape: int | None, floating: bool = True) -> None:
        """Raise ArtefactError unless a tensor has this shape (None: any length) and is of floats, or of whole numbers."""
        entry = self._entry(name)
        held = entry["shape"]
        fits = len(held) == len(shape) and all(n in (None, m) for n, m in zip(shape, held, strict=True))
        if not fits or (entry["dtype"] in ("F16", "F32", "F64", "BF16")) != floating:
            wanted = ", ".join("n" if n is None else str(n) for n in shape)
            raise ArtefactError(
                f"{self.path}: {name} has shape {tuple(held)} and type {entry['dtype']}, expected ({wanted}) of "
                f"{'floats' if floating else 'whole numbers'}; run its rule again"
            )

    def read(self, name: str, index=...) -> np.ndarray:
        """A slice in memory: integers as they are, floats as float32 or float64. Raises ArtefactError on NaN or infinity."""
        entry = self._entry(name)
        if entry["dtype"] not in READ:
            raise ArtefactError(f"{self.path}: {name} is {entry['dtype']}; expected one of {', '.join(READ)}")
        offset = self._start + entry["data_offsets"][0]
        stored = np.memmap(self.path, READ[entry["dtype"]], "r", offset, tuple(entry["shape"]))
        values = np.asarray(stored[index])
        if entry["dtype"] == "BF16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        elif values.dtype == np.float16:
            values = values.astype(np.float32)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ArtefactError(f"{self.path}: {name} holds NaN or infinity; cache the activations in a wider dtype")
        return values

    def describe(self, key: str) -> object:
        """An entry of the metadata, which is JSON."""
        if key not in self.metadata:
            raise ArtefactError(
                f"{self.path} has no {key!r} in its metadata; it was made by an older version: run its rule again"
            )
        try:
            return json.loads(self.metadata[key])
        except ValueError as error:
            raise ArtefactError(f"{self.path}: {key!r} in its metadata is damaged; run its rule again") from error

    def _entry(self, name: str) -> dict:
        if name not in self._entries:
            raise ArtefactError(f"{self.path} holds no tensor {name!r}; it has {', '.join(sorted(self._entries))}")
        return self._entries[name]
