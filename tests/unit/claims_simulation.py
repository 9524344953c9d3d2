"""Runs with a known truth for every distinct rule of decision: what the tables would say, and how often it is decided
wrongly.

A run has seeds with true effects θ_s about a mean θ; a table's interval for each is made by the code that makes tables.
"""

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import bdtrc, ndtr, ndtri

from safety_geometry.claims.evidence import paired, roomy
from safety_geometry.claims.geometry import choice_error
from safety_geometry.claims.margins import MARGINS
from safety_geometry.claims.rules import FAILS, HOLDS, NO_EFFECT, Measured, judged
from safety_geometry.geometry.separability import Scores, beyond
from safety_geometry.judges.behaviour import METRICS, compare
from safety_geometry.judges.pairs import pair_contrast, refusal_dprime
from safety_geometry.stats.estimates import holm, permutation_p, spearman, spearman_block_bootstrap, wilson
from safety_geometry.stats.pooling import Estimate, stouffer

METRIC = {metric.name: metric for metric in METRICS}
SEEDS = 3


@dataclass(frozen=True)
class Rule:
    """One way to decide. truths: θ of a true effect, of none and of the opposite (of a level: above, at and below τ);
    observed: SD of the seeds' true effects in the wide reference, which is that of their estimates (the root mean square
    over the rule's claims) less what sampling adds, or not less where that leaves nothing; limits: what a seed's θ stays
    within; draw(θ of the seeds, rng) gives what is measured."""

    name: str
    rule: str
    margin: float
    truths: tuple[float, float, float]
    observed: float
    draw: Callable[[np.ndarray, np.random.Generator], Measured]
    threshold: float = 0.0
    expected: tuple[str, str, str] = (HOLDS, NO_EFFECT, FAILS)
    limits: tuple[float, float] = (-np.inf, np.inf)

    def effects(self, truth: float, sd: float, normal: np.ndarray) -> np.ndarray:
        """θ of the seeds from normal values."""
        return np.clip(truth + sd * normal, *self.limits)


def wrong(rule: Rule, verdict: str, truth: float, size: float) -> bool:
    """Whether a verdict contradicts θ; `size` is what has to be small where there is no effect (θ but for edits)."""
    if rule.rule == "constant":
        return (verdict == HOLDS and abs(truth) >= rule.margin) or (verdict == FAILS and abs(truth) <= rule.margin)
    if rule.rule == "level":
        return (verdict == HOLDS and truth <= rule.threshold) or (verdict == FAILS and truth >= rule.threshold)
    return (
        (verdict == HOLDS and truth <= rule.threshold)
        or (verdict == FAILS and truth >= -rule.threshold)
        or (verdict == NO_EFFECT and abs(size) >= rule.margin)
    )


@dataclass(frozen=True)
class Rates:
    """Of runs: shares of verdicts, and shares of wrong ones (on these seeds, over seeds)."""

    verdicts: Counter
    over_seeds: Counter
    wrong: int
    wrong_over_seeds: int
    runs: int

    def too_many(self) -> bool:
        """More wrong decisions than 5 % explain, on either question (p below .001)."""
        return any(k > 0 and bdtrc(k - 1, self.runs, 0.05) < 0.001 for k in (self.wrong, self.wrong_over_seeds))

    def share(self, verdict: str) -> float:
        return self.verdicts[verdict] / self.runs


def simulated(rule: Rule, truth: float, sd: float, runs: int, seed: int) -> Rates:
    rng = np.random.default_rng([seed, round(1000 * abs(truth)), round(1000 * sd), len(rule.name)])
    verdicts, over_seeds, errors = Counter(), Counter(), [0, 0]
    # rounded, as a truth at the threshold has to stay there
    everywhere = round(float(rule.effects(truth, sd, ndtri((np.arange(1000) + 0.5) / 1000)).mean()), 9) if sd else truth
    for _ in range(runs):
        effects = rule.effects(truth, sd, rng.standard_normal(SEEDS))
        drawn = rule.draw(effects, rng)
        measured, sizes = drawn if isinstance(drawn, tuple) else (drawn, effects)
        outcome = judged(rule.rule, replace(measured, threshold=rule.threshold), rule.margin)
        verdicts[outcome.verdict] += 1
        over_seeds[outcome.verdict_over_seeds] += 1
        these = float(effects.mean()) if sd else truth
        size = these if sizes is effects else float(np.mean(sizes))
        errors[0] += wrong(rule, outcome.verdict, these, size)
        errors[1] += wrong(rule, outcome.verdict_over_seeds, everywhere, everywhere)
    return Rates(verdicts, over_seeds, *errors, runs)


