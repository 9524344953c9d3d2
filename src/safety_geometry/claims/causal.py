"""Claims about interventions: aligned anchors, sweeps against matched controls, late ablation.

arXiv 2606.16349 (Tables 1 and 4) and arXiv 2604.27019 (Table 4). An interval of Δ_control says that a target
differs from the average control; that it differs more than one control differs from another takes the permutation p. A
sweep claim asks for both.
"""

import math
from dataclasses import replace

import pandas as pd
from scipy.special import ndtri

from safety_geometry.claims.evidence import (
    ADVERSARIAL,
    ALPHA,
    FEWEST_CHANGES,
    SMALLEST_RATE,
    Evidence,
    Outcome,
    Undecidable,
    less,
)
from safety_geometry.stats.estimates import holm, least_mcnemar_p, wilson

SMALLEST_LOG_ODDS = 0.4  # moves a probability of one half by a tenth, the smallest effect of interest of a rate
FEWEST_CONTROLS = 5  # from which resampling them covers their choice; the interval is too narrow with two or three
NEARLY_RIGHT = 75.0  # degrees from which two directions count as nearly orthogonal; the paper's smallest angle is 82.3


def aligned(evidence: Evidence) -> pd.DataFrame:
    """One ablation row per aligned model: of several the one nearest to a full ablation of one direction at its own
    layer."""
    rows = evidence.table("aligned_anchors")
    rows = rows[rows["family"] == "ablate"]
    if not len(rows):
        raise Undecidable("no aligned model was ablated")
    rows = rows.assign(_elsewhere=rows["scope"] != "layer", _far=(rows["lambda"] - 1).abs())
    rows = rows.sort_values(["model", "_elsewhere", "rank", "_far"], kind="stable")
    return rows.drop_duplicates("model").drop(columns=["_elsewhere", "_far"]).reset_index(drop=True)


def aligned_r_reopens(evidence: Evidence) -> Outcome:
    """R-only and R⊥H above H-only in every model, and above no intervention; Holm over models and comparisons."""
    parts, closed = [], []
    for row in aligned(evidence).to_dict("records"):
        room = row["n"] * (1 - max(row["asr_h_only"], row["asr_baseline"]))
        if least_mcnemar_p(room) > ALPHA:
            closed.append(
                f"{row['model']}: attack success is {row['asr_baseline']:.2f} without and {row['asr_h_only']:.2f} with "
                f"H-only, which leaves {round(room)} of {row['n']:.0f} requests to reopen (least p "
                f"{least_mcnemar_p(room):.2g})"
            )
            continue
        for name, arm in (("r_minus_h", "r_only"), ("r_perp_minus_h", "r_perp_h")):
            numbers = {end or "value": row[name + ("_" * bool(end)) + end] for end in ("", "lo", "hi", "p")}
            above = row[f"asr_{arm}"] > row["asr_baseline"]
            parts.append({"model": row["model"], "arm": arm, "above": above, "n": row["n"], "room": room} | numbers)
    if not parts:
        raise Undecidable("; ".join(closed))
    frame = pd.DataFrame(parts)
    frame = frame.assign(holm=holm(frame["p"]), smallest=frame["room"].map(least_mcnemar_p) * len(frame))
    ahead = (frame["lo"] > 0) & (frame["holm"] < ALPHA) & frame["above"]
    refuted = frame["hi"] < SMALLEST_RATE
    row = frame.loc[frame["value"].idxmin()]
    verdict = "holds" if ahead.all() and not closed else "fails" if refuted.any() else "inconclusive"
    reason = f"{int(ahead.sum())} of {len(frame)} comparisons with H-only are above 0 for certain"
    reason += f"; the weakest is {row['arm']} in {row['model']}"
    if (frame["value"] > 0).any() and not frame["above"].all():
        reason += "; not all are above the model without intervention"
    numbers = (row["value"], row["lo"], row["hi"], 0.0, row["holm"], min(1.0, row["smallest"]), row["n"])
    return Outcome(verdict, "; ".join([reason, *closed]), *map(float, numbers))


