"""Claims about coupling: how HRCI_repr moves, what moves it, and what stands beside it (arXiv 2606.16349, Tables
2-3)."""

import math

import pandas as pd

from safety_geometry.claims.evidence import ADVERSARIAL, PLAIN, Evidence, Outcome, Undecidable, greater, less
from safety_geometry.geometry.dense import FEWEST_SAVES, FORMS

DROP = 3.0  # the papers' .0674 to .0205, and .0784 to .0205
FLAT = 1.5  # the papers' .0217 to .0190 is 1.14
QUANTITY = "hrci_repr"
"""What a dense claim holds against behaviour, at frozen sites: a change of site is none of the model."""


def ratio(high: pd.Series, low: pd.Series) -> tuple[float, float, float]:
    """hrci_repr of one anchor over another's; the interval joins the opposite ends of theirs, which is conservative."""
    values = high["hrci_repr"] / low["hrci_repr"] if low["hrci_repr"] > 0 else math.inf
    lo = high["hrci_repr_lo"] / low["hrci_repr_hi"] if low["hrci_repr_hi"] > 0 else math.inf
    hi = high["hrci_repr_hi"] / low["hrci_repr_lo"] if low["hrci_repr_lo"] > 0 else math.inf
    return values, lo, hi


def peak_and_last(evidence: Evidence, regime: str) -> tuple[pd.Series, pd.Series]:
    rows = evidence.anchors(regime, "hrci_repr")
    return rows.loc[rows["hrci_repr"].iloc[:-1].idxmax()], rows.iloc[-1]


def coupling_drops(evidence: Evidence) -> Outcome:
    evidence.require_moved(ADVERSARIAL)
    peak, last = peak_and_last(evidence, ADVERSARIAL)
    what = f"HRCI_repr of r2d2 at anchor {peak['anchor']} over the last"
    return greater(*ratio(peak, last), DROP, what, n=len(evidence.anchors(ADVERSARIAL)))


def coupling_flat(evidence: Evidence) -> Outcome:
    evidence.require_moved(PLAIN)
    rows = evidence.anchors(PLAIN, "hrci_repr")
    high, low = rows.loc[rows["hrci_repr"].idxmax()], rows.loc[rows["hrci_repr"].idxmin()]
    what = f"HRCI_repr of sft at anchor {high['anchor']} over {low['anchor']}, its highest and lowest"
    return less(*ratio(high, low), FLAT, what, n=len(rows))


def companion(evidence: Evidence, regime: str, name: str, quantity: str) -> pd.DataFrame:
    """Rows of a companion at the regime's anchors, indexed by anchor."""
    rows = evidence.rows("coupling_controls", regime)
    rows = rows[(rows["companion"] == name) & (rows["quantity"] == quantity)]
    if not len(rows):
        raise Undecidable(f"coupling_controls has no {name} {quantity} for {regime}")
    return rows.set_index("anchor")


def above_shuffled(evidence: Evidence) -> Outcome:
    """At every anchor of both regimes: value minus the upper end of the shuffled range, interval from the value's
    own."""
    parts = []
    for regime in (ADVERSARIAL, PLAIN):
        observed, null = (companion(evidence, regime, name, "hrci_repr") for name in ("own_sites", "shuffled"))
        parts.append(pd.DataFrame({k: observed[k] - null["hi"] for k in ("value", "lo", "hi")}).assign(n=null["n"]))
    margin = pd.concat(parts).dropna()
    if not len(margin):
        raise Undecidable("no anchor has a coupling value with a shuffled floor")
    worst = margin.sort_values("value", kind="stable").iloc[0]
    above = int((margin["lo"] > 0).sum())
    what = f"lowest of {len(margin)} anchors ({above} above for certain), minus the floor's upper end"
    return greater(worst["value"], worst["lo"], worst["hi"], 0.0, what, n=len(margin), p_smallest=1 / (1 + worst["n"]))


def distinct_directions(evidence: Evidence) -> Outcome:
    """C_cos against the split-half ceiling, highest share of the ceiling over both regimes' anchors."""
    parts = []
    for regime in (ADVERSARIAL, PLAIN):
        observed, top = (companion(evidence, regime, *c) for c in (("own_sites", "c_cos"), ("split_half", "ceiling")))
        parts.append(observed[["value", "lo", "hi"]].div(top["value"], axis=0))
    share = pd.concat(parts).dropna().sort_values("value", kind="stable")
    if not len(share):
        raise Undecidable("no anchor has a split-half ceiling")
    worst = share.iloc[-1]
    return less(*worst[["value", "lo", "hi"]], 1.0, "highest C_cos as a share of its ceiling", n=len(share))


