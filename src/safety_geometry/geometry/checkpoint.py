"""Where the carriers of each save are read: contrasts come in, a frozen record of the chosen sites goes out.

An anchor, whose candidates were scored, chooses its own sites, R's by `selection`; a save without scores takes those of
the anchor before it. A save without an R of its own has a site to be read at all the same: that of the R of the
regime's reference anchor, or else of another regime's, or, where neither has one, that of the best candidate.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from safety_geometry.artefacts.activations import CLASSES, Activations
from safety_geometry.artefacts.candidate_scores import SELECTORS, RefusalScores
from safety_geometry.artefacts.carriers import Carrier, CarrierPair
from safety_geometry.geometry.carriers import (
    candidate_table,
    harmfulness_profile,
    mean_difference,
    resampled_s_total,
    select_harmfulness,
    unit,
)
from safety_geometry.geometry.coupling import position_subspace
from safety_geometry.geometry.selection import Choice, Rule, Weights, candidate_frame, choice
from safety_geometry.settings.identity import Checkpoint, Position, Site
from safety_geometry.stats.seeds import generator


@dataclass(frozen=True)
class GeometrySettings:
    """How sites are chosen and coupling is measured.

    h_position, h_score: H is read there, at the layer of the highest score (`carriers.H_SCORES`); selector, beta_kl,
    kl_max, max_layer_fraction, min_gain: R's rule (`selection.Rule`); require_gain: whether the site that R's selector
    chooses has to pass its verdict; positions: the rows of a subspace, after the instruction;
    subspace_k: its directions; tau: layers, of C_layer; fixed_layers: common layers at which both carriers are read as
    well; bootstrap, shuffles, splits: resamples; seed: theirs.
    """

    h_position: Position
    h_score: str
    selector: str
    beta_kl: float
    kl_max: float
    max_layer_fraction: float
    min_gain: dict[str, float]
    require_gain: bool
    positions: tuple[int, ...]
    subspace_k: int
    tau: float
    fixed_layers: tuple[int, ...]
    bootstrap: int
    shuffles: int
    splits: int
    seed: int

    def rule(self, n_layers: int) -> Rule:
        cut = int(self.max_layer_fraction * n_layers + 1e-9)
        return Rule(self.selector, self.kl_max, self.beta_kl, cut, dict(self.min_gain))

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
    scores: RefusalScores | None = None


@dataclass(frozen=True, eq=False)
class RefusalChoice:
    """What an anchor's R was chosen among, and by each selector which site.

    candidates: of every site its gains (`selection.candidate_frame`) and raw scores (`carriers.candidate_table`);
    choices: by selector; selector: the one in charge; s_total: 95 % range of S_total at its site over resampled
    prompts.
    """

    scores: RefusalScores
    candidates: pd.DataFrame
    choices: dict[str, Choice]
    selector: str
    s_total: tuple[float, float]

    @property
    def own(self) -> Choice:
        """Of the selector in charge."""
        return self.choices[self.selector]

    @property
    def site(self) -> Site:
        return self.own.position, self.own.layer

    @property
    def row(self) -> pd.Series:
        at = (self.candidates.layer == self.own.layer) & (self.candidates.position == self.own.position)
        return self.candidates[at].iloc[0]


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

    @property
    def r_site(self) -> Site | None:
        """R's, or without R the one where it is read all the same; None where there is none."""
        return self.carriers.r_site

    def carrier(self, kind: str) -> Carrier | None:
        return self.carriers.h if kind == "H" else self.carriers.r


def select_sites(
    saves: Sequence[Save],
    settings: GeometrySettings,
    reference: int | None = None,
    elsewhere: CarrierPair | None = None,
) -> list[SelectedCheckpoint]:
    """Carriers of each save, in order of steps: at its own sites where it was scored, else at those of the scored save
    before it (of the first, where none precedes).

    reference: step of the reference anchor, at whose site R is read where a save has none of its own; elsewhere: of
    another regime's reference anchor, for that where this one has none either. Raises ValueError where a fixed layer
    does not exist, or activations and scores are of different models.
    """
    read, before, chosen = [_read(save, settings) for save in saves], {}, {}
    for save, (_, profile) in zip(saves, read, strict=True):
        if save.scored:
            h_site, found = _choose(save, profile, settings, before)
            chosen[save.checkpoint.step] = h_site, found
            if found is not None:
                before = {
                    name: (each.position, each.layer)
                    for name, each in found.choices.items()
                    if not (each.reason and settings.require_gain)
                }
    source, selected = next(save for save in saves if save.scored), []
    for save, (contrasts, profile) in zip(saves, read, strict=True):
        source = save if save.scored else source
        h_site, found = chosen[source.checkpoint.step]
        carriers = _carriers(save, contrasts, profile, h_site, found, settings)
        own, n_fit = found if save.scored else None, source.activations.n_fit
        selected.append(SelectedCheckpoint(save.checkpoint, contrasts, profile, carriers, n_fit, own))
    site, status = _frozen(next((each for each in selected if each.checkpoint.step == reference), None), elsewhere)
    return [_with_site(each, site, status) for each in selected]


