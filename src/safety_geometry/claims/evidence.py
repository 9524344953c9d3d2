"""What the tables of all seeds say, a seed at a time: rows of a regime, contrasts, rates, coupling at frozen sites.

Every method gives values by seed. It raises NotApplicable where the study lacks what is asked for.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from safety_geometry.claims.rules import NotApplicable, Undecidable
from safety_geometry.stats.estimates import wilson
from safety_geometry.stats.pooling import Estimate, pooled

ADVERSARIAL, PLAIN, FROZEN_POOL = "r2d2", "sft", "sft_refusal"  # the regimes that the claims are about
FEWEST_CHANGES = 6  # with fewer changed prompts a bootstrap interval of a mean is too narrow to exclude anything
# How far one prompt's outcome can change; of d' how far both rates move it at one half, √(2π) each.
RANGE = {"benign_mean": 2.0, "usefulness": 1.0, "refusal_dprime": 5.0}
BySeed = dict[int, Estimate]


@dataclass(frozen=True)
class Evidence:
    tables: Mapping[str, pd.DataFrame]

    def table(self, name: str) -> pd.DataFrame:
        if name not in self.tables or not len(self.tables[name]):
            raise NotApplicable(f"the study has no table {name}")
        return self.tables[name]

    def column(self, table: str, *names: str) -> pd.DataFrame:
        """A table that has these columns."""
        frame = self.table(table)
        if missing := [name for name in names if name not in frame]:
            raise NotApplicable(f"{table} has no column {', '.join(missing)}")
        return frame

    def rows(self, name: str, regime: str) -> pd.DataFrame:
        """Rows of a regime's anchors, by seed and step."""
        frame = self.table(name)
        frame = frame[frame["regime"] == regime]
        if not len(frame):
            raise NotApplicable(f"the study has no regime {regime}")
        return frame[frame["anchor"].notna()].sort_values(["seed", "step"], kind="stable").reset_index(drop=True)

    def reference(self, regime: str) -> int:
        """Step of a regime's reference anchor."""
        rows = self.rows("five_anchor", regime)
        named = rows.loc[rows["anchor"] == "reference", "step"]
        return int(named.iloc[0]) if len(named) else int(rows["step"].min())

    def last(self, regime: str) -> int:
        """Step of a regime's last anchor, which is not its reference."""
        step = int(self.rows("five_anchor", regime)["step"].max())
        if step <= self.reference(regime):
            raise NotApplicable(f"{regime} has no anchor after its reference")
        return step

    def latest(self, regime: str) -> int:
        """Step of a regime's last anchor, which may be its only one."""
        return int(self.rows("five_anchor", regime)["step"].max())

    # ------------------------------------------------------------------------------------------------ behaviour

    def rate(self, regime: str, metric: str, step: int) -> BySeed:
        """A rate of five_anchor at a step."""
        self.column("five_anchor", metric)
        rows = self.rows("five_anchor", regime)
        rows = rows[(rows["step"] == step) & rows[metric].notna()]
        if not len(rows):
            raise NotApplicable(f"{metric} was not measured at step {step} of {regime}")
        ends = zip(*(rows[metric + end] for end in ("", "_lo", "_hi", "_n")), strict=True)
        return {int(seed): Estimate(*map(float, row)) for seed, row in zip(rows["seed"], ends, strict=True)}

    def contrast(self, kind: str, metric: str, first: tuple[str, int], other: tuple[str, int]) -> BySeed:
        """Paired differences, first minus other, of two checkpoints (regime, step)."""
        frame = self.table("contrasts")
        frame = frame[(frame["contrast"] == kind) & (frame["metric"] == metric)]
        rows, sign = at(frame, first, other), 1
        if not len(rows):
            rows, sign = at(frame, other, first), -1
        if not len(rows):
            names = [f"{regime}:{step}" for regime, step in (first, other)]
            raise NotApplicable(f"{metric} of {names[0]} and {names[1]} was not compared on the same prompts")
        estimates = {int(row["seed"]): paired(row) for row in rows.to_dict("records")}
        return {seed: e if sign > 0 else e.turned() for seed, e in estimates.items()}

    def over_time(self, metric: str, regime: str) -> BySeed:
        """The last anchor minus the reference."""
        return self.contrast("time", metric, (regime, self.last(regime)), (regime, self.reference(regime)))

    def equal_steps(self, metric: str, first: str, other: str) -> list[int]:
        """Steps at which two regimes answered the same prompts, in order."""
        for regime in (first, other):
            self.rows("five_anchor", regime)
        frame = self.table("contrasts")
        frame = frame[(frame["contrast"] == "regime") & (frame["metric"] == metric)]
        frame = frame[frame["step"] == frame["other_step"]]
        sides = frame[["regime", "other_regime"]].apply(set, axis=1) == {first, other}
        steps = sorted({int(step) for step in frame.loc[sides, "step"]}) if len(frame) else []
        if not steps:
            raise NotApplicable(f"{first} and {other} have no {metric} at equal steps")
        return steps

    def between(self, metric: str, first: str, other: str, *, early: bool) -> tuple[BySeed, int]:
        """first minus other at equal steps, and the step: early, the first one from r2d2's reference on; else the
        last."""
        steps = self.equal_steps(metric, first, other)
        since = [step for step in steps if step >= self.reference(ADVERSARIAL)]
        if not since:
            raise NotApplicable(f"{first} and {other} have no equal step from r2d2's reference on")
        step = since[0] if early else since[-1]
        return self.contrast("regime", metric, (first, step), (other, step)), step

    def require_attack(self, metric: str) -> None:
        """The optimised suffixes beat the unoptimised ones on the checkpoint that they were made on, seeds pooled."""
        if metric != "fixed_asr":
            return
        attacks = self.table("attacks")
        attacks = attacks[(attacks["attack"] == "gcg") & (attacks["kind"] == "fixed")]
        if not len(attacks):
            raise NotApplicable("the study has no fixed-source attack")
        source = str(attacks["source"].iloc[0])
        regime, _, step = source.partition(":")
        gain = pooled(self.contrast("arm", metric, (regime, int(step)), (regime, int(step))))
        if not gain.wide[0] > 0:
            raise Undecidable(
                f"the attack does not beat its unoptimised arm on its source {source}: difference {gain.value:.3f} "
                f"[{gain.wide[0]:.3f}, {gain.wide[1]:.3f}], {gain.n:.0f} requests a seed"
            )

    # ------------------------------------------------------------------------------------------------- coupling

    def at_candidates(self, regime: str, step: int) -> set[int]:
        """Seeds in which R is read at a candidate that is no R at a step (r_status): such values decide nothing."""
        if "coupling" not in self.tables or "r_status" not in self.tables["coupling"]:
            return set()
        rows = self.tables["coupling"]
        rows = rows[(rows["regime"] == regime) & (rows["step"] == step) & (rows["r_status"] == "candidate")]
        return set(rows["seed"])

    def companion(self, name: str, quantity: str, regime: str, step: int) -> pd.DataFrame:
        """Rows of a companion of coupling at a step, by seed."""
        rows = self.rows("coupling_controls", regime)
        rows = rows[(rows["companion"] == name) & (rows["quantity"] == quantity) & (rows["step"] == step)]
        rows = rows[rows["value"].notna() & ~rows["seed"].isin(self.at_candidates(regime, step))]
        if not len(rows):
            raise NotApplicable(f"coupling_controls has no {name} {quantity} of {regime} at step {step}")
        return rows

    def frozen(self, quantity: str, regime: str, step: int) -> BySeed:
        """A coupling term with both carriers at the sites of the regime's reference anchor.

        Where the study has no interval of it (no companion frozen_sites), the distances of the own sites' at the same
        checkpoint stand in, and of C_cos, where it has none of its own, those at the common layers.
        """
        rows = self.rows("coupling", regime)
        rows = rows[(rows["step"] == step) & rows[f"{quantity}_frozen"].notna()]
        rows = rows[~rows["seed"].isin(self.at_candidates(regime, self.reference(regime)))]
        if not len(rows):
            raise NotApplicable(f"{regime} has no {quantity} at frozen sites at step {step}: it has no refusal carrier")
        intervals = self.intervals("frozen_sites", quantity, regime, step)
        for companion in ("own_sites", "fixed_layer"):
            intervals = intervals or self.intervals(companion, quantity, regime, step)
        out = {}
        for row in rows.to_dict("records"):
            below, above = intervals.get(int(row["seed"]), (math.nan, math.nan))
            value = row[f"{quantity}_frozen"]
            out[int(row["seed"])] = Estimate(value, value - below, value + above, fit_prompts(row))
        return out

    def intervals(self, companion: str, quantity: str, regime: str, step: int) -> dict[int, tuple[float, float]]:
        """Distances of the ends from the value by seed (means over layers, where there are several); empty where the
        companion is not there."""
        try:
            rows = self.companion(companion, quantity, regime, step)
        except NotApplicable:
            return {}
        distances = rows.assign(_below=rows["value"] - rows["lo"], _above=rows["hi"] - rows["value"])
        means = distances.groupby("seed")[["_below", "_above"]].mean().dropna().clip(lower=0.0)
        return {int(seed): (below, above) for seed, below, above in means.itertuples()}


