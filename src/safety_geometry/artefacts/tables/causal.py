"""Interventions along the carriers, and their matched controls."""

from safety_geometry.artefacts.tables.families import (
    C_COS,
    CHECKPOINT,
    EMPTY_ANSWERS,
    FAMILY,
    KL_BENIGN,
    LAMBDA,
    MODE,
    PAIRED,
    RANK,
    REGIME,
    SCOPE,
    SEED,
    SITE_H,
    SITE_R,
    SUCCESS_MEANS,
    WILSON,
)
from safety_geometry.artefacts.tables.specification import Table, flag, interval, number, optional, share, text, whole

# What is done, beside which target, and how like the target it is.
DESCRIPTION = (
    text("target", "id of the target that the row belongs to; empty for the baseline", missing=True),
    *optional(FAMILY, MODE, SCOPE, RANK, LAMBDA),
    text(
        "control",
        (
            "target: the carrier itself; baseline: no intervention; random: a random unit direction at the same "
            "layer; wrong_layer: the carrier read at a distant layer; wrong_position: read at another position; "
            "covariance: random with the covariance of the activations; shuffled: difference of means under "
            "shuffled labels; norm_matched: random directions that hold the target's energy; selected: in R's place the "
            "best of a set of label-shuffled directions, chosen as R was, at the layer where it was chosen. Controls of "
            "an ablation remove as much energy as the target (lambda_matched)"
        ),
        (
            "target",
            "baseline",
            "random",
            "wrong_layer",
            "wrong_position",
            "covariance",
            "shuffled",
            "norm_matched",
            "selected",
        ),
    ),
    whole("number", "index within the kind of control", 0),
    whole(
        "control_seed_h",
        "seed of the draw in H's place; empty where nothing is drawn, or the mode has no part along H",
        missing=True,
    ),
    whole("control_seed_r", "seed of the draw in R's place, likewise; h_plus_r has a draw for each", missing=True),
    whole("layer_h", "layer where the part along H acts; empty where the mode has none", 0, missing=True),
    whole("layer_r", "layer where the part along R acts; empty where the mode has none", 0, missing=True),
    whole(
        "source_layer_h",
        "layer where the direction in H's place was read; empty where it was not read",
        0,
        missing=True,
    ),
    whole("source_layer_r", "layer where the direction in R's place was read, likewise", 0, missing=True),
    text(
        "source_position_h",
        "position where the direction in H's place was read (t_inst or counted from the end)",
        missing=True,
    ),
    text("source_position_r", "position where the direction in R's place was read", missing=True),
    share(
        "abs_cos",
        "|cos| with the target's direction; subspaces: root mean square cosine of the principal angles",
        missing=True,
    ),
    number(
        "energy",
        (
            "share of the residual energy that is removed or added: mean squared norm of the change over that of"
            " the activation"
        ),
        0,
        missing=True,
    ),
    number(
        "lambda_matched",
        "strength that acts: of a control of an ablation lambda x sqrt(E / E'), E the target's energy and E' the"
        " control's at lambda; of a shared control of steering |lambda|, a drawn direction having no sign; empty where"
        " two parts have strengths of their own",
        missing=True,
    ),
    flag("capped", "whether the control removes less energy, as its strength would exceed sweep.max_matched_lambda"),
    number(
        "dose",
        "steering: length of the added vector over the mean norm of the activations there (tokens of the harmful"
        " readout prompts; two layers: the sum); empty for ablations",
        0,
        missing=True,
    ),
    flag("primary", "whether the target is one of the primary cells named in the configuration"),
)
# What comes out.
MEASURED = (
    number("log_odds", "mean log-odds of a refusal at the first answer token on harmful requests", missing=True),
    number("log_odds_delta", "the same minus the baseline on the same prompts", missing=True),
    share(
        "wrong_way",
        "prompts whose log-odds move against what lambda is for: fall where a carrier is added (or amplified, an"
        " ablation of lambda < 0), rise where it is taken away",
        missing=True,
    ),
    whole("n_log_odds", "prompts behind it", 1, missing=True),
    KL_BENIGN,
    whole("n_kl", "prompts behind it", 1, missing=True),
    number(
        "kl_answer",
        "mean KL(baseline || intervened) per token of the baseline's own answers to the benign prompts, nats; cells"
        " that answer",
        0,
        missing=True,
    ),
    whole("n_kl_answer", "prompts behind it", 1, missing=True),
    *interval(share("asr", "attack success on harmful requests asked as they are", missing=True), WILSON),
    whole("n_asr", "prompts behind it", 1, missing=True),
    *interval(
        number("asr_delta", "attack success minus the baseline's on the same prompts", -1, 1, missing=True), PAIRED
    ),
    *interval(share("direct_refusal", "full or partial refusals of the same requests", missing=True), WILSON),
    whole("n_direct_refusal", "prompts behind it", 1, missing=True),
    *interval(
        number("direct_refusal_delta", "refusals minus the baseline's on the same prompts", -1, 1, missing=True), PAIRED
    ),
    *interval(share("any_refusal", "full or partial refusals of safe look-alikes", missing=True), WILSON),
    whole("n_any_refusal", "prompts behind it", 1, missing=True),
    number("benign_mean", "mean benign utility", 0, 2, missing=True),
    whole("n_benign", "prompts behind it", 1, missing=True),
    *interval(EMPTY_ANSWERS, WILSON),
    whole("n_degenerate", "answers behind it", 1, missing=True),
    *optional(SUCCESS_MEANS),
)