def aligned_orthogonal(evidence: Evidence) -> Outcome:
    """The largest C_cos over aligned models below cos 75°, and the smallest principal angle above 75° as well."""
    threshold = math.cos(math.radians(NEARLY_RIGHT))
    coupling = evidence.tables.get(
        "coupling", pd.DataFrame(columns=["regime", "step", "anchor", "c_cos_lo", "c_cos_hi"])
    )
    coupling = coupling.dropna(subset=["c_cos_lo", "c_cos_hi"])
    names = {
        name: (checkpoint.c_cos_lo, checkpoint.c_cos_hi)
        for checkpoint in coupling.itertuples()
        for name in (
            checkpoint.regime,
            f"{checkpoint.regime}:{checkpoint.step}",
            f"{checkpoint.regime}:{checkpoint.anchor}",
        )
    }
    known, words = [], []
    for row in aligned(evidence).to_dict("records"):
        site = f"{row['model']} (H at layer {row['layer_h']:.0f}, R at {row['layer_r']:.0f}): C_cos {row['c_cos']:.3f}"
        site += f", smallest principal angle {row['angle_1']:.1f} degrees"
        if row["layer_h"] == row["layer_r"]:  # both subspaces hold one prompt contrast, at the same positions
            site += " (one layer: one subspace by construction)"
        interval = names.get(row["model"])
        words.append(site + ("" if interval else ", no interval"))
        if interval:
            known.append({"value": row["c_cos"], "lo": interval[0], "hi": interval[1], "angle": row["angle_1"]})
    if not known:
        raise Undecidable("no aligned model has an interval of its coupling: " + "; ".join(words))
    frame = pd.DataFrame(known)
    worst = frame.loc[frame["hi"].idxmax()]
    outcome = less(worst["value"], worst["lo"], worst["hi"], threshold, "largest C_cos", n=len(frame))
    if outcome.verdict == "holds" and (frame["angle"] < NEARLY_RIGHT).any():
        outcome = replace(
            outcome, verdict="inconclusive", reason=outcome.reason + "; the subspaces come closer than that"
        )
    return replace(outcome, reason="; ".join([outcome.reason, *words]))


def primary(evidence: Evidence, regime: str) -> pd.DataFrame:
    """Primary cells of a regime on the log-odds, pooled controls; `smallest`: least p after Holm over all that were
    tested."""
    frame = evidence.table("control_normalised")
    tested = frame["primary"].astype(bool) & (frame["metric"] == "log_odds") & (frame["control"] == "pooled")
    tested &= frame["p_holm"].notna()
    rows = frame[tested & (frame["regime"] == regime)].sort_values(["step", "target"], kind="stable")
    if not len(rows):
        raise Undecidable(f"the sweep has no primary cell of {regime} with a permutation p")
    rows = rows.assign(smallest=rows["p_smallest"] * tested.sum()).reset_index(drop=True)
    if rows["smallest"].min() > ALPHA:
        raise Undecidable(
            f"{rows['n_controls'].max():.0f} control directions cannot give a p below {ALPHA} over "
            f"{tested.sum()} primary "
            f"cells (least possible {rows['smallest'].min():.2g})"
        )
    if rows["n_prompts"].max() < FEWEST_CHANGES:
        raise Undecidable(f"{rows['n_prompts'].max():.0f} prompts are too few for an interval")
    return rows


def cell_name(row: pd.Series) -> str:
    where = row["anchor"] if isinstance(row["anchor"], str) else f"step {row['step']:.0f}"
    return f"{row['family']} {row['mode']} (lambda {row['lambda']:g}) of {row['regime']} at {where}"


def moves_refusal(regime: str):
    """Some primary cell moves the refusal log-odds further than matched directions do."""

    def decide(evidence: Evidence) -> Outcome:
        rows = primary(evidence, regime)
        ahead = (rows["p_holm"] < ALPHA) & ((rows["lo"] > 0) | (rows["hi"] < 0))
        row = rows.loc[(rows[ahead] if ahead.any() else rows)["delta_control"].abs().idxmax()]
        outcome = Outcome("inconclusive", "", row["delta_control"], row["lo"], row["hi"], 0.0, row["p_holm"],
                        min(1.0, row["smallest"]), row["n_prompts"])  # fmt: skip
        where = f"{cell_name(row)} against {row['n_controls']:.0f} controls{norm_matched(evidence, row)}"
        if ahead.any():
            some = f"{int(ahead.sum())} of {len(rows)} primary cells; largest: {where}"
            return replace(outcome, verdict="holds", reason=some)
        if ((rows["lo"] > -SMALLEST_LOG_ODDS) & (rows["hi"] < SMALLEST_LOG_ODDS)).all():
            none = f"no primary cell leaves room for {SMALLEST_LOG_ODDS:g}; largest: {where}"
            return replace(outcome, verdict="fails", reason=none)
        return replace(outcome, reason=f"none of {len(rows)} primary cells stands out for certain; largest: {where}")

    return decide


def norm_matched(evidence: Evidence, row: pd.Series) -> str:
    """What is left of an effect beside controls of the same energy, as words; empty where there are none."""
    frame = evidence.table("control_normalised")
    same = frame["control"] == "norm_matched"
    for name in ("metric", "target", "regime", "step"):
        same &= frame[name] == row[name]
    if not same.any():
        return ""
    other = frame[same].iloc[0]
    return f"; against norm-matched ones {other['delta_control']:.3g} [{other['lo']:.3g}, {other['hi']:.3g}]"


