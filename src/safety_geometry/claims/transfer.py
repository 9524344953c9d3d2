"""Claims about transfer: what an attack's success on another checkpoint follows (arXiv 2606.16349, Table 5).

All seeds of a study are tested together (`transfer_stats`). Four things can make such a claim undecidable: attacks that
do not beat their unoptimised arm, too few targets for any p below ALPHA, too few checkpoints for an interval, and
predictors that rank the targets alike (no outcome could tell them apart).
"""

import math

import pandas as pd

from safety_geometry.attacks.transfer import ARMS, BY_NAME, FAMILIES, analysis_rows, checkpoint_values, family_rows
from safety_geometry.attacks.transfer_statistics import FEWEST_LABELS, pigeonhole
from safety_geometry.claims.evidence import ADVERSARIAL, ALPHA, PLAIN, Evidence, Outcome, Undecidable, greater
from safety_geometry.stats.estimates import holm, sign_flip_exact, spearman
from safety_geometry.stats.seeds import generator

COUPLING, BEHAVIOUR, DRIFT = "target_hrci_repr", "target_fixed_asr", "target_refusal_score_drift"
WEAK = 0.3  # a correlation that is smaller for certain does not follow
ALIKE = 0.1  # |rho| that differ by less tie
DRAWS = 4000


def transfers(evidence: Evidence, regime: str) -> pd.DataFrame:
    rows = evidence.table("transfer")
    rows = rows[rows["regime"] == regime]
    if not len(rows):
        raise Undecidable(f"no attack was transferred within the regime {regime}")
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
        raise Undecidable(
            f"{name} or the transfer within {regime} ({family} attacks) is unknown or the same everywhere"
        )
    return rows.iloc[0]


def enough_targets(row: pd.Series, comparisons: int = 1) -> None:
    least = row["p_smallest"] * comparisons
    if not least < ALPHA:
        raise Undecidable(
            f"relabelling the {checkpoints(row, 'target')} of {row['regime']} cannot give a p below "
            f"{min(least, 1.0):.3f}"
        )


def follows(regime: str, name: str, sign: int, among: tuple[str, ...] = ()):
    """Spearman of a predictor with transfer has the paper's sign; p with Holm over the predictors in `among`."""

    def decide(evidence: Evidence) -> Outcome:
        family = deciding_family(evidence, regime)
        row = predictor_row(evidence, regime, family, name)
        enough_targets(row, max(len(among), 1))
        p = row["p"]
        if among:
            p = holm([p_of(evidence, regime, family, other) for other in among])[among.index(name)]
        return judge(row, float(p), sign, max(len(among), 1))

    return decide


def p_of(evidence: Evidence, regime: str, family: str, name: str) -> float:
    try:
        return predictor_row(evidence, regime, family, name)["p"]
    except Undecidable:
        return 1.0


def judge(row: pd.Series, p: float, sign: int, comparisons: int) -> Outcome:
    """Holds with the claimed sign, p below ALPHA and no zero in the interval; fails with the other sign alike, or when
    the interval excludes all but weak correlations; decides nothing without an interval."""
    rho, lo, hi = row["rho"], row["lo"], row["hi"]
    what = (f"Spearman's rho of {row['predictor']} with transfer within {row['regime']} ({row['attack']} attacks, "
            f"{checkpoints(row, 'target')}; ties allow {row['rho_tie_ceiling']:.3f})")  # fmt: skip
    numbers = {"value": rho, "lo": lo, "hi": hi, "threshold": 0.0, "p": p, "n": row["n"],
               "p_smallest": min(1.0, row["p_smallest"] * comparisons)}  # fmt: skip
    if not math.isfinite(lo):
        return Outcome(
            "inconclusive",
            f"{what} has no interval: it takes {FEWEST_LABELS} source and target checkpoints, and here are "
            f"{checkpoints(row, 'source')}",
            **numbers,
        )
    ends = sorted((sign * lo, sign * hi))
    if p < ALPHA and ends[0] > 0:
        return Outcome("holds", f"{what} has the claimed sign, p is below {ALPHA}", **numbers)
    if p < ALPHA and ends[1] < 0:
        return Outcome("fails", f"{what} has the other sign, p is below {ALPHA}", **numbers)
    if ends[1] < WEAK:
        return Outcome("fails", f"{what}: the interval leaves room for weak correlations only", **numbers)
    return Outcome("inconclusive", f"{what} is not of the claimed sign for certain", **numbers)


