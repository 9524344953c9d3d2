"""One checkpoint in the geometry stage: where its carriers are read, the carriers, and the activations around them."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pandas as pd

from safety_geometry.carriers import (
    CandidateScores,
    Carrier,
    Position,
    Stability,
    candidate_table,
    harmfulness_profile,
    mean_difference,
    report_refusal,
    select_harmfulness,
    selection_stability,
    unit,
)
from safety_geometry.companions import PairSites
from safety_geometry.coupling import Coupling, couple, position_subspace

Site = tuple[Position, int]  # position as it is named in the configuration, layer


class ActivationCache(Protocol):
    """Activations of one checkpoint: P positions, the inputs of its L blocks and the output of the last, width d.

    `per_prompt`: those of the fit prompts are there one by one; without it, `fit` and `refused` need not be.
    """

    n_layers: int
    per_prompt: bool
    n_fit: tuple[int, int]  # harmful and benign fit prompts

    def index(self, position: Position) -> int: ...

    def mean(self, label: str) -> np.ndarray:
        """[P, L+1, d] over the prompts of a class: harmful, benign, refused or complied."""

    def fit(self, position: Position, layer: int) -> tuple[np.ndarray, int]:
        """[N, d] at one site, harmful prompts first, and how many of them are harmful."""

    def select(self, label: str, position: Position) -> np.ndarray:
        """[n, L, d]: the block inputs of the validation prompts at one position."""

    def refused(self) -> np.ndarray | None:
        """[N] bool of the fit prompts where the refusal carrier contrasts refused and other prompts, else None."""

    def r_classes(self) -> tuple[str, str] | None:
        """The two classes whose means the refusal carrier is made of; None where one has too few prompts."""


@dataclass(eq=False)
class Checkpoint:
    """Everything the tables need of one save; `r_row` and `stability` only where candidates were scored.

    `scored`: an anchor, which chooses its own sites. `delta` [P, L+1, d] is the contrast of harmful and benign prompts;
    `r_delta` is R's, of refused and other prompts where these were told apart, None where there are too few of one kind.
    A checkpoint has no R where it has no `r_delta`, or the anchor that it takes R's site from had none.
    Raises ValueError where a layer of `params` does not exist, or activations and scores are of different models.
    """

    step: int
    anchor: str
    activations: ActivationCache
    params: dict
    scores: CandidateScores | None = None
    scored: bool = False
    means: dict[str, np.ndarray] = field(init=False)
    delta: np.ndarray = field(init=False)
    r_delta: np.ndarray | None = field(init=False, default=None)
    profile: pd.DataFrame = field(init=False)
    candidates: pd.DataFrame | None = field(init=False, default=None)
    r_row: pd.Series | None = field(init=False, default=None)
    stability: Stability | None = field(init=False, default=None)
    h_site: Site = field(init=False, default=("", -1))
    r_site: Site | None = field(init=False, default=None)
    n_fit: tuple[int, int] = field(
        init=False, default=(0, 0)
    )  # harmful and benign; the same prompts at every checkpoint

    def __post_init__(self) -> None:
        store, position = self.activations, self.params["harmfulness"]["position"]
        beyond = [layer for layer in self.params["fixed_layers"] if not 0 <= layer < store.n_layers]
        if beyond:
            raise ValueError(
                f"fixed_layers {beyond} do not exist: the model has {store.n_layers} blocks, 0 to {store.n_layers - 1}"
            )
        if self.scores is not None and self.scores.n_layers != store.n_layers:
            raise ValueError(
                f"step {self.step}: activations of {store.n_layers} blocks, candidate scores of {self.scores.n_layers}"
            )
        self.means = {label: store.mean(label) for label in ("harmful", "benign")}
        self.delta = mean_difference(self.means["harmful"], self.means["benign"])
        classes = store.r_classes()
        if classes == ("harmful", "benign"):
            self.r_delta = self.delta
        elif classes is not None:
            self.r_delta = mean_difference(*map(store.mean, classes))
        self.profile = harmfulness_profile(
            self.delta[store.index(position), : store.n_layers],
            *(store.select(c, position) for c in ("harmful", "benign")),
        )
        if self.scored:
            self.n_fit = store.n_fit
            self.h_site = (position, select_harmfulness(self.profile, self.params["harmfulness"]["score"]))
        if self.scores is not None:
            self._select_r()

    def _select_r(self) -> None:
        refusal = self.params["refusal"]
        rule = {
            "beta_kl": refusal["beta_kl"],
            "kl_max": refusal["kl_max"],
            "max_layer": int(refusal["max_layer_fraction"] * self.scores.n_layers + 1e-9),
        }
        self.candidates = candidate_table(self.scores, **rule)
        self.r_row = report_refusal(self.candidates)
        self.stability = selection_stability(self.scores, self.rng("selection"), self.params["bootstrap"], **rule)
        self.r_site = (int(self.r_row.position), int(self.r_row.layer))

    def rng(self, name: str) -> np.random.Generator:
        """The same draws at every checkpoint: they share their prompts, so differences between checkpoints are paired."""
        return np.random.default_rng([self.params["stats_seed"], *name.encode()])

    @property
    def selection(self) -> str:
        return "own" if self.scored else "frozen"

    @property
    def has_r(self) -> bool:
        return self.r_site is not None and self.r_delta is not None

    @property
    def r_missing(self) -> str:
        """Why there is no R."""
        if self.r_delta is None:
            refused = self.activations.refused()
            return f"refusal.contrast: behaviour: {refused.sum()} of {len(refused)} fit prompts refused, one class is too small"
        return "refusal.contrast: behaviour: the anchor that the sites are taken from has no refusal carrier"

    @property
    def subspace_positions(self) -> list[int]:
        return [p for p in self.params["positions"] if isinstance(p, int)]

    def index(self, site: Site) -> tuple[int, int]:
        return self.activations.index(site[0]), site[1]

    def rows(self, kind: str, layer: int) -> np.ndarray:
        """[P', d] mean differences of a carrier's contrast at the post-instruction positions of a layer."""
        delta = self.delta if kind == "H" else self.r_delta
        return delta[[self.activations.index(p) for p in self.subspace_positions], layer]

    def scale(self, layer: int) -> float:
        """Norm of the activations at a layer, the yardstick for differences that are only rounding."""
        return float(np.linalg.norm(self.means["benign"][:, layer].astype(np.float64), axis=-1).max())

    def carrier(self, kind: str) -> Carrier:
        position, layer = site = self.h_site if kind == "H" else self.r_site
        raw = (self.delta if kind == "H" else self.r_delta)[self.index(site)]
        if kind == "H":
            score, admissible = float(self.profile[self.params["harmfulness"]["score"]].iloc[layer]), None
        else:
            score = float("nan") if self.r_row is None else float(self.r_row.s_total)
            admissible = None if self.r_row is None else bool(self.r_row.admissible)
        return Carrier(kind, layer, position, unit(raw), float(np.linalg.norm(raw)), score, admissible)

    def subspace(self, kind: str, layer: int | None = None) -> np.ndarray:
        """Leading directions [d, k] of a carrier's contrast at its own layer, or at another."""
        layer = (self.h_site if kind == "H" else self.r_site)[1] if layer is None else layer
        return position_subspace(self.rows(kind, layer), self.params["subspace_k"], self.scale(layer))

    def coupling(self, sites: tuple[Site, Site] | None = None) -> Coupling:
        """Of the carriers as they are read at their own sites, or at these of H and R."""
        (h_site, r_site) = sites or (self.h_site, self.r_site)
        h, r = unit(self.delta[self.index(h_site)]), unit(self.r_delta[self.index(r_site)])
        layers = h_site[1], r_site[1]
        return couple(h, r, self.subspace("H", layers[0]), self.subspace("R", layers[1]), *layers, self.params["tau"])

    def read_at(self, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean differences [d] at a layer, H's and R's, each at its carrier's position."""
        sides = ((self.delta, self.h_site), (self.r_delta, self.r_site))
        return tuple(delta[self.index((site[0], layer))] for delta, site in sides)

    def pair(self, layer: int | None = None) -> PairSites:
        """Fit activations at the carriers' sites, or at one common layer with each carrier's own position.

        Only where they were kept per prompt.
        """
        (pos_h, layer_h), (pos_r, layer_r) = self.h_site, self.r_site
        if layer is not None:
            layer_h = layer_r = layer
        h, n_harmful = self.activations.fit(pos_h, layer_h)
        r, _ = self.activations.fit(pos_r, layer_r)
        h_rows = self._fit_rows(layer_h)
        r_rows = h_rows if layer_r == layer_h else self._fit_rows(layer_r)
        scales = self.scale(layer_h), self.scale(layer_r)
        return PairSites(h, r, h_rows, r_rows, n_harmful, layer_h, layer_r, *scales, self.activations.refused())

    def _fit_rows(self, layer: int) -> np.ndarray:
        return np.stack([self.activations.fit(position, layer)[0] for position in self.subspace_positions])


def freeze_sites(checkpoints: list[Checkpoint]) -> None:
    """Give each save without scores the sites of the scored one before it, or of the first, where none precedes."""
    source = next(c for c in checkpoints if c.scored)
    for checkpoint in checkpoints:
        if checkpoint.scored:
            source = checkpoint
        checkpoint.h_site, checkpoint.r_site, checkpoint.n_fit = source.h_site, source.r_site, source.n_fit
