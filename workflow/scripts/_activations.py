"""Reads activation caches and candidate scores without loading them: a memory map per tensor, slices on demand.

numpy has no bfloat16, and safetensors.numpy refuses it; here a bfloat16 is widened to float32 by shifting its bits.
"""

import json
from pathlib import Path

import numpy as np
from _job import JobError
from safetensors import SafetensorError, safe_open

from safety_geometry.carriers import CandidateScores, Position

DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2", "I32": "<i4", "I64": "<i8", "U8": "u1"}


class Tensors:
    """A safetensors file: `metadata`, and `tensors[name]` as a lazily read array of its stored type."""

    def __init__(self, path: Path):
        """Raises JobError when the file is none of safetensors, or is cut off."""
        self.path = path
        try:
            # Reads the header alone, and checks that the tensors fill the file: neither a byte less nor one more.
            with safe_open(path, "np") as file:
                self.metadata: dict[str, str] = file.metadata() or {}
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                self._entries = json.loads(file.read(length))
        except (SafetensorError, OSError, ValueError) as error:
            raise JobError(
                f"{path} is not a safetensors file, or is cut off ({error}); delete it and run its rule again"
            ) from error
        self._entries.pop("__metadata__", None)
        self._start = 8 + length

    @property
    def empty(self) -> bool:
        return not self._entries

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> np.ndarray:
        entry = self._entries.get(name)
        if entry is None:
            raise JobError(f"{self.path} holds no tensor {name!r}; it has {', '.join(sorted(self._entries))}")
        if entry["dtype"] not in DTYPES:
            raise JobError(f"{self.path}: {name} is {entry['dtype']}; expected one of {', '.join(DTYPES)}")
        offset = self._start + entry["data_offsets"][0]
        return np.memmap(self.path, DTYPES[entry["dtype"]], "r", offset, tuple(entry["shape"]))

    def read(self, name: str, index=...) -> np.ndarray:
        """A slice in memory: integers as they are, floats as float32 or float64. Raises JobError on NaN or infinity."""
        values = np.asarray(self[name][index])
        if self._entries[name]["dtype"] == "BF16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        elif values.dtype == np.float16:
            values = values.astype(np.float32)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise JobError(f"{self.path}: {name} holds NaN or infinity; cache the activations in a wider dtype")
        return values

    def describe(self, key: str) -> object:
        if key not in self.metadata:
            raise JobError(
                f"{self.path} has no {key!r} in its metadata; it was made by an older version: run its rule again"
            )
        try:
            return json.loads(self.metadata[key])
        except ValueError as error:
            raise JobError(f"{self.path}: {key!r} in its metadata is damaged; run its rule again") from error


class Activations:
    """Activation cache of one checkpoint; positions are named as in the configuration (-1, "t_inst").

    A save without a name may hold its means only (`per_prompt` is False), and the validation prompts at one position.
    """

    def __init__(self, path: Path):
        self.file = Tensors(path)
        self.positions: list[Position] = self.file.describe("positions")
        shape = self.file["mean.harmful"].shape
        if len(shape) != 3 or shape[0] != len(self.positions):
            raise JobError(f"{path}: mean.harmful has shape {shape}, but {len(self.positions)} positions are listed")
        self.n_layers = shape[1] - 1

    @property
    def per_prompt(self) -> bool:
        return "fit.harmful" in self.file

    def index(self, position: Position) -> int:
        if position not in self.positions:
            raise JobError(f"{self.file.path} has no position {position!r}; it has {self.positions}")
        return self.positions.index(position)

    @property
    def n_fit(self) -> tuple[int, int]:
        """Number of harmful and of benign fit prompts."""
        return len(self.file["fit.harmful"]), len(self.file["fit.benign"])

    def mean(self, label: str) -> np.ndarray:
        """[P, L+1, d] of `label` harmful or benign, all positions and layers."""
        return self.file.read(f"mean.{label}")

    def fit(self, position: Position, layer: int) -> tuple[np.ndarray, int]:
        """[N, d] float64 at one site, harmful prompts first, and how many of them are harmful."""
        site = np.s_[:, self.index(position), layer]
        harmful, benign = (self.file.read(f"fit.{label}", site) for label in ("harmful", "benign"))
        return np.concatenate([harmful, benign]).astype(np.float64), len(harmful)

    def refused(self) -> np.ndarray | None:
        """[N] bool of the fit prompts, harmful first: what the refusal carrier contrasts; None: harmful and benign prompts."""
        names = [f"refused.{label}" for label in ("harmful", "benign")]
        if names[0] not in self.file:
            return None
        return np.concatenate([self.file.read(name) for name in names]).astype(bool)

    def r_classes(self) -> tuple[str, str] | None:
        """The two classes whose means the refusal carrier is made of; None where one has too few prompts."""
        if self.refused() is None:
            return "harmful", "benign"
        return ("refused", "complied") if "mean.refused" in self.file else None

    def select(self, label: str, position: Position) -> np.ndarray:
        """[n, L, d]: the block inputs of the validation prompts at one position."""
        whole = f"select.{label}"
        if whole in self.file:
            return self.file.read(whole, np.s_[:, self.index(position), : self.n_layers])
        return self.file.read(f"{whole}.{position}", np.s_[:, : self.n_layers])


def read_scores(path: Path) -> CandidateScores | None:
    """Candidate scores of one anchor, None where there is no candidate. Raises JobError when a tensor is missing or misshapen."""
    file = Tensors(path)
    if file.empty:
        return None
    names = [name for name in CandidateScores.__dataclass_fields__ if name != "n_layers"]
    try:
        return CandidateScores(**{name: file.read(name) for name in names}, n_layers=int(file.describe("n_layers")))
    except ValueError as error:
        raise JobError(f"{path}: {error}") from error