def relocation_explains(evidence: Evidence) -> Outcome:
    """How far C_cos falls from the peak anchor to the last at the carriers' own sites, and at the common layers."""
    peak, last = peak_and_last(evidence, ADVERSARIAL)
    _, lo, _ = ratio(peak, last)
    if not lo > 1:
        raise Undecidable("the coupling of r2d2 does not fall for certain between its peak and its last anchor")
    at_own_sites = companion(evidence, ADVERSARIAL, "own_sites", "c_cos")
    low, high = fall(at_own_sites.loc[peak["anchor"]], at_own_sites.loc[last["anchor"]])
    fixed = companion(evidence, ADVERSARIAL, "fixed_layer", "c_cos").set_index("layer_r", append=True)
    falls = [
        fall(*(fixed.loc[(a["anchor"], k)] for a in (peak, last))) for k in sorted(set(fixed.index.get_level_values(1)))
    ]
    most = max(top for _, top in falls)  # the most that any common layer may have fallen
    least = max(bottom for bottom, _ in falls)
    numbers = {
        "value": at_own_sites.loc[peak["anchor"], "value"] - at_own_sites.loc[last["anchor"], "value"],
        "lo": low,
        "hi": high,
        "threshold": most,
        "n": len(falls),
    }
    if peak["layer_r"] == last["layer_r"]:
        return Outcome("fails", f"R stays at layer {last['layer_r']:.0f} while the coupling falls", **numbers)
    if low > most:
        return Outcome("holds", "C_cos falls further at the carriers' own sites than at any common layer", **numbers)
    if least >= high:
        return Outcome("fails", "C_cos falls at least as far at a common layer, where nothing is relocated", **numbers)
    return Outcome("inconclusive", "the fall at the carriers' own sites and at a common layer overlap", **numbers)


def fall(before: pd.Series, after: pd.Series) -> tuple[float, float]:
    """Least and greatest fall that the two intervals allow."""
    return before["lo"] - after["hi"], before["hi"] - after["lo"]


def follows(metric: str, sign: int):
    """Spearman of HRCI_repr at frozen sites with a behaviour over all saves of r2d2 has the paper's sign, and so do
    their changes from save to save.

    Two series that both trend always correlate. So the levels (at every block length that fits the series) and the
    first differences have to say the same; levels alone decide nothing.
    """

    def decide(evidence: Evidence) -> Outcome:
        if metric == "fixed_asr":
            evidence.require_attack()
        rows = evidence.rows("trajectory", ADVERSARIAL, anchors=False).dropna(subset=[f"{QUANTITY}_frozen", metric])
        if len(rows) < FEWEST_SAVES:
            raise Undecidable(f"{len(rows)} saves of r2d2 have both; a time series needs {FEWEST_SAVES}")
        if rows[metric].nunique() < 2:
            raise Undecidable(f"{metric} is the same at every save")
        levels, changes = (correlation(evidence, metric, form) for form in FORMS)
        rho = f"Spearman's rho (greatest that the ties allow: {levels['rho_tie_ceiling']:.3f})"
        correlations = f"{rho}; of first differences {changes['rho']:.3f} [{changes['lo']:.3f}, {changes['hi']:.3f}]"
        numbers = {"value": levels["rho"], "lo": levels["lo"], "hi": levels["hi"], "threshold": 0.0, "n": levels["n"]}
        if not (side := side_of_zero(levels)):
            return Outcome(
                "inconclusive", f"{correlations}: at some block length the levels' interval holds 0", **numbers
            )
        if side_of_zero(changes) != side:
            return Outcome(
                "inconclusive", f"{correlations}: shared trend: the levels go together, the changes do not", **numbers
            )
        words = "the claimed sign" if side == sign else "the other sign"
        return Outcome(
            "holds" if side == sign else "fails", f"{correlations}: both have {words} for certain", **numbers
        )

    return decide


def correlation(evidence: Evidence, metric: str, form: str) -> pd.Series:
    """r2d2's row of dense_correlations at frozen sites with the widest interval over the block lengths (lo and hi NaN
    where one is missing)."""
    rows = evidence.table("dense_correlations")
    rows = rows[(rows["regime"] == ADVERSARIAL) & (rows["predictor"] == QUANTITY) & (rows["outcome"] == metric)]
    rows = rows[(rows["sites"] == "frozen") & (rows["form"] == form) & (2 * rows["block_length"] <= rows["n"])]
    if not len(rows):
        raise Undecidable("every block length of the study is longer than half the series")
    ends = {"lo": rows["lo"].min(skipna=False), "hi": rows["hi"].max(skipna=False)}
    return pd.Series(rows.iloc[0].to_dict() | ends)


def side_of_zero(row: pd.Series) -> int:
    """Sign of everything that an interval holds; 0 where it holds 0 or there is none."""
    return int(row["lo"] > 0) - int(row["hi"] < 0)
