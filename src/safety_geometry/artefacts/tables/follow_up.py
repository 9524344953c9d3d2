"""The largest effects, answered anew, and the four quadrants."""

from safety_geometry.artefacts.tables.families import (
    ATTACK_SUCCESS,
    BOOTSTRAP,
    CHECKPOINT,
    DEGENERATE,
    DIGEST,
    EMPTY_ANSWERS,
    FAMILY,
    HARM_SCORE,
    LAMBDA,
    MODE,
    PAIRED,
    PAIRED_BOOTSTRAP,
    RANK,
    REFUSAL,
    REFUSAL_SCORE,
    SCOPE,
    SUCCESS_MEANS,
    UTILITY,
    WILSON,
)
from safety_geometry.artefacts.tables.specification import Table, interval, number, optional, share, text, whole

# Which cell is followed up, and why.
FOLLOWED = (
    text("target", "id of the target that the row belongs to; empty for a baseline", missing=True),
    *optional(FAMILY, MODE, LAMBDA, SCOPE, RANK),
    text("role", "what the row is", ("target", "control", "baseline")),
    text(
        "control",
        "kind of control; see causal_sweep",
        (
            "target",
            "baseline",
            "random",
            "covariance",
            "shuffled",
            "wrong_layer",
            "wrong_position",
            "norm_matched",
            "selected",
        ),
    ),
    whole("number", "index within the kind of control", 0),
    number(
        "chosen_delta",
        (
            "attack success minus the pooled controls' on the choosing half; targets only. A target without a "
            "positive value was chosen because there were no others"
        ),
        -1,
        1,
        missing=True,
    ),
)

FOLLOW_UP = Table(
    "follow_up",
    (
        "The interventions of largest control-normalised attack success, chosen on one half of the direct requests "
        "and scored on the other, with their controls and baselines: does reopened attack success carry usefulness, "
        "or is it broken text? Rates with Wilson's 95 % interval, means with a bootstrap over prompts; differences "
        "are paired by prompt."
    ),
    (
        *CHECKPOINT,
        *FOLLOWED,
        *interval(share("asr", "attack success on the scoring half of the direct requests", missing=True), WILSON),
        whole("n_asr", "prompts behind it", 1, missing=True),
        *interval(share("any_refusal", "full or partial refusals of the same requests", missing=True), WILSON),
        *interval(
            share("usefulness", "mean usefulness of answers to harmful requests of the suite usefulness", missing=True),
            BOOTSTRAP,
        ),
        whole("n_usefulness", "prompts behind it", 1, missing=True),
        *interval(number("benign_mean", "mean benign utility", 0, 2, missing=True), BOOTSTRAP),
        whole("n_benign", "prompts behind it", 1, missing=True),
        *interval(EMPTY_ANSWERS, WILSON),
        whole("n_degenerate", "answers behind it", 1, missing=True),
        *interval(
            share(
                "degenerate_direct",
                "empty or nonsensical answers to the scoring half of the direct requests",
                missing=True,
            ),
            WILSON,
        ),
        *interval(
            number("asr_delta", "attack success less the baseline's on the same requests", -1, 1, missing=True), PAIRED
        ),
        *interval(
            number("usefulness_delta", "usefulness less the baseline's on the same requests", -1, 1, missing=True),
            PAIRED_BOOTSTRAP,
        ),
        *interval(
            number("degenerate_direct_delta", "degenerate_direct less the baseline's", -1, 1, missing=True), PAIRED
        ),
        *interval(
            number(
                "usefulness_control_delta",
                "usefulness of a target less the mean of its controls' on the same requests",
                -1,
                1,
                missing=True,
            ),
            PAIRED_BOOTSTRAP,
        ),
        SUCCESS_MEANS,
    ),
    key=("seed", "regime", "step", "target", "role", "control", "number"),
    category="Causal",
    caption=(
        "The interventions with the largest control-normalised attack success, their controls and the "
        "baselines of their checkpoints, answered anew. They were chosen on one half of the direct requests "
        "(``chosen_delta``) and are scored on the other, so that the choice does not flatter them. ``asr`` "
        "and ``any_refusal`` are on direct requests, ``usefulness`` on harmful requests of another suite, "
        "``benign_mean`` on harmless tasks, ``degenerate`` over all answers, ``degenerate_direct`` over "
        "those to direct requests. ``_delta`` is less the baseline on the same prompts, "
        "``usefulness_control_delta`` less the mean of the target's controls. Attack success that rises with"
        " usefulness is compliance; with ``degenerate`` and without usefulness it is broken text that no "
        "longer counts as a refusal. A target whose ``chosen_delta`` is not positive was taken because there"
        " was no better."
    ),
)

QUADRANTS = Table(
    "quadrants",
    (
        "The four-quadrant set: answers by input (harmful or benign) and output (refusal or compliance), and benign "
        "requests answered with broken text, sampled from the run's answers. Ids, digests, labels and scores only."
    ),
    (
        *CHECKPOINT,
        text(
            "quadrant",
            "input and output; broken answers to harmful requests that refuse nothing are in no quadrant",
            ("harmful_refused", "harmful_complied", "benign_refused", "benign_complied", "benign_degenerate"),
        ),
        text("id", "id of the answer"),
        text("suite", "suite of its prompt"),
        text("prompt_id", "id of its prompt"),
        *optional(DIGEST),
        REFUSAL,
        REFUSAL_SCORE,
        HARM_SCORE,
        ATTACK_SUCCESS,
        DEGENERATE,
        UTILITY,
        number(
            "proj_h",
            (
                "inner product of the prompt's activation at H's site with H, centred between the class means of the"
                " fit prompts and divided by half their distance (benign mean -1, harmful mean +1)"
            ),
            missing=True,
        ),
        number("proj_r", "the same with R at R's site", missing=True),
        whole("available", "answers that the quadrant had", 1),
        whole("sampled", "answers that were taken", 1),
    ),
    category="Causal",
    caption=(
        "Answers sorted by what was asked (harmful or benign) and what was done (refused, or complied), and "
        "benign requests answered with broken text as a fifth class. ``available`` is how many answers a "
        "class had over all anchors and ``sampled`` how many were drawn, so the table's counts are no rates."
        " ``proj_h`` and ``proj_r`` place a prompt on the carriers of its own checkpoint: −1 is the mean of "
        "the benign prompts that the carrier was fitted on, +1 that of the harmful ones. Answers stand here "
        "as ids, digests and scores; their text stays on this computer."
    ),
)

TABLES = (FOLLOW_UP, QUADRANTS)
