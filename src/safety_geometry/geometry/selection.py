"""The choice of the refusal carrier R among scored candidates, and what keeps it honest: a level of doing nothing,
gains on prompts that did not choose, and a null that is a choice as well.

Two selectors, both beyond doing nothing (which gains 0):

- `effect`: refusal log-odds at the first answer token, ½[lo(harmful) − lo(harmful, removed)] + ½[lo(benign, added) −
lo(benign)];
- `cosmic`: (S_refuse + S_comply − 2c0) / (2(1 − c0)) − β·KL, c0 the cosine of the clean means (arXiv 2604.27019, Eq. 2,
less what S_refuse and S_comply are when nothing is edited).

A candidate is admissible with KL ≤ kl_max on benign prompts that the checkpoint answers. `finalists` takes the best of
a screen of all candidates on few prompts. The gain of the choice is cross-fitted: the prompts beyond the screen are
dealt into two parts; on the screen and one part the finalist is chosen (or nothing, where none gains), on the other
part its gain is measured, and the other way round.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from safety_geometry.artefacts.candidate_scores import SELECTORS, CandidateScores, Openings
from safety_geometry.geometry.carriers import NEGLIGIBLE, weighted_cosine, weighted_cosines, weighted_kl
from safety_geometry.stats.estimates import resampling_weights

AUROC_MIN, ANSWERED_MIN = 0.7, 8
NULL_LEVEL = 0.95
NOTHING = -1  # the no-op row: no candidate gains anything


@dataclass(frozen=True)
class Rule:
    """in_charge: the selector whose choice is R; kl_max, beta_kl, max_layer: limits of a candidate, weight of its KL;
    min_gain: by selector, the least gain that makes a site R."""

    in_charge: str
    kl_max: float
    beta_kl: float
    max_layer: int
    min_gain: dict[str, float]


@dataclass(frozen=True, eq=False)
class Weights:
    """Of harmful [B, n] and benign prompts [B, m], each row summing to 1; None of a class: all alike."""

    harmful: np.ndarray
    benign: np.ndarray

    @classmethod
    def of(cls, scores: CandidateScores, harmful=None, benign=None) -> "Weights":
        """The prompts at these places, alike."""
        counts = len(scores.clean_harmful), len(scores.clean_benign)
        return cls(*(_alike(n, places) for n, places in zip(counts, (harmful, benign), strict=True)))

    @classmethod
    def resampled(cls, scores: CandidateScores, draws: int, rng: np.random.Generator, harmful=None, benign=None):
        """`draws` bootstrap samples of the prompts at these places, classes apart."""
        sides = []
        for count, places in ((len(scores.clean_harmful), harmful), (len(scores.clean_benign), benign)):
            places = np.arange(count) if places is None else np.asarray(places)
            weights = np.zeros((draws, count))
            weights[:, places] = resampling_weights(len(places), draws, rng)
            sides.append(weights)
        return cls(*sides)


def _alike(count: int, places) -> np.ndarray:
    weights = np.zeros((1, count))
    weights[0, slice(None) if places is None else places] = 1.0
    return weights / weights.sum()


@dataclass(frozen=True, eq=False)
class Gains:
    """By selector [B, C]: what each candidate does beyond nothing, for B weightings of the prompts; kl [B, C]; c0
    [B]."""

    effect: np.ndarray
    cosmic: np.ndarray
    kl: np.ndarray
    c0: np.ndarray

    def of(self, selector: str) -> np.ndarray:
        return getattr(self, selector)


def gains(scores: CandidateScores, weights: Weights, beta_kl: float) -> Gains:
    """Of all candidates. The KL is that of answered prompts; where a weighting has none, of all answered ones."""
    harmful, benign = weights.harmful, weights.benign
    comply = harmful @ (scores.log_odds_harmful - scores.removed).T
    refuse = benign @ (scores.added - scores.log_odds_benign).T
    kl = weighted_kl(scores, benign)
    c0 = weighted_cosine(scores.clean_harmful, harmful, scores.clean_benign, benign)
    s_refuse = weighted_cosines(scores.add_benign, scores.clean_harmful, benign, harmful)
    s_comply = weighted_cosines(scores.ablate_harmful, scores.clean_benign, harmful, benign)
    beyond = (s_refuse + s_comply - 2 * c0[:, None]) / np.maximum(2 * (1 - c0[:, None]), 1e-12)
    return Gains((comply + refuse) / 2, beyond - beta_kl * kl, kl, c0)


def eligible(scores: CandidateScores, max_layer: int) -> np.ndarray:
    """[C] bool: below the layer cut, its direction not negligible, its KL finite."""
    present = scores.norm > NEGLIGIBLE * np.median(scores.norm)
    return (scores.layers < max_layer) & present & np.isfinite(scores.kl).all(1)


def choose(gain: np.ndarray, kl: np.ndarray, layers: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Index [B] of the allowed candidate with the largest gain (ties: lower KL, then lower layer), or `NOTHING` where
    none gains more than doing nothing does. gain, kl, allowed [B, C]."""
    gain = np.where(allowed & np.isfinite(gain), gain, -np.inf)
    best = gain.max(1, keepdims=True)
    tied = gain == best
    kl = np.where(tied, kl, np.inf)
    tied &= kl == kl.min(1, keepdims=True)
    chosen = np.where(tied, layers, np.iinfo(np.int64).max).argmin(1)
    return np.where(best[:, 0] > 0, chosen, NOTHING)


