"""A safetensors file that is written row by row, so that what it holds is never in memory as a whole."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

# Names of the format, in the order in which it puts types.
NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.uint8: "U8"}
Shapes = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]


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
        order = sorted(shapes, key=lambda name: (list(NAMES).index(shapes[name][0]), name))
        header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
        self._starts, end = {}, 0
        for name in order:
            dtype, shape = shapes[name]
            self._starts[name], begin = end, end
            end += dtype.itemsize * torch.Size(shape).numel()
            header[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        self._header = text + b" " * (-len(text) % 8)
        self._base = 8 + len(self._header)

    def __enter__(self) -> "TensorFile":
        self._file = self.path.open("wb")
        self._file.write(len(self._header).to_bytes(8, "little") + self._header)
        return self

    def write(self, name: str, values: Tensor, rows: Sequence[int] | None = None) -> None:
        """Rows (None: all) of a tensor; values [rows, …] of any floating type are rounded to the file's.

        Raises:
            OverflowError: a value is not finite in the file's type.
        """
        dtype, shape = self.shapes[name]
        rows = range(shape[0]) if rows is None else rows
        if values.shape != (len(rows), *shape[1:]):
            raise ValueError(f"{name}: values are {tuple(values.shape)}, expected {(len(rows), *shape[1:])}")
        stored = values.to(dtype).contiguous()
        if dtype.is_floating_point and not torch.isfinite(stored).all():
            raise OverflowError(f"{name} is not finite as {str(dtype).removeprefix('torch.')}")
        size = dtype.itemsize * torch.Size(shape[1:]).numel()
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