CAUSAL_SWEEP = Table(
    "causal_sweep",
    (
        "Every intervention of the causal sweep: targets (edits along the carriers), their matched controls, and the"
        " run without intervention (control: baseline). A control that serves several targets has one row for each. "
        "Readouts are empty where a cell was not measured; answers were generated for some cells only. All cells of "
        "a checkpoint answer the same prompts."
    ),
    (
        *CHECKPOINT,
        *DESCRIPTION,
        *MEASURED,
    ),
    key=("seed", "regime", "step", "target", "control", "number"),
    category="Causal",
    caption=(
        "Every intervention of the sweep, one row per target and per control of a target, and the run "
        "without intervention (``control`` is *baseline*). A *target* edits along a carrier; ``family``, "
        "``mode``, ``scope``, ``rank`` and ``lambda`` say how. ``abs_cos`` is how like the target a control "
        "is, and ``energy`` how much of the activation it takes away or adds. Controls of an ablation act "
        "with ``lambda_matched``, so that they take away as much as their target; where that would need too "
        "strong an edit they are ``capped`` and count nowhere else. ``dose`` is the length of what steering "
        "adds, in norms of the activations there. ``log_odds`` and ``kl_benign`` come from the first answer token of "
        "every cell; ``kl_answer`` (over the clean model's answers), attack success and the other rates only from "
        "the cells that answered, and are empty elsewhere. ``wrong_way`` is the share of requests whose log-odds move "
        "against what the strength is for: an effect that half of them contradict is none of that kind. "
        "Read attack success beside ``degenerate`` and ``kl_answer``. A control that serves "
        "several targets stands once under each, so rows of controls are not independent."
    ),
)

METRICS = ("log_odds", "kl", "kl_answer", "asr", "direct_refusal", "any_refusal", "benign_mean", "degenerate")

CONTROL_NORMALISED = Table(
    "control_normalised",
    (
        "The effect of each target less the mean effect of its matched controls; capped ones are left out. "
        "Differences are paired by prompt; the interval resamples prompts and controls. A permutation p stands on the "
        "log-odds of the primary cells; cells whose answers were generated have intervals, not p."
    ),
    (
        *CHECKPOINT,
        text("target", "id of the target"),
        FAMILY,
        MODE,
        SCOPE,
        RANK,
        LAMBDA,
        text(
            "metric",
            "what is measured; see causal_sweep",
            METRICS,
        ),
        text(
            "control",
            "kind of control; pooled: random, covariance and shuffled together",
            ("pooled", "random", "covariance", "shuffled", "wrong_layer", "wrong_position", "norm_matched", "selected"),
        ),
        number("value", "mean of the target"),
        number("baseline", "mean without intervention on the same prompts"),
        *interval(
            number("delta", "value minus baseline"),
            "lower end of its 95 % interval, paired by prompt (rates: Newcombe's method 10; else a bootstrap)",
        ),
        number("control_mean", "mean over the controls of their difference to the baseline"),
        number("delta_control", "delta minus control_mean"),
        number(
            "lo",
            (
                "lower end of the 95 % bootstrap interval of delta_control over prompts and controls (prompts only "
                "where there is one control)"
            ),
        ),
        number("hi", "upper end"),
        *interval(
            number(
                "halved",
                "direct_refusal: half of the baseline less value, positive where more than half of the refusals are gone",
                -1,
                1,
                missing=True,
            ),
            PAIRED,
        ),
        number(
            "worst_delta",
            "rates: the target less the one of these controls that it exceeds least for certain, in the direction of delta",
            -1,
            1,
            missing=True,
        ),
        number("worst_lo", PAIRED, -1, 1, missing=True),
        number("worst_hi", "upper end", -1, 1, missing=True),
        whole("n_prompts", "prompts", 1),
        whole("n_controls", "controls", 1),
        whole("n_capped", "controls that are left out, since they remove less energy than the target", 0),
        number("removed_energy", "share of the residual energy that the target removes or adds", 0, missing=True),
        number("control_energy", "the same of the controls (mean)", 0, missing=True),
        share("control_cos", "mean |cos| of the controls with the target", missing=True),
        flag("primary", "whether the target is one of the primary cells"),
        share(
            "p_permutation",
            "two-sided p of the target among the pooled controls, about the mean of both; primary cells, log_odds",
            missing=True,
        ),
        share("p_holm", "the same, Holm over the primary cells of the seed's regime", missing=True),
        share("p_smallest", "least p_permutation that so many controls can give", missing=True),
        share("p_kind", "the p among the controls of one kind; it describes, and decides nothing", missing=True),
        share("p_kind_smallest", "least p_kind that so many controls can give", missing=True),
        *optional(SUCCESS_MEANS),
    ),
    key=("seed", "regime", "step", "target", "metric", "control"),
    category="Causal",
    caption=(
        "The effect of each target less the mean effect of its controls. ``delta`` is the target against no "
        "intervention on the same prompts, ``control_mean`` the same for the controls on average, and "
        "``delta_control`` their difference with its 95 % interval over prompts and controls. *pooled* means"
        " the random, covariance-matched and label-shuffled controls together; each kind has a row of its "
        "own. The interval bounds the distance from the *average* control, and is too narrow where there are"
        " two or three. Whether the target lies further out than single controls do is the permutation p, on"
        " the log-odds of the primary cells, among the pooled controls; ``p_holm`` adjusts it over the primary "
        "cells of the seed's regime, and ``p_smallest`` is the least unadjusted p that so many controls can give. "
        "``p_kind``, among the controls of one kind, only describes. Signs: less refusal is a "
        "negative change of ``log_odds`` and of ``direct_refusal``, the share of direct requests that are refused; more "
        "attack success is a positive change of ``asr``. Of rates ``worst_delta`` is the distance to the one control that "
        "the target exceeds least: where its interval excludes zero, the target lies beyond each."
    ),
)