# ---------------------------------------------------------------------------------------------- what tables would say


def each(one: Callable[[float, np.random.Generator], Estimate]):
    """A draw from what one seed gives."""

    def draw(effects: np.ndarray, rng: np.random.Generator) -> Measured:
        return Measured({seed: one(effect, rng) for seed, effect in enumerate(effects)}, "simulated")

    return draw


def row(a: np.ndarray, b: np.ndarray, metric: str, rng: np.random.Generator) -> Estimate:
    """The estimate that claims take from a row of contrasts."""
    made = compare(a, b, METRIC[metric], int(rng.integers(2**31)), draws=200, flips=19)
    return paired(made | {"metric": metric})


def paired_rates(n: int, changed: float = 0.2):
    """Paired outcomes 0 and 1 with this share of changed prompts at least."""

    def one(effect: float, rng: np.random.Generator) -> Estimate:
        effect = float(np.clip(effect, -0.95, 0.95))
        share = max(changed, abs(effect))
        kind = rng.random(n)
        plus, minus = (share + effect) / 2, (share - effect) / 2
        ties = (rng.random(n) < 0.5).astype(float)
        a = np.where(kind < plus, 1.0, np.where(kind < plus + minus, 0.0, ties))
        b = np.where(kind < plus, 0.0, np.where(kind < plus + minus, 1.0, ties))
        return row(a, b, "any_refusal", rng)

    return each(one)


def paired_means(n: int):
    """Paired scores 0, 1, 2 whose differences have an SD near .8."""

    def one(effect: float, rng: np.random.Generator) -> Estimate:
        b = rng.integers(0, 3, n).astype(float)
        moved = rng.random(n) < 0.35
        up = rng.random(n) < 0.5 + effect / 2
        a = np.where(moved, np.clip(b + np.where(up, 1, -1), 0, 2), b)
        # clipping shrinks the mean change to .35 × 2/3 of the tilt: the rest is added by whole changes of as many prompts
        rest = effect - 0.35 * effect * 2 / 3
        jump = rng.random(n) < min(abs(rest), 1)
        a = a + np.where(jump, np.sign(rest), 0)
        return row(a, b, "benign_mean", rng)

    return each(one)


def pairs(n: int, safe: float = 0.4):
    """d′ of matched pairs: the look-alikes are refused at this rate, independently of their counterparts."""

    def one(effect: float, rng: np.random.Generator) -> Estimate:
        harmful = (rng.random(n) < ndtr(ndtri(safe) + effect)).astype(float)
        got = refusal_dprime(harmful, (rng.random(n) < safe).astype(float), int(rng.integers(2**31)), draws=200)
        return Estimate(got.value, got.lo, got.hi, n).of_few()

    return each(one)


def pair_differences(n: int, kept: float = 0.7):
    """d′ of a checkpoint less that of another, which answers this share of the pairs alike."""

    def one(effect: float, rng: np.random.Generator) -> Estimate:
        u = rng.random((2, 2, n))  # checkpoint, kind of prompt, pair
        u[1] = np.where(rng.random(n) < kept, u[0], u[1])
        frames = [
            pd.DataFrame({"pair": range(n), "harmful": 1.0 * (each[0] < ndtr(shift)), "safe": 1.0 * (each[1] < 0.4)})
            for each, shift in zip(u, (0.3 + effect, 0.3), strict=True)
        ]
        return paired(pair_contrast(*frames, int(rng.integers(2**31)), draws=200, flips=19).iloc[0].to_dict())

    return each(one)


