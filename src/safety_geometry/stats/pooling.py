"""Estimates of several seeds as one: an interval for these seeds, and one for seeds like them.

`conditional`: the seeds are fixed, their prompts are resampled. Each seed brings an interval of its own, and the
distances of its ends add in squares (Zou and Donner 2008, "MOVER"), so that a score interval stays one where nothing
changes: lo = x̄ − √Σ(x_s − lo_s)² / S, and hi alike.
`generalising`: the seeds are a sample. x̄ ± t(S − 1) · sd / √S, and never narrower than the conditional one, since
three seeds that agree by chance are no proof.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

POWER = 0.8
Ends = tuple[float, float]
NOTHING: Ends = (math.nan, math.nan)


@dataclass(frozen=True)
class Estimate:
    """One seed's value and its 95 % interval over `n` units; lo and hi are NaN where nothing below a seed is
    resampled."""

    value: float
    lo: float = math.nan
    hi: float = math.nan
    n: float = math.nan

    def turned(self) -> "Estimate":
        """The same with the other sign."""
        return Estimate(-self.value, -self.hi, -self.lo, self.n)

    def of_rates(self) -> "Estimate":
        """The same, of a difference of two rates of n units, with half a unit more on either side: where nearly all
        that change change one way, a score interval is a little too short for a one-sided test."""
        return Estimate(self.value, self.lo - 0.5 / self.n, self.hi + 0.5 / self.n, self.n)

    def of_few(self) -> "Estimate":
        """The same, of a bootstrap over n units, which is too narrow for few: by √(n / (n − 1)) and by Student's t in
        place of the normal."""
        if not self.n > 1:
            return Estimate(self.value, math.nan, math.nan, self.n)
        wider = math.sqrt(self.n / (self.n - 1)) * float(stdtrit(self.n - 1, 0.975)) / normal(0.975)
        below, above = wider * (self.value - self.lo), wider * (self.hi - self.value)
        return Estimate(self.value, self.value - below, self.value + above, self.n)


@dataclass(frozen=True)
class Pooled:
    """Estimates of `n_seeds` seeds pooled; `n` units a seed (mean). Intervals of 95 % (wide) and of 90 % (narrow: both
    one-sided tests of equivalence at 5 %)."""

    value: float
    wide: Ends
    narrow: Ends
    wide_seeds: Ends
    narrow_seeds: Ends
    n: float
    n_seeds: int
    detectable: float
    """The least effect that the conditional interval shows with a power of .8."""


def combined(weights: Sequence[float], estimates: Sequence[Estimate]) -> Estimate:
    """Σ wᵢxᵢ of estimates that are independent of one another, or treated so (conservative for a difference of values
    on the same prompts); n is the least."""
    signed = [e if w >= 0 else e.turned() for w, e in zip(weights, estimates, strict=True)]
    value = sum(w * e.value for w, e in zip(weights, estimates, strict=True))
    below = math.sqrt(sum((w * (e.value - e.lo)) ** 2 for w, e in zip(weights, signed, strict=True)))
    above = math.sqrt(sum((w * (e.hi - e.value)) ** 2 for w, e in zip(weights, signed, strict=True)))
    return Estimate(value, value - below, value + above, min(e.n for e in estimates))


def average(estimates: Sequence[Estimate]) -> Estimate:
    """Mean of estimates on the same prompts: their distances are averaged, as if they erred together (conservative)."""
    columns = np.array([(e.value, e.lo, e.hi, e.n) for e in estimates])
    return Estimate(*(float(x) for x in columns.mean(axis=0)))


def pooled(by_seed: Mapping[int, Estimate]) -> Pooled:
    """Seeds weigh alike. Where a seed has no interval of its own, the seeds are the only replicates: both intervals
    are the generalising one. Raises ValueError for no seed or a value that is not finite."""
    estimates = list(by_seed.values())
    if not estimates or not all(math.isfinite(e.value) for e in estimates):
        raise ValueError("pooling needs at least one seed, and finite values")
    values = np.array([e.value for e in estimates])
    count, mean = len(values), float(values.mean())
    wide, narrow = conditional(estimates), conditional(estimates, 0.90)
    wide_seeds, narrow_seeds = (hull(t_interval(values, c), e) for c, e in ((0.95, wide), (0.90, narrow)))
    own = math.isfinite(wide[0]) and math.isfinite(wide[1])
    if own:
        spread = (wide[1] - wide[0]) / (2 * normal(0.975))
        detectable = (normal(0.975) + normal(POWER)) * spread
    else:
        wide, narrow = wide_seeds, narrow_seeds
        detectable = math.nan
        if count > 1:
            points = float(stdtrit(count - 1, 0.975)) + float(stdtrit(count - 1, POWER))
            detectable = points * float(values.std(ddof=1)) / math.sqrt(count)
    n = float(np.mean([e.n for e in estimates]))
    return Pooled(mean, wide, narrow, wide_seeds, narrow_seeds, n, count, detectable)


def conditional(estimates: Sequence[Estimate], confidence: float = 0.95) -> Ends:
    """Interval of the mean over fixed seeds; ends are rescaled from 95 % as those of a normal estimate."""
    scale = normal(0.5 + confidence / 2) / normal(0.975) / len(estimates)
    mean = sum(e.value for e in estimates) / len(estimates)
    below = math.sqrt(sum((e.value - e.lo) ** 2 for e in estimates))
    above = math.sqrt(sum((e.hi - e.value) ** 2 for e in estimates))
    return mean - scale * below, mean + scale * above


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Ends:
    """Student's interval of the mean; NaN of a single value."""
    x = np.asarray(values, np.float64)
    if len(x) < 2:
        return NOTHING
    reach = float(stdtrit(len(x) - 1, 0.5 + confidence / 2)) * float(x.std(ddof=1)) / math.sqrt(len(x))
    return float(x.mean()) - reach, float(x.mean()) + reach