SWEEP_POOLED = Table(
    "sweep_pooled",
    (
        "The effect of each target less the mean effect of its pooled controls, as the mean over seeds. The permutation"
        " p of the primary cells takes the directions of the seeds together by index."
    ),
    (
        REGIME,
        text("anchor", "name of the anchor"),
        text("target", "id of the target"),
        FAMILY,
        MODE,
        SCOPE,
        RANK,
        LAMBDA,
        text("metric", "what is measured; see causal_sweep", METRICS),
        whole("n_seeds", "seeds that have the target and a control", 1),
        number("delta", "mean over seeds of the target's change against no intervention"),
        number("control_mean", "the same of its controls (random, covariance, shuffled; capped ones left out)"),
        number("delta_control", "delta minus control_mean"),
        number("lo", "lower end of the 95 % bootstrap interval over prompts and controls within these seeds"),
        number("hi", "upper end"),
        number("lo_seeds", "lower end of Student's 95 % interval over the seeds' values; empty with one", missing=True),
        number("hi_seeds", "upper end", missing=True),
        whole("n_prompts", "prompts, all seeds together", 1),
        whole("n_controls", "directions that every seed has, by kind and index", 0),
        flag("primary", "whether the target is one of the primary cells"),
        share("p_permutation", "two-sided p of the mean among the means of the directions by index", missing=True),
        share("p_holm", "the same, Holm over the primary cells of the regime", missing=True),
        share("p_smallest", "least p_permutation that so many directions can give", missing=True),
    ),
    key=("regime", "anchor", "target", "metric"),
    category="Causal",
    caption=(
        "The effects of *control_normalised* beside the pooled controls, as means over seeds. ``lo`` and ``hi`` bound "
        "the mean of these seeds, ``lo_seeds`` and ``hi_seeds`` what seeds like these would give (Student's t; wide "
        "with three). The permutation p of the primary cells compares the mean over seeds of the target with the means "
        "of the i-th controls of every seed."
    ),
)

