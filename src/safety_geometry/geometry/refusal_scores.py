"""What a checkpoint's R is chosen from: every candidate on few prompts, the best of them on all, and the same choice
made among label-shuffled directions.

A null set is one shuffle of the labels of the fit prompts, half of each class against the other half (so that the
difference of the classes, which may be R, is in none of them): it has a direction at each of some sites of the
finalists, drawn for the set, with the energy of the candidate there: added with its norm, removed with λ = √(E/E′), at
most `MATCHED_MAX`, E and E′ the shares of the harmful prompts' energy that lie along the two. Its directions are
screened, the best third goes on, one is chosen, and the gain of that choice is measured as R's is
(`selection.held_out`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from safety_geometry.artefacts.candidate_scores import SELECTORS, CandidateScores, NullSets, Openings, RefusalScores
from safety_geometry.geometry.candidate_scores import Candidate, Scorer
from safety_geometry.geometry.selection import (
    NOTHING,
    Rule,
    Weights,
    choose,
    eligible,
    finalists,
    gains,
    held_out,
    of_openings,
)
from safety_geometry.models.answers import complete
from safety_geometry.models.chat import Rendered
from safety_geometry.models.language_model import LanguageModel
from safety_geometry.models.memory import BatchSize
from safety_geometry.models.openings import opening_ids, refusal_log_odds
from safety_geometry.stats.estimates import ordered
from safety_geometry.stats.seeds import generator

MATCHED_MAX = 3.0
KL_PROMPTS = 8  # answered benign prompts that the KL at all sites is read on
Fit = Callable[[int, int], np.ndarray]
Progress = Callable[[int, str], Callable[[int], None]]


@dataclass(frozen=True)
class SelectionSettings:
    """validation: prompts of each class that count, at most those there are; screen: the first of these, that every
    candidate is run on; finalists: how many are run on all of them; null_sets of null_sites directions each;
    openings: configured ones; answer_tokens: of the answers that show which prompts are refused; require_gain: whether
    a site has to pass the verdict, so that null sets which cannot decide it are left out; seed: of the null sets."""

    rule: Rule
    validation: int
    screen: int
    finalists: int
    null_sets: int
    null_sites: int
    openings: Sequence[str]
    answer_tokens: int
    require_gain: bool
    seed: int

    @classmethod
    def of(cls, settings: Mapping, max_layer: int) -> "SelectionSettings":
        """From the other fields, and those of the rule: in_charge, kl_max, beta_kl, min_gain."""
        rest = dict(settings)
        rule = Rule(
            **{name: rest.pop(name) for name in ("in_charge", "kl_max", "beta_kl", "min_gain")}, max_layer=max_layer
        )
        return cls(rule, **rest)


@dataclass(frozen=True, eq=False)
class Asked:
    """Selection prompts and what the checkpoint said to them. Benign prompts that it answers come first; benign_order
    [m]: where each stood. first: ids of the first tokens of its refusals."""

    harmful: list[Rendered]
    benign: list[Rendered]
    refused_harmful: np.ndarray
    refused_benign: np.ndarray
    first: list[int]
    benign_order: np.ndarray

    @property
    def refused(self) -> np.ndarray:
        return np.concatenate([self.refused_harmful, self.refused_benign])


def ask(
    model: LanguageModel,
    harmful: Sequence[Rendered],
    benign: Sequence[Rendered],
    refuses: Callable[[str], bool],
    limit: int,
    batch_size: int | BatchSize,
    progress: Callable[[int], None] | None = None,
) -> Asked:
    """Short greedy answers to the selection prompts; refuses(text): whether one is a refusal."""
    completions = complete(model, [*harmful, *benign], limit, batch_size, progress=progress)
    refused = np.array([refuses(model.text(completion.ids)) for completion in completions])
    said = zip(completions, refused, strict=True)
    first = dict.fromkeys(completion.ids[0] for completion, is_refusal in said if is_refusal and completion.ids)
    of_benign = refused[len(harmful) :]
    order = np.argsort(of_benign, kind="stable")
    return Asked(
        list(harmful), [benign[i] for i in order], refused[: len(harmful)], of_benign[order], list(first), order
    )


def refusal_openings(
    model: LanguageModel, asked: Asked, configured: Sequence[str], texts: Sequence[str]
) -> list[list[int]]:
    """Ids in use, the checkpoint's own where it refuses anything, and the configured ones; texts: a few requests, on
    which the template is tried."""
    known = opening_ids(model.chat, configured, texts)
    return [asked.first or known, known]


def describe_openings(scorer: Scorer, asked: Asked, configured: Sequence[int]) -> Openings:
    refused = asked.refused
    values = scorer.log_odds, refusal_log_odds(scorer.log_p, configured).cpu().numpy()
    used, other = (auroc(log_odds, refused) for log_odds in values)
    n_tokens = len(asked.first or configured)
    answered = int((~asked.refused_benign).sum())
    return Openings(len(refused), int(refused.sum()), answered, bool(asked.first), n_tokens, used, other)


def auroc(values: np.ndarray, positive: np.ndarray) -> float | None:
    """Share of pairs in which the positive one has the larger value, ties counting ½; None without such pairs."""
    pairs = ordered(values[positive], values[~positive])
    return float(pairs.mean()) if pairs.size else None


def refusal_scores(
    scorer: Scorer,
    candidates: Sequence[Candidate],
    fit: Fit,
    labels: np.ndarray,
    openings: Openings,
    settings: SelectionSettings,
    progress: Progress | None = None,
    benign_order: np.ndarray | None = None,
) -> RefusalScores:
    """Screen, finalists and null sets of a checkpoint.

    fit(position, layer): activations [N, d] of the fit prompts; labels [N] bool: which of them a direction points to;
    benign_order: of `Asked`.
    """
    early, rule = range(settings.screen), settings.rule

    counts = [min(settings.validation, count) for count in (scorer.n, scorer.m)]

    def run(some: Sequence[Candidate], late: bool, what: str, kl: bool = True) -> CandidateScores:
        rows = [range(settings.screen, count) if late else early for count in counts]
        per = len(rows[0]) + len(rows[1]) + kl * int(scorer.answered[list(rows[1])].sum())
        return scorer.score(some, *rows, progress and progress(per * len(some), what), kl)

    screen = run(candidates, False, "candidates")
    best = finalists(screen, rule, settings.finalists) or list(range(min(settings.finalists, len(candidates))))
    some = [candidates[i] for i in best]
    finals = joined(picked(screen, best), run(some, True, "finalists"))
    # Where it answers none, all count, as in weighted_kl.
    answered = np.flatnonzero(scorer.answered) if scorer.answered.any() else np.arange(counts[1])
    everywhere, null = scorer.kl_everywhere(some, answered[:KL_PROMPTS]), None
    if settings.null_sets and (not settings.require_gain or worth_a_null(finals, openings, settings)):
        sets = [null_set(k, some, fit, labels, scorer, settings) for k in range(settings.null_sets)]
        null = _choices(sets, run, settings)
    order = None if benign_order is None else benign_order[: counts[1]]
    return RefusalScores(screen, finals, settings.screen, everywhere, openings, null, order)


def worth_a_null(finals: CandidateScores, openings: Openings, settings: SelectionSettings) -> bool:
    """Whether a null can decide: refusal can be read, and the choice of a selector gains its minimum."""
    if of_openings(openings):
        return False
    rule = settings.rule
    return any(held_out(finals, settings.screen, name, rule).gain >= rule.min_gain[name] for name in SELECTORS)


def null_set(
    number: int, finals: Sequence[Candidate], fit: Fit, labels: np.ndarray, scorer: Scorer, settings: SelectionSettings
) -> list[Candidate]:
    """Label-shuffled, energy-matched directions at some of the finalists' sites: one shuffle for all of them."""
    rng = generator("null set", settings.seed, number)
    shuffled = shuffled_labels(labels, rng)
    sites = np.sort(rng.choice(len(finals), min(settings.null_sites, len(finals)), replace=False))
    found = []
    for i in sites:
        real = finals[i]
        values = np.asarray(fit(real.position, real.layer), np.float64)
        raw = torch.from_numpy(values[shuffled].mean(0) - values[~shuffled].mean(0)).float().to(real.vector.device)
        if float(raw.norm()) == 0:
            continue
        matched = replace(real, vector=raw / raw.norm() * real.vector.norm())
        wanted, spent = (scorer.energy(real.layer, each.unit) for each in (real, matched))
        strength = min((wanted / spent) ** 0.5, MATCHED_MAX) if spent > 0 else MATCHED_MAX
        found.append(replace(matched, strength=strength))
    return found


