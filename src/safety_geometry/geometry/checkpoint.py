"""Where the carriers of each save are read: contrasts come in, a frozen record of the chosen sites goes out.

An anchor, whose candidates were scored, chooses its own sites; a save without scores takes those of the anchor before
it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from safety_geometry.artefacts.activations import CLASSES, Activations
from safety_geometry.artefacts.candidate_scores import CandidateScores
from safety_geometry.artefacts.carriers import Carrier, CarrierPair
from safety_geometry.geometry.carriers import (
    Stability,
    candidate_table,
    harmfulness_profile,
    mean_difference,
    report_refusal,
    select_harmfulness,
    selection_stability,
    unit,
)
from safety_geometry.geometry.coupling import position_subspace
from safety_geometry.settings.identity import Checkpoint, Position, Site
from safety_geometry.stats.seeds import generator


@dataclass(frozen=True)
class GeometrySettings:
    """How sites are chosen and coupling is measured.

    h_position, h_score: H is read there, at the layer of the highest score (`carriers.H_SCORES`); beta_kl, kl_max,
    max_layer_fraction: R's rule (`carriers.candidate_table`); positions: the rows of a subspace, after the instruction;
    subspace_k: its directions; tau: layers, of C_layer; fixed_layers: common layers at which both carriers are read as
    well; bootstrap, shuffles, splits: resamples; seed: theirs.
    """

    h_position: Position
    h_score: str
    beta_kl: float
    kl_max: float
    max_layer_fraction: float
    positions: tuple[int, ...]
    subspace_k: int
    tau: float
    fixed_layers: tuple[int, ...]
    bootstrap: int
    shuffles: int
    splits: int
    seed: int

    def rng(self, name: str) -> np.random.Generator:
        """The same draws at every checkpoint: they share their prompts, so differences between checkpoints are
        paired."""
        return generator(self.seed, name)


@dataclass(frozen=True, eq=False)
class Contrasts:
    """The mean differences of one save, at P positions and the inputs of its L blocks.

    cache: its activations; benign [P, L+1, d]: mean of the benign prompts; h [P, L+1, d]: harmful minus benign prompts;
    r: what R contrasts, the same or refused minus other prompts, None where there are too few of one kind.
    """

    cache: Activations
    benign: np.ndarray
    h: np.ndarray
    r: np.ndarray | None

    @classmethod
    def of(cls, cache: Activations) -> "Contrasts":
        means = {label: cache.mean(label) for label in CLASSES}
        h = mean_difference(means["harmful"], means["benign"])
        classes = cache.r_classes()
        r = h if classes == CLASSES else mean_difference(*map(cache.mean, classes)) if classes else None
        return cls(cache, means["benign"], h, r)

    def field(self, kind: str) -> np.ndarray:
        """[P, L+1, d] of H or R."""
        return self.h if kind == "H" else self.r

    def index(self, site: Site) -> tuple[int, int]:
        """Of a site in a field."""
        return self.cache.index(site[0]), site[1]

    def raw(self, kind: str, site: Site) -> np.ndarray:
        """Mean difference [d] of H or R at a site."""
        return self.field(kind)[self.index(site)]

    def scale(self, layer: int) -> float:
        """Norm of the activations at a layer, the yardstick for differences that are only rounding."""
        return float(np.linalg.norm(self.benign[:, layer].astype(np.float64), axis=-1).max())

    def subspace(self, kind: str, layer: int, settings: GeometrySettings) -> np.ndarray:
        """Leading directions [d, k] of H's or R's mean differences at the positions of a layer."""
        rows = self.field(kind)[[self.cache.index(position) for position in settings.positions], layer]
        return position_subspace(rows, settings.subspace_k, self.scale(layer))


@dataclass(frozen=True, eq=False)
class Save:
    """One save before sites are chosen. scored: an anchor, which chooses its own; scores: of R's candidates, where it
    has any."""

    checkpoint: Checkpoint
    activations: Activations
    scored: bool
    scores: CandidateScores | None = None


@dataclass(frozen=True, eq=False)
class RefusalChoice:
    """What an anchor's R was chosen among: `carriers.candidate_table`, the chosen row, and how stable the choice is."""

    candidates: pd.DataFrame
    row: pd.Series
    stability: Stability