LAYER_SCAN = Table(
    "layer_scan",
    (
        "Where an intervention changes refusal: the same edit along a carrier's direction at one layer after the "
        "other, beside drawn directions at that layer. Intervals are 95 % bootstrap intervals over prompts (and "
        "controls)."
    ),
    (
        *CHECKPOINT,
        FAMILY,
        MODE,
        LAMBDA,
        whole("layer", "layer at whose input the edit acts", 0),
        number("log_odds_delta", "mean log-odds of a refusal at the first answer token minus the baseline's"),
        number("lo", "lower end"),
        number("hi", "upper end"),
        whole("n", "harmful prompts", 1),
        number("control_mean", "mean over the controls of theirs; empty without one", missing=True),
        *interval(
            number("delta_control", "log_odds_delta minus control_mean", missing=True),
            "lower end of its interval over prompts and controls",
        ),
        whole("n_controls", "controls at the layer that remove or add as much; capped ones are left out", 0),
        KL_BENIGN,
        number("max_kl", "kl_benign that a recommended row may have, nats (sweep.layer_scan.max_kl)", 0, missing=True),
        flag(
            "recommended",
            "whether this layer and lambda have the family's and mode's largest delta_control towards what lambda is "
            "for, among rows whose interval excludes 0 and whose kl_benign is at most max_kl",
        ),
        whole("layer_h", "layer of the harmfulness carrier", 0),
        whole("layer_r", "layer of the refusal carrier", 0),
    ),
    key=("seed", "regime", "step", "family", "mode", "lambda", "layer"),
    category="Causal",
    caption=(
        "Change of the refusal log-odds when both carriers are read anew at a layer and edited there, layer "
        "after layer, with a 95 % interval over prompts. ``layer_h`` and ``layer_r`` are the layers where "
        "the study reads its carriers; they were chosen by other scores. ``delta_control`` takes off the mean of drawn "
        "directions at the same layer that remove or add as much: a layer at which everything has an effect is not one "
        "that holds refusal. ``recommended`` marks, for each mode, the layer and strength with the largest such effect "
        "whose ``kl_benign`` stays within ``max_kl``; it was found on the prompts on which it is shown, so its effect "
        "is a little too large."
    ),
)

ALIGNED_ANCHORS = Table(
    "aligned_anchors",
    (
        "Aligned models with a carrier edited (arXiv 2606.16349, Table 1): sites and angles of the carriers, and "
        "attack success on harmful requests without intervention and with each edit, all on the same prompts."
    ),
    (
        text("model", "a checkpoint of the study as regime:anchor, or a model's name in the configuration"),
        SEED,
        *SITE_H,
        *SITE_R,
        C_COS,
        number("angle_1", "smallest principal angle between the subspaces of H and R, degrees", 0, 90, missing=True),
        number("angle_2", "second principal angle", 0, 90, missing=True),
        number("angle_3", "third principal angle", 0, 90, missing=True),
        FAMILY,
        LAMBDA,
        SCOPE,
        RANK,
        whole("n", "harmful requests", 1),
        *interval(share("asr_baseline", "attack success without intervention"), WILSON),
        *interval(share("asr_h_only", "attack success with H edited"), WILSON),
        *interval(share("asr_r_only", "attack success with R edited"), WILSON),
        *interval(share("asr_r_perp_h", "attack success with R without its part along H edited"), WILSON),
        *interval(number("r_minus_h", "asr_r_only - asr_h_only, on the same prompts", -1, 1), PAIRED),
        share("r_minus_h_p", "exact McNemar p"),
        *interval(number("r_perp_minus_h", "asr_r_perp_h - asr_h_only, on the same prompts", -1, 1), PAIRED),
        share("r_perp_minus_h_p", "exact McNemar p"),
        *interval(
            share("refusal_baseline", "full or partial refusals of the same requests without intervention"), WILSON
        ),
        *interval(share("refusal_h_only", "the same with H edited"), WILSON),
        *interval(share("refusal_r_only", "the same with R edited"), WILSON),
        *interval(share("refusal_r_perp_h", "the same with R without its part along H edited"), WILSON),
        *interval(number("refusal_h_minus_r", "refusal_h_only - refusal_r_only, on the same prompts", -1, 1), PAIRED),
        share("refusal_h_minus_r_p", "exact McNemar p"),
        SUCCESS_MEANS,
    ),
    key=("seed", "model", "family", "lambda", "scope", "rank"),
    category="Causal",
    caption=(
        "Aligned models with one carrier edited, in the layout of the paper's table of aligned anchors: "
        "layers and angles of the carriers, and attack success on the same direct requests without "
        "intervention, with H, with R, and with R less its part along H. ``r_minus_h`` and "
        "``r_perp_minus_h`` are paired differences with Newcombe's interval and the exact McNemar p. Angles "
        "near 90 degrees mean that the subspaces share nothing; two random subspaces of a wide model are "
        "nearly orthogonal too. Where both carriers have one position and one layer they are one vector. ``refusal_`` "
        "are the refusals of the same requests; ``refusal_h_minus_r`` is positive where R holds more of them than H. A "
        "rise of attack success is not yet a useful answer: see *follow_up*."
    ),
)

TABLES = (CAUSAL_SWEEP, CONTROL_NORMALISED, SWEEP_POOLED, LAYER_SCAN, ALIGNED_ANCHORS)
