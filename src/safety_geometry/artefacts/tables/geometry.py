"""Coupling, shape and drift of the carriers."""

from safety_geometry.artefacts.tables.families import (
    C_COS,
    C_LAYER,
    CHECKPOINT,
    FROZEN,
    HRCI,
    HRCI_REPR,
    NEEDS_R,
    R_STATUS,
    RULERS,
    SELECTION,
    SITE_H,
    SITE_R,
)
from safety_geometry.artefacts.tables.specification import Table, flag, interval, number, optional, share, text, whole

# Of the refusal carrier, or of both.
NEEDING_R = (
    flag(
        "admissible",
        "KL budget met; False: the best inadmissible candidate is reported; empty: not measured",
        missing=True,
    ),
    C_LAYER,
    *interval(C_COS),
    *interval(
        share(
            "c_sub",
            "mean squared cosine of the principal angles of the subspaces; empty where a subspace is empty",
            missing=True,
        )
    ),
    *interval(HRCI),
    *interval(HRCI_REPR),
    number("s_total", "s_refuse + s_comply - beta_kl * kl of the refusal carrier", maximum=2, missing=True),
    number("s_refuse", "cosine of steered safe prompts with the harmful baseline", -1, 1, missing=True),
    number("s_comply", "cosine of ablated harmful prompts with the safe baseline", -1, 1, missing=True),
    number("kl", "KL(clean || ablated) at the last prompt token on safe prompts, nats", 0, missing=True),
    number(
        "s_total_lo",
        (
            "2.5 % point over resampled validation prompts at this site; resampled means are noisier, so the "
            "range tends to lie below the value"
        ),
        maximum=2,
        missing=True,
    ),
    number("s_total_hi", "97.5 % point of the same", maximum=2, missing=True),
    share(
        "site_share",
        "share of resamples of the selection prompts that choose this position and layer, or a layer beside it",
        missing=True,
    ),
    share("none_share", "share of resamples in which nothing admissible does more than nothing", missing=True),
)

COUPLING = Table(
    "coupling",
    (
        "Harmfulness-refusal coupling of each saved checkpoint, with 95 % percentile bootstrap intervals over the "
        "fit prompts at the selected sites. Layers are block inputs, zero-based. S scores are empty where no "
        "candidates were scored (selection frozen)."
    )
    + NEEDS_R,
    (
        *CHECKPOINT,
        text(
            "selection", "own: sites chosen at this checkpoint; frozen: sites of the scored step before it", SELECTION
        ),
        *R_STATUS,
        *SITE_H,
        *optional(*SITE_R),
        *NEEDING_R,
        *FROZEN,
        number(
            "h_score",
            "validation score of the harmfulness carrier (harmfulness.score of the configuration)",
            missing=True,
        ),
        *RULERS,
        whole("n_harmful", "harmful fit prompts", 1),
        whole("n_benign", "benign fit prompts", 1),
    ),
    key=("seed", "regime", "step"),
    category="Geometry",
    caption=(
        "Coupling of each saved checkpoint with the scores behind the choice of sites. ``site_share`` is how"
        " often resampled validation prompts choose the same site: below one half, the site is a draw."
    ),
)

COUPLING_CONTROLS = Table(
    "coupling_controls",
    (
        "What stands beside each coupling value, made at sites chosen before on all prompts. own_sites: the value "
        "itself, bootstrap interval. isotropic: expectation for independent random directions. shuffled: class "
        "labels permuted (mean, 95 % range). cross_fitted: H and R from disjoint halves of the fit prompts, both "
        "orders (mean, 95 % range over splits). split_half: agreement of a carrier with itself on two halves, and "
        "the cosine corrected by it. fixed_layer and fixed_layer_cross_fitted: the same at one common layer, each "
        "carrier at its own position (c_sub from the same prompts is 1 there by construction)."
    ),
    (
        *CHECKPOINT,
        text(
            "companion",
            "kind of companion",
            (
                "own_sites",
                "isotropic",
                "shuffled",
                "cross_fitted",
                "split_half",
                "fixed_layer",
                "fixed_layer_cross_fitted",
            ),
        ),
        whole("layer_h", "layer of H here", 0),
        text("pos_h", "position of H here"),
        whole("layer_r", "layer of R here", 0),
        whole("pos_r", "position of R here", maximum=-1),
        text(
            "quantity",
            (
                "coupling term; reliability_*: cosine (sub: subspace overlap) between two halves; ceiling: root of "
                "the product of the reliabilities; disattenuated_c_cos: mean cross-fitted cosine over the ceiling, "
                "above 1 by noise"
            ),
            (
                "c_cos",
                "c_sub",
                "hrci",
                "hrci_repr",
                "reliability_h",
                "reliability_r",
                "reliability_sub_h",
                "reliability_sub_r",
                "ceiling",
                "disattenuated_c_cos",
            ),
        ),
        number("value", "the value; empty where a direction or a reliability is not positive", missing=True),
        number("lo", "2.5 % point of the resamples", missing=True),
        number("hi", "97.5 % point of the resamples", missing=True),
        whole("n", "resamples behind value or interval; 0 for a closed form", 0),
    ),
    key=("seed", "regime", "step", "companion", "quantity", "layer_h"),
    category="Geometry",
    caption=(
        "What stands beside each coupling value: its interval, random directions, shuffled labels, carriers "
        "from disjoint halves of the prompts, the split-half ceiling, and the same at fixed common layers."
    ),
)