def checkpoints(row: pd.Series, side: str) -> str:
    """`4 targets`, or `12 targets over 3 seeds`."""
    n, seeds = int(row[f"n_{side}s"]), int(row["n_seeds"])
    return f"{n} {side}{'' if n == 1 else 's'}" + (f" over {seeds} seeds" if seeds > 1 else "")


def predictors_tie(evidence: Evidence) -> Outcome:
    """|rho| of coupling less |rho| of fixed ASR over the same rows of r2d2."""
    family = deciding_family(evidence, ADVERSARIAL)
    both = [predictor_row(evidence, ADVERSARIAL, family, name) for name in (COUPLING, BEHAVIOUR)]
    for row in both:
        enough_targets(row)
    if not any(row["p"] < ALPHA for row in both):
        raise Undecidable("neither coupling nor fixed ASR goes with transfer within r2d2")
    values = checkpoint_values(*(evidence.table(name) for name in ("trajectory", "coupling", "geometry")))
    mine = family_rows(transfers(evidence, ADVERSARIAL), FAMILIES[family])
    rows = analysis_rows(mine, values, BY_NAME[COUPLING], BY_NAME[BEHAVIOUR])
    x = [part.numbers() for part in rows]
    if all(math.isclose(abs(spearman(*(v[rows[0].seed == g] for v in x))), 1.0) for g in set(rows[0].seed)):
        raise Undecidable("coupling and fixed ASR rank the targets alike: no outcome could tell them apart")
    difference = pigeonhole(rows, generator("coupling less behaviour"), DRAWS)
    what = f"|rho| of coupling less |rho| of fixed ASR over {difference.n} rows ({family} attacks)"
    if not math.isfinite(difference.lo):
        raise Undecidable(f"{what}: too few sources or targets for an interval")
    numbers = vars(difference) | {"threshold": ALIKE}
    if max(abs(difference.lo), abs(difference.hi)) < ALIKE:
        return Outcome("holds", f"{what}: the interval lies within {ALIKE} of 0", **numbers)
    if difference.lo > ALIKE or difference.hi < -ALIKE:
        return Outcome("fails", f"{what}: {'coupling' if difference.lo > 0 else 'fixed ASR'} is ahead", **numbers)
    return Outcome("inconclusive", f"{what}: the interval allows a tie and a lead", **numbers)


def plain_follows_less(evidence: Evidence) -> Outcome:
    """|rho| of coupling with transfer, r2d2 less sft; interval from the opposite ends of the two."""
    family = deciding_family(evidence, ADVERSARIAL, PLAIN)
    rows = [predictor_row(evidence, regime, family, COUPLING) for regime in (ADVERSARIAL, PLAIN)]
    if not (rows[0]["p_smallest"] < ALPHA and rows[1]["p_smallest"] < ALPHA):
        enough_targets(max(rows, key=lambda row: row["p_smallest"]))
    (low, high), (other_low, other_high) = (folded(row["lo"], row["hi"]) for row in rows)
    what = f"|rho| of coupling with transfer, r2d2 less sft ({family} attacks)"
    value = abs(rows[0]["rho"]) - abs(rows[1]["rho"])
    return greater(value, low - other_high, high - other_low, 0.0, what, n=min(row["n"] for row in rows))


def folded(lo: float, hi: float) -> tuple[float, float]:
    """Least and greatest |rho| of an interval of rho."""
    ends = sorted((abs(lo), abs(hi)))
    return (0.0 if lo <= 0 <= hi else ends[0]), ends[1]
