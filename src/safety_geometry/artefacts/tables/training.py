"""Training, and the choice of a reference anchor."""

from safety_geometry.artefacts.tables.families import SEED
from safety_geometry.artefacts.tables.specification import Table, number, share, text, whole

TRAINING = Table(
    "training",
    "One row per optimiser step of a regime; losses in nats per label token.",
    (
        SEED,
        text("regime", "name of the regime"),
        whole("step", "finished optimiser steps", 1),
        number("lr", "learning rate used", 0),
        number("loss", "weighted total"),
        number("clean", "cross-entropy of clean answers", 0),
        number("away", "away loss (not in SFT)", 0, missing=True),
        number("toward", "toward loss (not in SFT)", 0, missing=True),
        number("pool_before", "mean attack loss of the drawn cases before their update", 0, missing=True),
        number("pool_after", "the same after the update (equal when suffixes are frozen)", 0, missing=True),
        whole("rejected", "candidates that did not re-tokenise to themselves", 0),
        whole("attack_tokens", "tokens processed by GCG", 0),
        text(
            "cases",
            (
                "ids of the behaviours that the step attacked and trained on, or only trained on where suffixes are "
                "frozen, separated by spaces (not in SFT)"
            ),
            missing=True,
        ),
        whole(
            "updates_min",
            (
                "least number of updates that a case now in the pool has had, after the step; a case that enters at "
                "a reset begins at 0, and frozen ones stay there (not in SFT)"
            ),
            0,
            missing=True,
        ),
        whole(
            "updates_max", "largest number of updates that a case now in the pool has had (not in SFT)", 0, missing=True
        ),
        number("grad_norm", "gradient norm before clipping", 0),
        share("refusal_harmful", "share of harmful monitor prompts refused", missing=True),
        share("refusal_benign", "share of benign monitor prompts refused", missing=True),
    ),
    key=("seed", "regime", "step"),
    category="Training",
    caption=(
        "One row per optimiser step: losses, attack loss of the pool before and after the update, ids of the"
        " attacked behaviours, the least and largest number of updates of a case in the pool, and refusal of"
        " monitor prompts."
    ),
)

REFERENCE_ANCHORS = Table(
    "reference_anchors",
    (
        "The configured reference anchor of each regime, and the one that the papers' rule (earliest checkpoint with"
        " stable refusal of monitor prompts) would choose."
    ),
    (
        SEED,
        text("regime", "name of the regime"),
        whole("configured", "reference step of the configuration", 1),
        whole("by_rule", "step that the rule would choose; empty where refusal is never stable", 1, missing=True),
        share("refusal_at_configured", "share of harmful monitor prompts refused at the configured step", missing=True),
        share("refusal_at_rule", "the same at the rule's step", missing=True),
        share("threshold", "refusal share that counts as refusing"),
        share("tolerance", "how far later steps may fall below it"),
    ),
    key=("seed", "regime"),
    category="Training",
    caption=(
        "Reference anchor of each regime as configured, beside the one that the papers' rule would pick: the"
        " earliest step from which the share of refused harmful monitor prompts is, and stays, at the "
        "threshold (less the tolerance). The rule only reports; results never move it."
    ),
)

TABLES = (TRAINING, REFERENCE_ANCHORS)