def finalists(screen: CandidateScores, rule: Rule, count: int) -> list[int]:
    """Candidates that go on: the best of both selectors' orders in turn, the one in charge first; admissible ones come
    before others, and ineligible ones do not come at all."""
    found, usable = gains(screen, Weights.of(screen), rule.beta_kl), eligible(screen, rule.max_layer)
    orders = []
    for selector in sorted(SELECTORS, key=lambda name: name != rule.in_charge):
        gain = np.nan_to_num(found.of(selector)[0], nan=-np.inf)
        order = np.lexsort((screen.positions, screen.layers, -gain, found.kl[0] > rule.kl_max))
        orders.append([int(i) for i in order if usable[i]])
    taken = dict.fromkeys(i for pair in zip(*orders, strict=True) for i in pair)
    return sorted(list(taken)[:count])


def dealt(count: int, screen: int) -> tuple[np.ndarray, np.ndarray]:
    """The places beyond the screen in two parts, every second one."""
    return np.arange(screen, count, 2), np.arange(screen + 1, count, 2)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Gain of a choice on prompts that did not make it: mean over the two parts, 95 % interval over prompts; chosen:
    what each part's other chose."""

    gain: float
    lo: float
    hi: float
    chosen: tuple[int, int]


def held_out(
    finals: CandidateScores,
    screen: int,
    selector: str,
    rule: Rule,
    draws: int = 0,
    rng: np.random.Generator | None = None,
) -> HeldOut:
    """Cross-fitted gain of the selector's choice among the finalists; screen: prompts of each class that chose these.

    draws: bootstrap samples of the measuring prompts, the choices as they are (0: no interval). Doing nothing gains 0.
    Raises ValueError with fewer than two prompts of a class beyond the screen.
    """
    parts = [dealt(len(side), screen) for side in (finals.clean_harmful, finals.clean_benign)]
    if any(len(part) == 0 for side in parts for part in side):
        raise ValueError("a held-out gain needs two prompts of each class beyond those of the screen")
    usable, early = eligible(finals, rule.max_layer), np.arange(screen)
    chosen, values, sampled = [], [], []
    for one in (0, 1):
        places = [np.concatenate([early, side[1 - one]]) for side in parts]
        before = gains(finals, Weights.of(finals, *places), rule.beta_kl)
        allowed = usable & (before.kl <= rule.kl_max)
        pick = int(choose(before.of(selector), before.kl, finals.layers, allowed)[0])
        chosen.append(pick)
        measuring = [side[one] for side in parts]
        weightings = [Weights.of(finals, *measuring)]
        if draws:
            weightings.append(Weights.resampled(finals, draws, rng, *measuring))
        found = [
            np.zeros(len(w.harmful)) if pick == NOTHING else gains(finals, w, rule.beta_kl).of(selector)[:, pick]
            for w in weightings
        ]
        values.append(float(found[0][0]))
        sampled.append(found[-1])
    lo, hi = np.quantile(np.mean(sampled, 0), [0.025, 0.975]) if draws else (math.nan, math.nan)
    return HeldOut(float(np.mean(values)), float(lo), float(hi), tuple(chosen))


def null_point(null: Sequence[float] | None, level: float = NULL_LEVEL) -> float:
    """What a gain has to exceed: the ⌈level·(S + 1)⌉-th smallest of S null gains, so that a further draw of the same
    kind exceeds it in at most 1 − level of all cases (of 20 sets the largest). With too few sets for that, the largest;
    NaN without any."""
    if null is None or not len(null):
        return math.nan
    ordered = np.sort(np.asarray(null, float))
    return float(ordered[min(math.ceil(level * (len(ordered) + 1)), len(ordered)) - 1])


@dataclass(frozen=True, eq=False)
class Choice:
    """What one selector chooses at a checkpoint, and why that is R or not.

    site: index among the finalists, of the site that is reported: the best one, or, of those within the standard error
    of it, the one nearest the site of the save before; admissible: whether it beats doing nothing within the KL budget.
    own_gain: its gain on all selection prompts. runner_up, margin: the next best finalist, and what it lacks. ties:
    finalists within the standard error. share: of resamples that choose the same position and a layer one away at most.
    reason: empty where the site is R.
    """

    selector: str
    in_charge: bool
    finals: CandidateScores
    site: int
    admissible: bool
    own_gain: float
    held_out: HeldOut
    null: float
    n_null: int
    runner_up: int | None
    margin: float
    ties: int
    share: float
    none_share: float
    no_op: float
    inverted: bool
    reason: str

    @cached_property
    def layer(self) -> int:
        return int(self.finals.layers[self.site])

    @cached_property
    def position(self) -> int:
        return int(self.finals.positions[self.site])