def hull(first: Ends, second: Ends) -> Ends:
    """Both intervals in one; the first where the second is none, and none where the first is none."""
    if not all(map(math.isfinite, (*first, *second))):
        return first
    return min(first[0], second[0]), max(first[1], second[1])


def stouffer(effects: Sequence[float], p_values: Sequence[float]) -> float:
    """Two-sided p of independent two-sided p values whose effects have signs: z = Σ sign · Φ⁻¹(1 − p/2) / √S."""
    z = [math.copysign(normal(1 - p / 2), effect) for effect, p in zip(effects, p_values, strict=True)]
    return float(min(1.0, 2 * (1 - ndtr(abs(sum(z)) / math.sqrt(len(z))))))


def needed_n(n: float, reach: float, wanted: float) -> float:
    """Units at which an interval reaches `wanted` that reaches `reach` at n: n (reach / wanted)²; ∞ where nothing is
    left."""
    return math.ceil(n * (reach / wanted) ** 2 - 1e-9) if wanted > 0 else math.inf


def planned_n(sd: float, margin: float, seeds: int) -> int:
    """Units a seed at which an effect of `margin` is shown, and none shown to be within it, each with a power of .8.

    sd: of one unit's (paired) difference. The second asks for more: both one-sided tests pass with probability 2Φ(m/SE
    − z.95) − 1 = .8, that is SE = margin / (z.95 + z.9).
    """
    error = margin / (normal(0.95) + normal(0.5 + POWER / 2))
    return math.ceil((sd / error) ** 2 / seeds - 1e-9)


def least_detectable(sd: float, n: float, seeds: int) -> float:
    """Effect that a 95 % interval excludes 0 for with a power of .8: (z.975 + z.8) sd / √(n S)."""
    return (normal(0.975) + normal(POWER)) * sd / math.sqrt(n * seeds)


def normal(share: float) -> float:
    return float(ndtri(share))
