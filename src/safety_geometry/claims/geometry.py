"""Claims about geometry: where the carriers sit, effective rank, drift (arXiv 2604.27019, sections 4.2-4.3)."""

import pandas as pd

from safety_geometry.claims.evidence import ADVERSARIAL, PLAIN, Evidence, Outcome, Undecidable, less

STABLE = 0.5  # share of resampled validation prompts that have to choose the same site
SAME_RANK = 0.10  # relative range; the papers' 1.23 to 1.27 is .03


def relocation_size(evidence: Evidence, regime: str) -> float:
    """A quarter of the layers: the least that counts as moving from late to early."""
    profile = evidence.rows("profile", regime)
    return (profile.loc[profile["carrier"] == "H", "layer"].max() + 1) / 4


def rows_with_r(evidence: Evidence, regime: str) -> pd.DataFrame:
    """Coupling at the anchors of a regime, all of which have a refusal carrier."""
    rows = evidence.rows("coupling", regime)
    if rows["layer_r"].isna().any():
        raise Undecidable(f"not every anchor of {regime} has a refusal carrier (refusal.contrast: behaviour)")
    return rows


def r_relocates(evidence: Evidence) -> Outcome:
    evidence.require_moved(ADVERSARIAL)
    rows, least = rows_with_r(evidence, ADVERSARIAL), relocation_size(evidence, ADVERSARIAL)
    first, last = rows.iloc[0], rows.iloc[-1]
    moved = float(first["layer_r"] - last["layer_r"])
    share = min(first["site_share"], last["site_share"])
    numbers = {"value": moved, "threshold": least, "n": len(rows)}
    path = "-".join(f"{layer:.0f}" for layer in rows["layer_r"])
    if not share >= STABLE:
        reason = f"R's layers are {path}, but resampling keeps the chosen sites in a share of {share:.2f} only"
        return Outcome("inconclusive", reason, **numbers)
    return Outcome("holds" if moved >= least else "fails", f"R's layers over the anchors are {path}", **numbers)


def relocation_step(evidence: Evidence, regime: str) -> tuple[float, str]:
    """Step of the first anchor at which R sits a quarter of the layers earlier than at the reference; inf: never."""
    rows = rows_with_r(evidence, regime)
    early = rows[rows["layer_r"].iloc[0] - rows["layer_r"] >= relocation_size(evidence, regime)]
    path = "-".join(f"{layer:.0f}" for layer in rows["layer_r"])
    decisive = [0] if not len(early) else [0, early.index[0]]
    if not (rows["site_share"].iloc[decisive] >= STABLE).all():
        raise Undecidable(f"the sites of {regime} (layers {path}) do not survive resampling of the validation prompts")
    return (float(early["step"].iloc[0]) if len(early) else float("inf")), path


def sft_relocates_first(evidence: Evidence) -> Outcome:
    evidence.require_moved(ADVERSARIAL, PLAIN)
    (plain, layers_sft), (adversarial, layers_r2d2) = (relocation_step(evidence, r) for r in (PLAIN, ADVERSARIAL))
    reason = f"R's layers over the anchors: sft {layers_sft}, r2d2 {layers_r2d2}"
    value = plain if plain != float("inf") else float("nan")
    threshold = adversarial if adversarial != float("inf") else float("nan")
    return Outcome("holds" if plain < adversarial else "fails", reason, value, threshold=threshold)


def h_layer_constant(evidence: Evidence) -> Outcome:
    evidence.require_moved(ADVERSARIAL, PLAIN)
    layers = [evidence.anchors(regime)["layer_h"] for regime in (ADVERSARIAL, PLAIN)]
    seen = [sorted({int(x) for x in part}) for part in layers]
    value = float(len({*seen[0], *seen[1]}))
    reason = f"layers chosen for H: r2d2 {seen[0]}, sft {seen[1]}"
    return Outcome("holds" if value == 1 else "fails", reason, value, threshold=1.0, n=sum(map(len, layers)))


def rank_constant(evidence: Evidence) -> Outcome:
    evidence.require_moved(ADVERSARIAL, PLAIN)
    rank = pd.concat([evidence.rows("geometry", regime)["erank"] for regime in (ADVERSARIAL, PLAIN)])
    if rank.isna().any():
        raise Undecidable("the field has no rank at some anchors: they have no refusal carrier")
    value = float((rank.max() - rank.min()) / rank.mean())
    reason = f"effective rank {rank.min():.3f} to {rank.max():.3f} over the anchors of both regimes"
    return Outcome("holds" if value <= SAME_RANK else "fails", reason, value, threshold=SAME_RANK, n=len(rank))


def sft_drifts_more(evidence: Evidence) -> Outcome:
    """Largest principal angle to the own reference, sft minus r2d2, at every later anchor of the same step."""
    evidence.require_moved(ADVERSARIAL, PLAIN)
    rows = [evidence.rows("geometry", regime) for regime in (PLAIN, ADVERSARIAL)]
    rows = [part[part["step"] > part["reference"]].set_index("step")["angle_3"] for part in rows]
    difference = (rows[0] - rows[1]).dropna()
    if not len(difference):
        raise Undecidable("the regimes have no later anchor in common")
    ahead, n = int((difference > 0).sum()), len(difference)
    verdict = {n: "holds", 0: "fails"}.get(ahead, "inconclusive")
    reason = f"sft has the larger third angle at {ahead} of {n} steps (degrees; the steps are one run, so no p)"
    return Outcome(verdict, reason, float(difference.mean()), difference.min(), difference.max(), 0.0, n=n)


def score_falls(evidence: Evidence) -> Outcome:
    """S_total of R at the last anchor against the reference, ranges over resampled validation prompts."""
    evidence.require_moved(ADVERSARIAL)
    rows = rows_with_r(evidence, ADVERSARIAL)
    first, last = rows.iloc[0], rows.iloc[-1]
    difference = last["s_total"] - first["s_total"]
    lo, hi = last["s_total_lo"] - first["s_total_hi"], last["s_total_hi"] - first["s_total_lo"]
    return less(difference, lo, hi, 0.0, "S_total of R, last anchor minus reference", n=len(rows))
