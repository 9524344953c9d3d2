"""Claims about transfer: what an attack's success on another checkpoint follows (arXiv 2606.16349, Table 5).

All seeds of a study are tested together (`transfer_statistics`); the interval resamples sources, targets and seeds, so
that it is the conditional and the generalising one. A study that transfers from fewer than five sources has none, and
the claims do not apply to it. Undecidable are attacks that do not beat their unoptimised arm, and predictors that rank
the targets alike (no outcome could tell them apart).
"""

import math

import pandas as pd

from safety_geometry.attacks.transfer import ARMS, BY_NAME, FAMILIES, analysis_rows, checkpoint_values, family_rows
from safety_geometry.attacks.transfer_statistics import FEWEST_LABELS, pigeonhole
from safety_geometry.claims.evidence import ADVERSARIAL, PLAIN, Evidence
from safety_geometry.claims.rules import ALPHA, Measured, NotApplicable, Undecidable
from safety_geometry.stats.estimates import holm, sign_flip_exact, spearman
from safety_geometry.stats.pooling import Estimate
from safety_geometry.stats.seeds import generator

COUPLING, BEHAVIOUR, DRIFT = "target_hrci_repr", "target_fixed_asr", "target_refusal_score_drift"
PLAIN_PREDICTORS = (COUPLING, BEHAVIOUR, DRIFT)
DRAWS = 4000


def transfers(evidence: Evidence, regime: str) -> pd.DataFrame:
    rows = evidence.table("transfer")
    rows = rows[rows["regime"] == regime]
    if not len(rows):
        raise NotApplicable(f"no attack was transferred within the regime {regime}")
    return rows


def strong_attacks(evidence: Evidence, regime: str) -> tuple[set[str], str]:
    """Optimised attacks that beat their unoptimised arm on the checkpoints of the regime that they were made on, and
    what is to be said of the others. Signs are flipped by behaviour: one behaviour's attacks on several checkpoints,
    and under several seeds, are no independent tries."""
    transferred, strong, weak = set(transfers(evidence, regime)["attack"]), set(), []
    rows = evidence.table("attacks")
    rows = rows[rows["source"].str.startswith(f"{regime}:")]
    for attack, arm in ARMS.items():
        tried = rows[rows["attack"] == attack].dropna(subset=["success", "success_start"])
        if attack not in transferred:
            continue
        if not len(tried):
            weak.append(f"{attack} was not compared with {arm} on its own sources")
            continue
        gain = tried["success"].astype(int) - tried["success_start"].astype(int)
        p, smallest = sign_flip_exact(gain.groupby(tried["behaviour"]).sum())
        if p < ALPHA and gain.mean() > 0:
            strong.add(attack)
        else:
            weak.append(
                f"{attack} does not beat {arm} on its own sources (by {gain.mean():.3f}, p = {p:.3g}, least "
                f"possible {smallest:.3g}, "
                f"{tried['behaviour'].nunique()} behaviours on {tried['source'].nunique()} sources)"
            )
    return strong, "; ".join(weak) or "no optimised attack was transferred"


def deciding_family(evidence: Evidence, *regimes: str) -> str:
    """`all` where every optimised attack that was transferred is strong in all the regimes, else the one that is."""
    strong_by_regime = [strong_attacks(evidence, regime) for regime in regimes]
    common = set.intersection(*(strong for strong, _ in strong_by_regime))
    for regime, (strong, words) in zip(regimes, strong_by_regime, strict=True):
        if not strong:
            raise Undecidable(f"{regime}: {words}")
    if not common:
        raise Undecidable(f"no attack beats its unoptimised arm in both {' and '.join(regimes)}")
    used = {attack for regime in regimes for attack in transfers(evidence, regime)["attack"]} & set(ARMS)
    return "all" if common == used else sorted(common)[0]


def predictor_row(evidence: Evidence, regime: str, family: str, name: str) -> pd.Series:
    """Of the only seed, or of all seeds together."""
    rows = evidence.table("transfer_predictors")
    rows = rows[(rows["regime"] == regime) & (rows["attack"] == family) & (rows["predictor"] == name)]
    if rows["seed"].isna().any():
        rows = rows[rows["seed"].isna()]
    if not len(rows) or not math.isfinite(rows["rho"].iloc[0]):
        raise NotApplicable(
            f"{name} or the transfer within {regime} ({family} attacks) is unknown or the same everywhere"
        )
    return rows.iloc[0]


def require_interval(row: pd.Series) -> None:
    if not math.isfinite(row["lo"]):
        raise NotApplicable(
            f"an interval of transfer takes {FEWEST_LABELS} source and target checkpoints of {row['regime']}, and here "
            f"are {checkpoints(row, 'source')} and {checkpoints(row, 'target')}"
        )


