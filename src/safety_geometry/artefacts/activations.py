"""Activation caches: the residual stream of a checkpoint at P positions, at the inputs of its L blocks and the output of the last.

Tensors: `fit.CLASS` and `select.CLASS` [n, P, L+1, d] of the fit and the validation prompts, CLASS harmful or benign, in the study's
type; `mean.CLASS` [P, L+1, d] of the fit prompts in float32. Where harmful and benign is not what the refusal carrier contrasts, also
`refused.CLASS` [n] uint8 (1: the checkpoint refuses the fit prompt), and `mean.refused` and `mean.complied` over all fit prompts,
unless one of these classes is too small. A cache of means is a twelfth of the size: no `fit.*`, and `select.CLASS.POSITION`
[n, L+1, d] at one position. Metadata: `positions`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from safety_geometry.artefacts.errors import ArtefactError
from safety_geometry.artefacts.tensor_file import TensorFile, Tensors
from safety_geometry.settings.identity import Position

if TYPE_CHECKING:
    from torch import Tensor

CLASSES = ("harmful", "benign")
SETS = ("fit_harmful", "fit_benign", "select_harmful", "select_benign")


class ActivationWriter(TensorFile):
    """Context manager: a cache whose prompts come batch by batch (`add`), and whose means and labels come at the end (`write`)."""

    def __init__(
        self, path: Path, positions: Sequence[Position], site: tuple[int, int, int], dtype: str, counts: Mapping[str, int],
        means: Iterable[str], labelled: bool = False, only: Position | None = None,
    ):  # fmt: skip
        """site: (P, L+1, d); counts: prompts of each of `SETS`; means: their classes; labelled: there are `refused.*`;
        only: the position of the validation prompts in a cache of means (None: everything is kept)."""
        self.only, self._column = only, None if only is None else list(positions).index(only)
        shapes = {f"mean.{kind}": ("float32", site) for kind in means}
        if labelled:
            shapes |= {f"refused.{label}": ("uint8", (counts[f"fit_{label}"],)) for label in CLASSES}
        for name in SETS if only is None else SETS[2:]:
            shapes[self._name(name)] = (dtype, (counts[name], *(site if only is None else site[1:])))
        super().__init__(path, shapes, {"positions": json.dumps(list(positions))})

    def add(self, name: str, values: "Tensor", rows: Sequence[int]) -> None:
        """Activations [rows, P, L+1, d] of prompts of one of `SETS`, as far as they are kept."""
        if self._name(name) in self.shapes:
            self.write(self._name(name), values if self.only is None else values[:, self._column], rows)

    def _name(self, name: str) -> str:
        return name.replace("_", ".") + ("" if self.only is None else f".{self.only}")


class Activations:
    """Activation cache of one checkpoint, read as it is asked for."""

    def __init__(self, path: Path):
        """Raises ArtefactError when the file is no activation cache."""
        self.file = Tensors(path)
        self.positions: list[Position] = self.file.describe("positions")
        self.file.check("mean.harmful", len(self.positions), None, None)
        site = self.file.shape("mean.harmful")
        self.n_layers = site[1] - 1
        for name in self.file:
            kind, _, rest = name.partition(".")
            if kind == "mean":
                self.file.check(name, *site)
            elif kind in ("fit", "select"):
                self.file.check(name, None, *(site[1:] if "." in rest else site))
            elif kind == "refused":
                fit = f"fit.{rest}"
                self.file.check(name, self.file.shape(fit)[0] if fit in self.file else None, floating=False)

    @property
    def per_prompt(self) -> bool:
        """Whether the fit prompts are there one by one."""
        return "fit.harmful" in self.file

    def index(self, position: Position) -> int:
        if position not in self.positions:
            raise ArtefactError(f"{self.file.path} has no position {position!r}; it has {self.positions}")
        return self.positions.index(position)

    @property
    def n_fit(self) -> tuple[int, int]:
        """Number of harmful and of benign fit prompts."""
        return self.file.shape("fit.harmful")[0], self.file.shape("fit.benign")[0]

    def mean(self, label: str) -> np.ndarray:
        """[P, L+1, d] over the fit prompts of a class: harmful, benign, refused or complied."""
        return self.file.read(f"mean.{label}")

    def fit(self, position: Position, layer: int) -> tuple[np.ndarray, int]:
        """[N, d] float64 at one site, harmful prompts first, and how many of them are harmful."""
        site = np.s_[:, self.index(position), layer]
        harmful, benign = (self.file.read(f"fit.{label}", site) for label in CLASSES)
        return np.concatenate([harmful, benign]).astype(np.float64), len(harmful)

    def refused(self) -> np.ndarray | None:
        """[N] bool of the fit prompts, harmful first: what the refusal carrier contrasts; None: harmful and benign prompts."""
        names = [f"refused.{label}" for label in CLASSES]
        if names[0] not in self.file:
            return None
        return np.concatenate([self.file.read(name) for name in names]).astype(bool)

    def r_classes(self) -> tuple[str, str] | None:
        """The two classes whose means the refusal carrier is made of; None where one has too few prompts."""
        if self.refused() is None:
            return CLASSES
        return ("refused", "complied") if "mean.refused" in self.file else None

    def select(self, label: str, position: Position) -> np.ndarray:
        """[n, L, d]: the block inputs of the validation prompts at one position."""
        whole = f"select.{label}"
        if whole in self.file:
            return self.file.read(whole, np.s_[:, self.index(position), : self.n_layers])
        return self.file.read(f"{whole}.{position}", np.s_[:, : self.n_layers])