def moves_attacks(regime: str):
    """Some primary cell that stands out in the readout also moves attack success away from its controls'."""

    def decide(evidence: Evidence) -> Outcome:
        tested = primary(evidence, regime)[["step", "target", "p_holm", "smallest"]]
        frame = evidence.table("control_normalised")
        asr = frame[(frame["metric"] == "asr") & (frame["control"] == "pooled") & (frame["regime"] == regime)]
        rows = tested.merge(asr.drop(columns="p_holm"), on=["step", "target"]).reset_index(drop=True)
        if not len(rows):
            raise Undecidable(f"no primary cell of {regime} has generated answers of its own and of pooled controls")
        n = rows["n_prompts"].max()
        if least_mcnemar_p(n) > ALPHA:
            raise Undecidable(
                f"{n:.0f} requests are too few: all of them changed would give p = {least_mcnemar_p(n):.2g}"
            )
        controls = rows["n_controls"].min()
        if controls < FEWEST_CONTROLS:
            raise Undecidable(
                f"{controls:.0f} pooled controls that answered are too few for an interval over controls (at "
                f"least {FEWEST_CONTROLS})"
            )
        # The table's intervals are of 95 % each; the best of k cells needs the level that they share.
        wider = ndtri(1 - ALPHA / 2 / len(rows)) / ndtri(1 - ALPHA / 2)
        value = rows["delta_control"]
        lo, hi = value - (value - rows["lo"]) * wider, value + (rows["hi"] - value) * wider
        changed = (value.abs() * rows["n_prompts"]).round(3) >= FEWEST_CHANGES
        ahead = (rows["p_holm"] < ALPHA) & ((lo > 0) | (hi < 0)) & changed
        i = value[ahead if ahead.any() else slice(None)].abs().idxmax()
        row = rows.loc[i]
        outcome = Outcome("inconclusive", "", value[i], lo[i], hi[i], 0.0, row["p_holm"], min(1.0, row["smallest"]),
                        row["n_prompts"])  # fmt: skip
        where = f"{cell_name(row)} against {row['n_controls']:.0f} controls "
        where += f"(attack success {row['value']:.2f}, without {row['baseline']:.2f})"
        if ahead.any():
            some = f"{int(ahead.sum())} of {len(rows)} primary cells; largest: {where}"
            return replace(outcome, verdict="holds", reason=some)
        unseen = rows["n_prompts"].map(lambda n: wilson(0, int(n)).hi)  # what a sample without a change leaves open
        reach = pd.concat([rows["hi"], -rows["lo"], value.abs() + unseen], axis=1).max(axis=1)
        if (reach < SMALLEST_RATE).all():
            none = f"no primary cell leaves room for {SMALLEST_RATE:g}; largest: {where}"
            return replace(outcome, verdict="fails", reason=none)
        return replace(outcome, reason=f"none of {len(rows)} primary cells stands out for certain; largest: {where}")

    return decide


def late_ablation_lowers(evidence: Evidence) -> Outcome:
    """Attack success with R ablated at r2d2's last swept step, minus without, on the same requests."""
    frame = evidence.table("causal_sweep")
    frame = frame[frame["regime"] == ADVERSARIAL]
    if not len(frame):
        raise Undecidable(f"the sweep has no checkpoint of {ADVERSARIAL}")
    last = frame[frame["step"] == frame["step"].max()]
    rows = last[(last["control"] == "target") & (last["family"] == "ablate") & (last["mode"] == "r_only")]
    rows = rows[(rows["scope"] == "layer") & rows["lambda"].between(0, 1, inclusive="right")]
    rows = rows[rows["asr_delta"].notna()]
    base = last[(last["control"] == "baseline") & last["asr"].notna()]
    at = f"r2d2's step {last['step'].iloc[0]:.0f}"
    if not len(rows) or not len(base):
        raise Undecidable(f"no generated answers with R ablated at {at}")
    row, base = rows.sort_values(["rank", "lambda"], ascending=[True, False], kind="stable").iloc[0], base.iloc[0]
    n, successes = int(row["n_asr"]), round(base["asr"] * row["n_asr"])
    if least_mcnemar_p(successes) > ALPHA:
        if not successes:
            raise Undecidable(f"attack success at {at} is at the floor: 0 of {n} requests")
        raise Undecidable(
            f"{n} requests are too few at {at}: {successes} of them succeed, and if none were left, p would be "
            f"{least_mcnemar_p(successes):.2g}; at this rate {math.ceil(FEWEST_CHANGES * n / successes)} would do"
        )
    reason = f"attack success at {at} from {base['asr']:.2f} to {row['asr']:.2f} under ablation {row['lambda']:g} of R"
    if pd.notna(row["degenerate"]) and pd.notna(base["degenerate"]):
        reason += f"; broken answers from {base['degenerate']:.2f} to {row['degenerate']:.2f}"
    lo, hi = row["asr_delta_lo"], row["asr_delta_hi"]
    verdict = "holds" if hi < 0 else "fails" if lo > -SMALLEST_RATE else "inconclusive"
    return Outcome(verdict, reason, row["asr_delta"], lo, hi, 0.0, p_smallest=least_mcnemar_p(successes), n=n)