def beside_rulers(n: int, quality: float = 1.5):
    """AUROC of a carrier less that of a ruler of a known one, whose scores are correlated."""
    middle = float(ndtr(quality / np.sqrt(2)))

    def one(effect: float, rng: np.random.Generator) -> Estimate:
        better = np.sqrt(2) * ndtri(np.clip(middle + effect, 0.001, 0.999))
        z = rng.standard_normal((2, 2, n))  # score, class, prompt
        z[1] = 0.6 * z[0] + 0.8 * z[1]
        z[:, 0] += np.array([better, quality])[:, None]
        got = beyond(Scores(*z[0]), Scores(*z[1]), 200, rng)
        estimate = Estimate(got["difference"], got["difference_lo"], got["difference_hi"], n)
        return roomy(estimate.of_few(), got["changed"], 1.0)

    return each(one)


def rate(n: int):
    def one(effect: float, rng: np.random.Generator) -> Estimate:
        got = wilson(int(rng.binomial(n, float(np.clip(effect, 0, 1)))), n)
        return Estimate(got.value, got.lo, got.hi, n)

    return each(one)


def bootstrapped(n: int, sd: float):
    """A mean of n normal values with its bootstrap interval: coupling terms, readouts without a test."""

    def one(effect: float, rng: np.random.Generator) -> Estimate:
        values = effect + sd * rng.standard_normal(n)
        means = rng.multinomial(n, np.full(n, 1 / n), size=200) @ values / n
        return Estimate(float(values.mean()), *map(float, np.quantile(means, (0.025, 0.975))), n).of_few()

    return each(one)


def tested_cell(n: int, directions: int, cells: int = 6, between: float = 0.6, within: float = 0.4):
    """Δ_control of a primary cell with its permutation p, Holm over the regime's cells. The target is one direction among
    others: beside θ it has an effect of its own, as each control has, with this SD. Of "no effect" the two together count, since
    this direction's effect is what is measured; it holds for what it has beyond other directions."""

    def draw(effects: np.ndarray, rng: np.random.Generator) -> tuple[Measured, list[float]]:
        by_seed, p, sizes = {}, np.empty((cells, len(effects))), []
        for seed, effect in enumerate(effects):
            controls = between * rng.standard_normal((cells, directions))
            own = between * rng.standard_normal(cells) + np.r_[effect, np.zeros(cells - 1)]
            noise = within * rng.standard_normal(n)  # of the prompts, the target's difference from the controls
            sizes.append(own[0])
            own[0] += noise.mean()
            for cell in range(cells):
                centre = (controls[cell].sum() + own[cell]) / (directions + 1)
                p[cell, seed] = permutation_p(own[cell] - centre, controls[cell] - centre, "two-sided").p
            value, half = own[0] - controls[0].mean(), 1.96 * np.std(noise) / np.sqrt(n)
            by_seed[seed] = Estimate(value, value - half, value + half, n).of_few()
        signs = [estimate.value for estimate in by_seed.values()]
        joined = [stouffer(signs, p[0]), *(stouffer(rng.standard_normal(len(effects)), row) for row in p[1:])]
        return Measured(by_seed, "simulated", p=float(holm(joined)[0]), p_smallest=0.0), sizes

    return draw


def seeds_only(sd: float):
    """No interval below a seed: its value has the error `sd`."""
    return each(lambda effect, rng: Estimate(effect + sd * rng.standard_normal()))


