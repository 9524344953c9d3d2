"""The papers' rule for a regime's reference anchor, as a report: the configuration decides, this says what the rule
would."""

import pandas as pd

from safety_geometry.artefacts.tables.training import REFERENCE_ANCHORS


def stable_from(refusal: pd.Series, threshold: float, tolerance: float) -> int | None:
    """Earliest step from which the refusal rate is at least `threshold` and stays so, within `tolerance`, at all later
    ones.

    `refusal`: share of harmful monitor prompts refused, indexed by step. "The earliest checkpoint at which
    direct-refusal behavior on the fixed probe set is stable" (arXiv 2606.16349, anchors). None if it never is.
    """
    refusal = refusal.sort_index()
    for step, value in refusal.items():
        later = refusal[refusal.index > step]
        if value >= threshold and (later >= threshold - tolerance).all() and len(later):
            return int(step)
    return None


def reference_table(
    training: pd.DataFrame, configured: dict[str, int], threshold: float = 0.9, tolerance: float = 0.1
) -> pd.DataFrame:
    """One row per seed and regime from the training table's monitor columns and the configured reference steps."""
    rows = []
    measured = training[training["refusal_harmful"].notna()]
    for (seed, regime), part in measured.groupby(["seed", "regime"], sort=False):
        refusal = part.set_index("step")["refusal_harmful"]
        choice = stable_from(refusal, threshold, tolerance)
        reference = configured[regime]
        rows.append(
            [
                seed,
                regime,
                reference,
                choice,
                refusal.get(reference),
                None if choice is None else refusal[choice],
                threshold,
                tolerance,
            ]
        )
    return pd.DataFrame(rows, columns=REFERENCE_ANCHORS.names).astype({"by_rule": "Int64"})
