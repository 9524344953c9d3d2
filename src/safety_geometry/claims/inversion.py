"""Is H recognition and R policy? Reply inversion (arXiv 2507.11878) and refusals, of the same models.

In reply inversion the affirmative answer means harm: a carrier of recognition moves the answers, one of policy moves
refusals and leaves the answers.
"""

from safety_geometry.claims.evidence import Evidence
from safety_geometry.claims.rules import Measured, NotApplicable
from safety_geometry.stats.pooling import Estimate, average, combined

# Edits and prompts in which H has to show: taking it away from harmful requests makes them look harmless, and adding it
# makes benign ones look harmful.
SIDES = (("ablate", 1.0, "harmful", -1), ("steer", 1.0, "benign", 1))


def moves_judgement(evidence: Evidence) -> Measured:
    """How much further H moves the judgement of harm than R does, in the direction of what is done: the mean of removal
    (harmful requests) and addition (benign ones). Mean over the models of a seed that can answer the question."""
    frame = evidence.table("reply_inversion")
    plain = frame[frame["carrier"] == "none"]
    if plain["at_chance"].astype(bool).all():
        row = plain.iloc[0]
        raise NotApplicable(
            f"{names(plain)} is at chance on the question without edits (AUROC {row['auroc']:.2f} "
            f"[{row['auroc_lo']:.2f}, {row['auroc_hi']:.2f}], accuracy {row['accuracy']:.2f})"
        )
    frame = evidence.column("reply_inversion", "over_r_harmful", "over_r_benign")
    rows = frame[(frame["carrier"] == "H") & frame["over_r_harmful"].notna() & frame["over_r_benign"].notna()]
    by_seed: dict[int, list[Estimate]] = {}
    for (seed, *_), part in rows.groupby(["seed", "regime", "step"], sort=True):
        sides = [one_side(part, *side) for side in SIDES]
        by_seed.setdefault(int(seed), []).append(combined((0.5, 0.5), sides))
    if not by_seed:
        raise NotApplicable("no model was asked the question with both H and R edited: there is no refusal carrier")
    what = f"move of the judgement of harm by H less that by R, removed and added, {names(rows)}"
    return Measured({seed: average(models) for seed, models in by_seed.items()}, what)


def one_side(rows, family: str, strength: float, label: str, sign: int) -> Estimate:
    """H's shift less R's of one class of prompts under one edit, turned so that H's part is positive."""
    row = rows[(rows["family"] == family) & (rows["lambda"] == strength)].iloc[0]
    ends = (row[f"over_r_{label}{end}"] for end in ("", "_lo", "_hi"))
    estimate = Estimate(*ends, row[f"n_{label}"]).of_few()
    return estimate if sign > 0 else estimate.turned()


def names(rows) -> str:
    return ", ".join(sorted({f"{regime}:{step}" for regime, step in zip(rows["regime"], rows["step"], strict=True)}))