def series(saves: int = 40):
    """Correlated changes summed up with a pull to the mean (lag-1 of .5), levels and first differences at two block
    lengths; θ is Spearman's rho."""

    def correlation(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> Estimate:
        parts = [spearman_block_bootstrap(x, y, length, rng, draws=150) for length in (5, 10, 20)]
        value = spearman(x, y)
        ends = min(part.lo for part in parts), max(part.hi for part in parts)
        return Estimate(value, min(ends[0], value), max(ends[1], value), len(x))

    def draw(effects: np.ndarray, rng: np.random.Generator) -> Measured:
        levels, changes = {}, {}
        for seed, effect in enumerate(effects):
            pearson = 2 * np.sin(np.pi * np.clip(effect, -0.95, 0.95) / 6)
            step = rng.standard_normal((saves + 20, 2)) @ np.linalg.cholesky([[1, pearson], [pearson, 1]]).T
            path = np.zeros_like(step)
            for i in range(1, len(step)):
                path[i] = 0.5 * path[i - 1] + step[i]
            x, y = path[20:].T
            levels[seed] = correlation(x, y, rng)
            changes[seed] = correlation(np.diff(x), np.diff(y), rng)
        lo = np.mean([e.value for e in changes.values()]) - pooled_below(changes)
        hi = np.mean([e.value for e in changes.values()]) + pooled_below({s: e.turned() for s, e in changes.items()})
        return Measured(levels, "simulated", barrier="" if lo > 0 else "trend", barrier_fails="" if hi < 0 else "trend")

    return draw


def pooled_below(parts: dict[int, Estimate]) -> float:
    return float(np.sqrt(sum((e.value - e.lo) ** 2 for e in parts.values()))) / len(parts)


def chosen_layers(share: float):
    """Move of R's layer as a share of the layers; each of two sites is the true one with this share, else any layer
    alike."""

    def one(effect: float, rng: np.random.Generator) -> Estimate:
        places = np.array([0.5 + effect / 2, 0.5 - effect / 2])
        missed = rng.random(2) > share
        places = np.where(missed, rng.random(2), places)
        half = np.sqrt(2) * choice_error(share)
        value = float(places[0] - places[1])
        return Estimate(value, value - half, value + half)

    return each(one)


@functools.cache
def rules(
    direct: int = 60, lookalike: int = 60, utility: int = 60, fit: int = 48, readout: int = 6, select: int = 24
) -> tuple[Rule, ...]:
    """Every distinct rule at the reference's n."""
    m = {name: quantity.margin for name, quantity in MARGINS.items()}
    rates, shares = (-0.95, 0.95), (0.0, 1.0)
    return (
        Rule("paired rates, difference", "difference", m["any_refusal"], (0.25, 0.0, -0.25), 0.25, paired_rates(lookalike),
             limits=rates),
        Rule("paired rates, few changes", "difference", m["direct_asr"], (0.2, 0.0, -0.2), 0.12, paired_rates(direct, 0.02),
             limits=rates),
        Rule("paired means, difference", "difference", m["benign_mean"], (0.4, 0.0, -0.4), 0.09, paired_means(utility),
             limits=(-1.0, 1.0)),
        Rule("rate, level", "level", m["any_refusal"], (0.7, 0.5, 0.3), 0.17, rate(lookalike), 0.5, (HOLDS, "", FAILS), shares),
        Rule("coupling, difference", "difference", m["c_cos"], (0.2, 0.0, -0.2), 0.02, bootstrapped(fit, 0.28)),
        Rule("coupling, constant", "constant", m["c_cos"], (0.2, 0.0, -0.2), 0.01, bootstrapped(fit, 0.28),
             expected=(FAILS, HOLDS, FAILS)),
        Rule("beyond shuffled labels", "difference", 0.09, (0.25, 0.0, -0.25), 0.11, bootstrapped(fit, 0.17), 0.09),
        Rule("edits with permutation p", "difference", m["log_odds"], (2.5, 0.0, -2.5), 0.41, tested_cell(readout, 399)),
        Rule("matched pairs, difference", "difference", m["refusal_dprime"], (1.2, 0.0, -1.2), 0.2, pairs(60),
             expected=(HOLDS, "", FAILS)),
        Rule("matched pairs of two checkpoints", "difference", m["refusal_dprime"], (1.2, 0.0, -1.2), 0.31,
             pair_differences(60), expected=(HOLDS, "", FAILS)),
        Rule("carriers beside rulers", "difference", m["auroc"], (0.13, 0.0, -0.3), 0.05, beside_rulers(select),
             expected=(HOLDS, "", FAILS), limits=(-0.85, 0.143)),
        Rule("seeds only, constant", "constant", m["erank"], (0.5, 0.0, -0.5), 0.09, seeds_only(0.02),
             expected=(FAILS, HOLDS, FAILS)),
        Rule("seeds only, difference", "difference", m["angle"], (20.0, 0.0, -20.0), 4.4, seeds_only(0.8)),
        Rule("series, difference", "difference", m["rho"], (0.8, 0.0, -0.8), 0.49, series(), limits=rates),
        Rule("site of R, difference", "difference", m["r_layer"], (0.7, 0.0, -0.7), 0.16, chosen_layers(0.95), limits=(-1.0, 1.0)),
    )  # fmt: skip