def choice(
    finals: CandidateScores,
    screen: int,
    selector: str,
    rule: Rule,
    openings: Openings,
    null: np.ndarray | None,
    rng: np.random.Generator,
    draws: int,
    before: tuple[int, int] | None = None,
) -> Choice:
    """A selector's choice among the finalists; before: (position, layer) of its choice at the save before; null: gains
    of its null sets."""
    usable, whole = eligible(finals, rule.max_layer), gains(finals, Weights.of(finals), rule.beta_kl)
    sampled = gains(finals, Weights.resampled(finals, draws, rng), rule.beta_kl)
    gain, kl = whole.of(selector)[0], whole.kl[0]
    allowed = usable & (kl <= rule.kl_max)
    best = int(choose(gain[None], kl[None], finals.layers, allowed[None])[0])
    admissible = best != NOTHING
    if not admissible:  # the best there is, to be reported
        among = allowed if allowed.any() else usable if usable.any() else np.ones(len(usable), bool)
        best = int(np.where(among & np.isfinite(gain), gain, -np.inf).argmax())
        allowed = among
    others = np.flatnonzero(allowed)
    spread = (sampled.of(selector)[:, [best]] - sampled.of(selector)[:, others]).std(0)
    near = [
        int(c)
        for c, se in zip(others, spread, strict=True)
        if gain[best] - gain[c] <= se and (gain[c] > 0 or not admissible)
    ]
    site = best if before is None else min(near, key=lambda c: (*_distance(finals, c, before), -gain[c]))
    rest = others[others != site]
    second = int(rest[gain[rest].argmax()]) if len(rest) else None
    picks = choose(sampled.of(selector), sampled.kl, finals.layers, usable & (sampled.kl <= rule.kl_max))
    alike = (finals.positions == finals.positions[site]) & (abs(finals.layers - finals.layers[site]) <= 1)
    found = held_out(finals, screen, selector, rule, draws, rng)
    point = null_point(null)
    return Choice(
        selector=selector,
        in_charge=selector == rule.in_charge,
        finals=finals,
        site=site,
        admissible=admissible,
        own_gain=float(gain[site]),
        held_out=found,
        null=point,
        n_null=0 if null is None else len(null),
        runner_up=second,
        margin=math.nan if second is None else float(gain[site] - gain[second]),
        ties=len(near),
        share=float(np.mean((picks != NOTHING) & alike[picks])),
        none_share=float(np.mean(picks == NOTHING)),
        no_op=float(2 * whole.c0[0]) if selector == "cosmic" else 0.0,
        inverted=bool(finals.log_odds_harmful.mean() <= finals.log_odds_benign.mean()),
        reason=why_not(openings, admissible, found.gain, rule.min_gain[selector], point),
    )


def why_not(openings: Openings, admissible: bool, gain: float, least: float, null: float) -> str:
    """Why there is no R; empty where there is one."""
    if reason := of_openings(openings):
        return reason
    if not admissible:
        return "no candidate within the KL budget does more than nothing"
    if not gain >= least:
        return f"its gain on prompts that did not choose it, {gain:.3g}, is below the minimum of {least:g}"
    if not gain > null:  # NaN: there is no null
        return f"its gain, {gain:.3g}, does not exceed the 95 % point of the null sets, {null:.3g}"
    return ""


def of_openings(openings: Openings) -> str:
    """Why refusal cannot be read at this checkpoint; empty where it can."""
    if openings.n_answered < ANSWERED_MIN:
        return f"it answers {openings.n_answered} of the benign selection prompts, fewer than {ANSWERED_MIN}"
    if openings.auroc is None:
        which = "none" if not openings.n_refused else "all"
        return f"it refuses {which} of the {openings.n_answers} selection prompts"
    if openings.auroc < AUROC_MIN:
        return f"the log-odds tell its refusals from its other answers with an AUROC of {openings.auroc:.2f} only"
    return ""


def candidate_frame(screen: CandidateScores, finals: CandidateScores, beta_kl: float) -> pd.DataFrame:
    """layer, position, finalist, effect, cosmic and kl of every candidate: of a finalist on all selection prompts, of
    the others on those of the screen."""
    frames = []
    for scores, finalist in ((screen, False), (finals, True)):
        found = gains(scores, Weights.of(scores), beta_kl)
        frames.append(
            pd.DataFrame(
                {"layer": scores.layers.astype(int), "position": scores.positions.astype(int), "finalist": finalist}
                | {"effect": found.effect[0], "cosmic": found.cosmic[0], "kl": found.kl[0]}
            )
        )
    both = pd.concat(frames).drop_duplicates(["layer", "position"], keep="last")
    return both.sort_values(["layer", "position"], ignore_index=True)


def _distance(finals: CandidateScores, c: int, before: tuple[int, int]) -> tuple[int, int]:
    position, layer = before
    return abs(int(finals.layers[c]) - layer), abs(int(finals.positions[c]) - position)