def follows(regime: str, name: str, sign: int, among: tuple[str, ...] = ()):
    """Spearman of a predictor with transfer, turned so that the paper's sign is positive; p with Holm over `among`."""

    def measure(evidence: Evidence) -> Measured:
        family = deciding_family(evidence, regime)
        row = predictor_row(evidence, regime, family, name)
        require_interval(row)
        p = row["p"]
        if among:
            p = holm([p_of(evidence, regime, family, other) for other in among])[among.index(name)]
        smallest = min(1.0, row["p_smallest"] * max(len(among), 1))
        if smallest >= ALPHA:
            raise NotApplicable(
                f"relabelling the {checkpoints(row, 'target')} of {regime} cannot give a p below {smallest:.3f}"
            )
        what = (
            f"Spearman's rho of {name} with transfer within {regime}, times the paper's sign ({row['attack']} attacks, "
            f"{checkpoints(row, 'target')}; ties allow {row['rho_tie_ceiling']:.3f})"
        )
        ends = sorted((sign * row["lo"], sign * row["hi"]))
        by_seed = rho_by_seed(evidence, regime, family, name, sign) or {0: Estimate(sign * row["rho"], n=row["n"])}
        return Measured(by_seed, what, p=float(p), p_smallest=smallest, interval=(sign * row["rho"], *ends))

    return measure


def rho_by_seed(evidence: Evidence, regime: str, family: str, name: str, sign: int) -> dict[int, Estimate]:
    rows = evidence.table("transfer_predictors")
    rows = rows[(rows["regime"] == regime) & (rows["attack"] == family) & (rows["predictor"] == name)]
    rows = rows[rows["seed"].notna() & rows["rho"].notna()]
    return {int(seed): Estimate(sign * rho, n=n) for seed, rho, n in rows[["seed", "rho", "n"]].itertuples(index=False)}


def p_of(evidence: Evidence, regime: str, family: str, name: str) -> float:
    try:
        return predictor_row(evidence, regime, family, name)["p"]
    except NotApplicable:
        return 1.0


def checkpoints(row: pd.Series, side: str) -> str:
    """`4 targets`, or `12 targets over 3 seeds`."""
    n, seeds = int(row[f"n_{side}s"]), int(row["n_seeds"])
    return f"{n} {side}{'' if n == 1 else 's'}" + (f" over {seeds} seeds" if seeds > 1 else "")


def predictors_tie(evidence: Evidence) -> Measured:
    """|rho| of coupling less |rho| of fixed ASR over the same rows of r2d2."""
    family = deciding_family(evidence, ADVERSARIAL)
    both = [predictor_row(evidence, ADVERSARIAL, family, name) for name in (COUPLING, BEHAVIOUR)]
    for row in both:
        require_interval(row)
    if not any(row["p"] < ALPHA for row in both):
        raise Undecidable("neither coupling nor fixed ASR goes with transfer within r2d2")
    values = checkpoint_values(*(evidence.table(name) for name in ("trajectory", "coupling", "geometry")))
    mine = family_rows(transfers(evidence, ADVERSARIAL), FAMILIES[family])
    rows = analysis_rows(mine, values, BY_NAME[COUPLING], BY_NAME[BEHAVIOUR])
    x = [part.numbers() for part in rows]
    if all(math.isclose(abs(spearman(*(v[rows[0].seed == g] for v in x))), 1.0) for g in set(rows[0].seed)):
        raise Undecidable("coupling and fixed ASR rank the targets alike: no outcome could tell them apart")
    difference = pigeonhole(rows, generator("coupling less behaviour"), DRAWS)
    what = f"|rho| of coupling less |rho| of fixed ASR over {difference.n} rows of r2d2 ({family} attacks)"
    ends = (difference.value, difference.lo, difference.hi)
    return Measured(apart(evidence, family, (ADVERSARIAL, COUPLING), (ADVERSARIAL, BEHAVIOUR)), what, interval=ends)


def plain_follows_less(evidence: Evidence) -> Measured:
    """|rho| of coupling with transfer, r2d2 less sft; interval from the opposite ends of the two."""
    family = deciding_family(evidence, ADVERSARIAL, PLAIN)
    rows = [predictor_row(evidence, regime, family, COUPLING) for regime in (ADVERSARIAL, PLAIN)]
    for row in rows:
        require_interval(row)
    (low, high), (other_low, other_high) = (folded(row["lo"], row["hi"]) for row in rows)
    value = abs(rows[0]["rho"]) - abs(rows[1]["rho"])
    what = f"|rho| of coupling with transfer, r2d2 less sft ({family} attacks)"
    by_seed = apart(evidence, family, (ADVERSARIAL, COUPLING), (PLAIN, COUPLING))
    return Measured(by_seed, what, interval=(value, low - other_high, high - other_low))


def apart(evidence: Evidence, family: str, first: tuple[str, str], second: tuple[str, str]) -> dict[int, Estimate]:
    """|rho| less |rho| of two (regime, predictor) by seed."""
    one, two = (rho_by_seed(evidence, regime, family, name, 1) for regime, name in (first, second))
    return {
        seed: Estimate(abs(one[seed].value) - abs(two[seed].value), n=one[seed].n)
        for seed in sorted(set(one) & set(two))
    } or {0: Estimate(0.0)}


def folded(lo: float, hi: float) -> tuple[float, float]:
    """Least and greatest |rho| of an interval of rho."""
    ends = sorted((abs(lo), abs(hi)))
    return (0.0 if lo <= 0 <= hi else ends[0]), ends[1]