@dataclass(frozen=True, eq=False)
class SelectedCheckpoint:
    """A save with its carriers, which know their sites.

    profile: `carriers.harmfulness_profile`; n_fit: harmful and benign fit prompts, the same at every checkpoint;
    choice: None where no candidates were scored.
    """

    checkpoint: Checkpoint
    contrasts: Contrasts
    profile: pd.DataFrame
    carriers: CarrierPair
    n_fit: tuple[int, int]
    choice: RefusalChoice | None

    def carrier(self, kind: str) -> Carrier | None:
        return self.carriers.h if kind == "H" else self.carriers.r


def select_sites(saves: Sequence[Save], settings: GeometrySettings) -> list[SelectedCheckpoint]:
    """Carriers of each save, in order of steps: at its own sites where it was scored, else at those of the scored save
    before it (of the first, where none precedes).

    Raises ValueError where a fixed layer does not exist, or activations and scores are of different models.
    """
    read = [_read(save, settings) for save in saves]
    chosen = {
        save.checkpoint.step: _choose(save, profile, settings)
        for save, (_, profile) in zip(saves, read, strict=True)
        if save.scored
    }
    source, selected = next(save for save in saves if save.scored), []
    for save, (contrasts, profile) in zip(saves, read, strict=True):
        source = save if save.scored else source
        h_site, choice = chosen[source.checkpoint.step]
        carriers = _carriers(save, contrasts, profile, h_site, choice, settings)
        own, n_fit = choice if save.scored else None, source.activations.n_fit
        selected.append(SelectedCheckpoint(save.checkpoint, contrasts, profile, carriers, n_fit, own))
    return selected


def _read(save: Save, settings: GeometrySettings) -> tuple[Contrasts, pd.DataFrame]:
    """Contrasts of a save, and H's scores by layer."""
    cache, position = save.activations, settings.h_position
    layers = cache.n_layers
    if beyond := [layer for layer in settings.fixed_layers if not 0 <= layer < layers]:
        raise ValueError(f"fixed_layers {beyond} do not exist: the model has {layers} blocks, 0 to {layers - 1}")
    if save.scores is not None and save.scores.n_layers != layers:
        raise ValueError(
            f"step {save.checkpoint.step}: activations of {layers} blocks, candidate scores of {save.scores.n_layers}"
        )
    contrasts = Contrasts.of(cache)
    directions = contrasts.h[cache.index(position), :layers]
    return contrasts, harmfulness_profile(directions, *(cache.select(label, position) for label in CLASSES))


def _choose(save: Save, profile: pd.DataFrame, settings: GeometrySettings) -> tuple[Site, RefusalChoice | None]:
    """H's site, and R's choice where candidates were scored."""
    h_site = settings.h_position, select_harmfulness(profile, settings.h_score)
    if save.scores is None:
        return h_site, None
    rule = {
        "beta_kl": settings.beta_kl,
        "kl_max": settings.kl_max,
        "max_layer": int(settings.max_layer_fraction * save.scores.n_layers + 1e-9),
    }
    candidates = candidate_table(save.scores, **rule)
    stability = selection_stability(save.scores, settings.rng("selection"), settings.bootstrap, **rule)
    return h_site, RefusalChoice(candidates, report_refusal(candidates), stability)


def _carriers(
    save: Save,
    contrasts: Contrasts,
    profile: pd.DataFrame,
    h_site: Site,
    choice: RefusalChoice | None,
    settings: GeometrySettings,
) -> CarrierPair:
    h = _carrier("H", contrasts, h_site, float(profile[settings.h_score].iloc[h_site[1]]), None, settings)
    names = save.checkpoint.anchor, "own" if save.scored else "frozen", h
    if contrasts.r is None:
        refused = save.activations.refused()
        return CarrierPair(
            *names, None, f"{refused.sum()} of {len(refused)} fit prompts refused, one class is too small"
        )
    if choice is None:
        return CarrierPair(*names, None, "the anchor that the sites are taken from has no refusal carrier")
    site = int(choice.row.position), int(choice.row.layer)
    score, admissible = (
        (float(choice.row.s_total), bool(choice.row.admissible)) if save.scored else (float("nan"), None)
    )
    return CarrierPair(*names, _carrier("R", contrasts, site, score, admissible, settings))


def _carrier(kind, contrasts: Contrasts, site: Site, score: float, admissible: bool | None, settings) -> Carrier:
    raw, subspace = contrasts.raw(kind, site), contrasts.subspace(kind, site[1], settings)
    return Carrier(kind, site[1], site[0], unit(raw), float(np.linalg.norm(raw)), score, admissible, subspace)