def shuffled_labels(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[N] bool: half of each class (of an odd one, one prompt more or less at random), so that each side has as many of
    either class."""
    chosen = np.zeros(len(labels), bool)
    for side in (True, False):
        places = rng.permutation(np.flatnonzero(labels == side))
        chosen[places[: (len(places) + int(rng.integers(2))) // 2]] = True
    return chosen


def _choices(sets: list[list[Candidate]], run: Callable, settings: SelectionSettings) -> NullSets:
    """Gains and winners of the null sets, all of which are run together."""
    rule, sets = settings.rule, [each for each in sets if each]
    screen = run([candidate for each in sets for candidate in each], False, "null sets")
    starts = np.cumsum([0, *map(len, sets)])
    going_on = []
    for start, each in zip(starts, sets, strict=False):
        part = picked(screen, range(start, start + len(each)))
        best = finalists(part, rule, max(1, len(each) // 3)) or [0]
        going_on.append([start + i for i in best])
    every = [candidate for each in sets for candidate in each]
    flat = [i for each in going_on for i in each]
    finals = joined(picked(screen, flat), run([every[i] for i in flat], True, "winners of null sets", kl=False))
    found, winners, first = {name: [] for name in SELECTORS}, [], 0
    for each in going_on:
        part, first = picked(finals, range(first, first + len(each))), first + len(each)
        for name in SELECTORS:
            found[name].append(held_out(part, settings.screen, name, rule).gain)
        winners.append(every[each[_best(part, rule)]])
    return NullSets(
        {name: np.array(values) for name, values in found.items()},
        np.array([winner.layer for winner in winners]),
        np.array([winner.position for winner in winners]),
        torch.stack([winner.unit for winner in winners]).cpu().numpy(),
        max(map(len, sets)),
    )


def _best(finals: CandidateScores, rule: Rule) -> int:
    """The selector in charge's choice on all prompts, or the best there is where doing nothing is better."""
    found, usable = gains(finals, Weights.of(finals), rule.beta_kl), eligible(finals, rule.max_layer)
    gain, kl = found.of(rule.in_charge), found.kl
    chosen = int(choose(gain, kl, finals.layers, (usable & (kl <= rule.kl_max)))[0])
    return int(np.nan_to_num(gain[0], nan=-np.inf).argmax()) if chosen == NOTHING else chosen


OF_CANDIDATES = ("layers", "positions", "norm")
OF_BOTH = {"ablate_harmful": 1, "add_benign": 1, "kl": 1, "removed": 1, "added": 1}
OF_PROMPTS = ("clean_harmful", "clean_benign", "log_odds_harmful", "log_odds_benign", "answered")


def picked(scores: CandidateScores, candidates: Sequence[int]) -> CandidateScores:
    """The same of some candidates."""
    index = list(candidates)
    return replace(scores, **{name: getattr(scores, name)[index] for name in (*OF_CANDIDATES, *OF_BOTH)})


def joined(first: CandidateScores, second: CandidateScores) -> CandidateScores:
    """The same candidates on the prompts of both, in this order."""
    parts = {name: np.concatenate([getattr(s, name) for s in (first, second)], axis) for name, axis in OF_BOTH.items()}
    return replace(first, **parts, **{n: np.concatenate([getattr(first, n), getattr(second, n)]) for n in OF_PROMPTS})