GEOMETRY = Table(
    "geometry",
    (
        "Shape of the mean-difference field (post-instruction positions × candidate layers, uncentred) of each saved"
        " checkpoint, and drift of the carriers from the reference anchor (ref) and from the save before (prev)."
    )
    + NEEDS_R,
    (
        *CHECKPOINT,
        text("selection", "whether the sites were chosen at this checkpoint", SELECTION),
        *R_STATUS,
        whole("reference", "step of the regime's reference anchor", 0),
        number("erank", "effective rank, exp of the entropy of the squared singular values' shares", 1, missing=True),
        number("pr", "participation ratio of the squared singular values", 1, missing=True),
        whole("k90", "components that hold 90 % of the energy", 1, missing=True),
        whole("k95", "components that hold 95 % of the energy", 1, missing=True),
        number("angle_1", "smallest principal angle to the reference's leading subspace, degrees", 0, 90, missing=True),
        number("angle_2", "second angle", 0, 90, missing=True),
        number("angle_3", "third angle", 0, 90, missing=True),
        number("norm_h", "norm of the raw harmfulness mean difference", 0),
        share("drift_h_ref", "1 - |cos| with the reference's harmfulness carrier, each at its own site"),
        number("cos_fixed_h_ref", "cosine with the reference's harmfulness direction at the reference's site", -1, 1),
        share("drift_h_prev", "the same against the save before; empty at the first save", missing=True),
        number("cos_fixed_h_prev", "the same against the save before, at its site", -1, 1, missing=True),
        number("norm_r", "norm of the raw refusal mean difference", 0, missing=True),
        share("drift_r_ref", "1 - |cos| with the reference's refusal carrier, each at its own site", missing=True),
        number(
            "cos_fixed_r_ref",
            "cosine with the reference's refusal direction at the reference's site",
            -1,
            1,
            missing=True,
        ),
        share("drift_r_prev", "the same against the save before; empty at the first save", missing=True),
        number("cos_fixed_r_prev", "the same against the save before, at its site", -1, 1, missing=True),
        number("s_total_drift", "s_total minus the reference's; empty where no candidates were scored", missing=True),
        number("s_refuse_drift", "s_refuse minus the reference's; empty where no candidates were scored", missing=True),
    ),
    key=("seed", "regime", "step"),
    category="Geometry",
    caption=(
        "Spectrum of the mean-difference field, principal angles to the reference anchor, and drift of both "
        "carriers, at their own sites and at the reference's."
    ),
)

OF_R_SITE = ("effect", "cosmic", "s_total", "s_refuse", "s_comply", "kl")

PROFILE = Table(
    "profile",
    (
        "Score of every candidate site. H: validation scores per layer at the harmfulness position, at each save. R: gains"
        " beyond doing nothing by both selectors, and raw COSMIC-style scores, per layer and position where candidates were"
        " scored: of the finalists on all selection prompts, of the others on those of the screen. The rulers are the same"
        " at every site: what the prompts alone give away."
    ),
    (
        *CHECKPOINT,
        text("carrier", "harmfulness or refusal", ("H", "R")),
        whole("layer", "block whose input is read", 0),
        text("position", "t_inst or counted from the end of the prompt"),
        text("quantity", "which score", ("dprime", "auroc", "gap", *OF_R_SITE)),
        number("value", "the score; empty where the two class means are equal or the KL is not finite", missing=True),
        flag("admissible", "R: within the KL budget and below the layer cut; empty for H", missing=True),
        flag("selected", "the score and site that the carrier was chosen by"),
        *RULERS,
    ),
    key=("seed", "regime", "step", "carrier", "layer", "position", "quantity"),
    category="Geometry",
    caption="Score of every candidate site of both carriers, and which was chosen.",
)