def fit_prompts(row: Mapping) -> float:
    return float(min(row.get("n_harmful", math.nan), row.get("n_benign", math.nan)))


def at(frame: pd.DataFrame, first: tuple[str, int], other: tuple[str, int]) -> pd.DataFrame:
    same = (frame["regime"] == first[0]) & (frame["step"] == first[1])
    return frame[same & (frame["other_regime"] == other[0]) & (frame["other_step"] == other[1])]


def paired(row: Mapping) -> Estimate:
    """A row of contrasts. A score interval of rates has half a prompt more on either side. A bootstrap of a mean in
    which hardly a prompt changes leaves no room for what none of them showed: Wilson's upper end of 0 in n, times the
    range of an outcome, does."""
    estimate = Estimate(*(float(row[name]) for name in ("value", "lo", "hi", "n")))
    if row["test"] != "sign_flip":
        return estimate.of_rates()
    return roomy(estimate.of_few(), row["changed"], RANGE.get(row["metric"], 1.0))


def roomy(estimate: Estimate, changed: float, reach: float) -> Estimate:
    """The same with room for what none of n prompts showed, where fewer than `FEWEST_CHANGES` of them changed; reach:
    how far all of them together could move it."""
    if changed >= FEWEST_CHANGES:
        return estimate
    value, unseen = estimate.value, reach * wilson(0, int(estimate.n)).hi
    return Estimate(value, min(estimate.lo, value - unseen), max(estimate.hi, value + unseen), estimate.n)


def turned(by_seed: BySeed) -> BySeed:
    return {seed: estimate.turned() for seed, estimate in by_seed.items()}


def shared(*parts: BySeed) -> list[int]:
    """Seeds that all parts have. Raises NotApplicable where there is none."""
    seeds = sorted(set.intersection(*(set(part) for part in parts)))
    if not seeds:
        raise NotApplicable("no seed has all that is compared")
    return seeds