def _frozen(reference: SelectedCheckpoint | None, elsewhere: CarrierPair | None) -> tuple[Site | None, str]:
    """Where R is read for want of an own one, and the r_status of that: where an R is, first the reference anchor's,
    else where the best candidate is, first elsewhere, so that regimes without an R are read at one site."""
    for pair in (reference and reference.carriers, elsewhere):
        if pair is not None and pair.r is not None:
            return pair.r.site, "reference"
    if elsewhere is not None and elsewhere.r_site is not None:
        return elsewhere.r_site, "candidate"
    if reference is not None and reference.choice is not None:
        return reference.choice.site, "candidate"
    return None, "none"


def _with_site(selected: SelectedCheckpoint, frozen: Site | None, status: str) -> SelectedCheckpoint:
    """With where R is read: its own site, or without one the `frozen` one."""
    carriers = selected.carriers
    if carriers.r is not None:
        return replace(selected, carriers=replace(carriers, r_site=carriers.r.site))
    if selected.contrasts.r is None or frozen is None:
        return selected
    return replace(selected, carriers=replace(carriers, r_status=status, r_site=frozen))


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


def _choose(
    save: Save, profile: pd.DataFrame, settings: GeometrySettings, before: dict[str, Site]
) -> tuple[Site, RefusalChoice | None]:
    """H's site, and R's choice where candidates were scored; before: sites at the scored save before, by selector."""
    h_site = settings.h_position, select_harmfulness(profile, settings.h_score)
    if save.scores is None:
        return h_site, None
    finals, rule, null = save.scores.finals, settings.rule(save.scores.finals.n_layers), save.scores.null
    choices = {
        name: choice(
            finals,
            save.scores.n_screen,
            name,
            rule,
            save.scores.openings,
            None if null is None else null.gains[name],
            settings.rng("selection"),
            settings.bootstrap,
            before.get(name),
        )
        for name in SELECTORS
    }
    raw = {"beta_kl": rule.beta_kl, "kl_max": rule.kl_max, "max_layer": rule.max_layer}
    tables = [candidate_table(scores, **raw) for scores in (save.scores.screen, finals)]
    table = pd.concat(tables).drop_duplicates(["layer", "position"], keep="last").drop(columns="kl")
    candidates = candidate_frame(save.scores.screen, finals, rule.beta_kl).merge(table, on=["layer", "position"])
    candidates["admissible"] = candidates.eligible & (candidates.kl <= rule.kl_max)
    weights = Weights.resampled(finals, settings.bootstrap, settings.rng("selection"))
    drawn = resampled_s_total(finals, weights.harmful, weights.benign, rule.beta_kl)[:, choices[rule.in_charge].site]
    ends = tuple(map(float, np.quantile(drawn, [0.025, 0.975])))
    return h_site, RefusalChoice(save.scores, candidates, choices, rule.in_charge, ends)


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
            *names, None, f"{refused.sum()} of {len(refused)} fit prompts refused, one class is too small", "none"
        )
    if choice is None:
        return CarrierPair(*names, None, "the anchor that the sites are taken from has no refusal carrier", "none")
    own, null = choice.own, choice.scores.null if save.scored else None
    best = {} if null is None else {
        "selected": null.directions,
        "selected_sites": tuple(zip(map(int, null.positions), map(int, null.layers), strict=True)),
    }  # fmt: skip
    if own.reason and settings.require_gain:
        where = "" if save.scored else "the anchor that the sites are taken from has no refusal carrier: "
        return CarrierPair(*names, None, where + own.reason, "none", **best)
    score, admissible = (own.own_gain, own.admissible) if save.scored else (float("nan"), None)
    why = f"kept (refusal.require_gain: false), though {own.reason}" if own.reason else ""
    return CarrierPair(*names, _carrier("R", contrasts, choice.site, score, admissible, settings), why, "own", **best)


def _carrier(kind, contrasts: Contrasts, site: Site, score: float, admissible: bool | None, settings) -> Carrier:
    raw, subspace = contrasts.raw(kind, site), contrasts.subspace(kind, site[1], settings)
    return Carrier(kind, site[1], site[0], unit(raw), float(np.linalg.norm(raw)), score, admissible, subspace)