SELECTION_TABLE = Table(
    "selection",
    (
        "The site that each selector chooses for R at each anchor, and whether it is R. effect: half of what removing the "
        "candidate takes from the refusal log-odds of harmful prompts and half of what adding it gives to benign ones. "
        "cosmic: (S_refuse + S_comply - 2 c0) / (2 (1 - c0)) - beta KL. Doing nothing gains 0 in both. A site is R (status "
        "own) when its gain on prompts that did not choose it is at least min_gain and exceeds null_95, refusals can be told "
        "by their openings (auroc at least .7) and at least 8 benign prompts are answered."
    ),
    (
        *CHECKPOINT,
        text("selector", "how candidates are compared", ("effect", "cosmic")),
        flag("in_charge", "whether its choice is R (refusal.selector)"),
        text(
            "status",
            "own: the site is R; none: it is not; reference: nor is it, and R is read at the site of a reference anchor's R; "
            "candidate: nor is it, nor has a reference anchor one, and what is drawn of R is read at the best candidate there",
            ("own", "reference", "candidate", "none"),
        ),
        text("reason", "why the site is not R; with refusal.require_gain false it is kept all the same", missing=True),
        whole("layer", "layer of the chosen site", 0),
        whole("position", "position of the chosen site", maximum=-1),
        flag("admissible", "KL budget met, and more than nothing done; False: the best of the others is reported"),
        *interval(
            number(
                "gain",
                "of the choice beyond doing nothing, cross-fitted: chosen on the screen and one part of the other selection "
                "prompts, measured on the other part, mean of both ways",
                missing=True,
            ),
            "lower end of the 95 % bootstrap interval over the measuring prompts, the choices as they are",
        ),
        *interval(
            number(
                "fall",
                "gain at the regime's reference anchor less the gain here, on the same selection prompts",
                missing=True,
            ),
            "lower end of the 95 % bootstrap interval over the prompts that measure at either, paired",
        ),
        whole("fall_n", "prompts of the smaller class behind it", 1, missing=True),
        number("gain_all", "of the chosen site on all selection prompts, which chose it", missing=True),
        number("no_op", "what the score is when nothing is edited: effect 0, cosmic S_refuse + S_comply = 2 c0"),
        number(
            "null_95",
            "95 % point of the same gain over sets of label-shuffled, energy-matched directions, a smallest value that one "
            "further set exceeds in at most 5 % of cases (fewer than 19 sets: the largest); empty where no set could decide",
            missing=True,
        ),
        whole("null_sets", "sets behind it", 0),
        whole("null_sites", "directions of a set", 1, missing=True),
        share("null_cos", "mean |cos| of the sets' winners with the candidate at their site", missing=True),
        number("min_gain", "the least gain that makes a site R", 0),
        whole("runner_up_layer", "layer of the next best finalist", 0, missing=True),
        whole("runner_up_position", "its position", maximum=-1, missing=True),
        number("margin", "gain_all of the chosen site less that of the next best", missing=True),
        whole(
            "ties",
            "finalists within a standard error of the best; the one nearest the site of the save before is chosen",
            1,
        ),
        share("site_share", "share of resamples that choose the same position and a layer one away at most"),
        share("none_share", "share of resamples in which nothing admissible does more than nothing"),
        number("kl", "KL(clean || removed) at the own layer on answered benign selection prompts, nats", 0),
        number("kl_all_layers", "the same with the direction removed at every block input, on the first 8 of them", 0),
        flag("inverted", "the refusal log-odds are no higher on harmful than on benign prompts"),
        text(
            "openings",
            "first answer tokens that count as refusals: of the checkpoint's own refused answers, or the configured ones",
            ("own", "configured"),
        ),
        whole("opening_tokens", "how many", 1),
        share(
            "auroc", "of the clean log-odds against refused answers; empty where none or all are refused", missing=True
        ),
        share("auroc_configured", "the same with the configured openings", missing=True),
        whole("n_refused", "selection prompts that are refused", 0),
        whole("n_answered", "benign selection prompts that are not refused", 0),
        whole("n_harmful", "harmful selection prompts", 1),
        whole("n_benign", "benign selection prompts", 1),
        whole("n_screen", "of each class, those that every candidate was run on", 1),
    ),
    key=("seed", "regime", "step", "selector"),
    category="Geometry",
    caption=(
        "Which site each selector chooses for R at each anchor: what it gains beyond doing nothing on prompts that did not choose it,"
        " what the same choice among label-shuffled directions gains (``null_95``), the next best site, and whether the site is R."
    ),
)

SEPARABILITY = Table(
    "separability",
    (
        "How well each carrier tells the harmful select prompts from the benign ones at its own site, at each anchor, beside "
        "what plain properties of the same prompts tell: their length in tokens, and their words. H's layer was chosen on "
        "these prompts, which flatters H a little; R was chosen by what it does."
    ),
    (
        *CHECKPOINT,
        text("carrier", "harmfulness or refusal", ("H", "R")),
        whole("layer", "layer of the carrier", 0),
        text("position", "position of the carrier"),
        text(
            "ruler",
            "length: tokens of the prompt, their direction from the fit prompts; words: naive Bayes over content words, learnt "
            "on the fit prompts",
            ("length", "words"),
        ),
        share("auroc", "of the projections on the carrier, harmful against benign; ties count a half"),
        share("ruler_auroc", "of the ruler on the same prompts"),
        *interval(
            number("difference", "auroc less ruler_auroc", -1, 1),
            "lower end of its 95 % bootstrap interval, paired, prompts resampled within the classes",
        ),
        whole("changed", "prompts that the two place differently among those of the other class", 0),
        whole("n_harmful", "harmful select prompts", 1),
        whole("n_benign", "benign select prompts", 1),
    ),
    key=("seed", "regime", "step", "carrier", "ruler"),
    category="Geometry",
    caption=(
        "Does a carrier tell harmful from benign prompts any better than their length or their words do? Where the interval of "
        "``difference`` reaches zero, the separation shows nothing about the model."
    ),
)

TABLES = (COUPLING, COUPLING_CONTROLS, GEOMETRY, PROFILE, SELECTION_TABLE, SEPARABILITY)
