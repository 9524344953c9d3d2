"""Behaviour of the checkpoints beside their coupling, and contrasts between them."""

from dataclasses import replace

from safety_geometry.artefacts.tables.families import (
    ANCHOR,
    BOOTSTRAP,
    C_COS,
    C_LAYER,
    CHECKPOINT,
    FROZEN,
    HRCI,
    HRCI_REPR,
    NEEDS_R,
    OVER_FIT_PROMPTS,
    PAIRED,
    REGIME,
    SEED,
    SITE_H,
    SITE_R,
    STEP,
    SUCCESS_MEANS,
    WILSON,
)
from safety_geometry.artefacts.tables.specification import (
    Table,
    counted,
    flag,
    interval,
    number,
    optional,
    share,
    text,
    whole,
)

METRICS = (
    "fixed_asr",
    "init_asr",
    "autodan_asr",
    "framing_asr",
    "universal_asr",
    "any_attack_asr",
    "direct_attacked_asr",
    "direct_asr",
    "direct_refusal",
    "usefulness",
    "any_refusal",
    "full_refusal",
    "partial_refusal",
    "counterpart_refusal",
    "benign_mean",
    "benign_strict",
    "benign_lenient",
    "benign_refusal",
    "benign_degenerate",
)
OF_PAIRS = "refusal_dprime"
COUPLING = (
    *interval(HRCI, OVER_FIT_PROMPTS),
    *interval(HRCI_REPR, OVER_FIT_PROMPTS),
    C_COS,
    share("c_sub", "overlap of the leading subspaces", missing=True),
    C_LAYER,
    *FROZEN,
    *SITE_H,
    *optional(*SITE_R),
    flag("admissible", "refusal carrier within the KL budget; empty: not measured at this save", missing=True),
)
# Behaviour that stands beside coupling, and what its interval is.
WIDE = (
    (share("fixed_asr", "attack success of the fixed-source attack (optimised suffix)"), WILSON),
    (
        share("init_asr", "attack success of the same requests with the suffix before optimisation"),
        WILSON,
    ),
    (
        share("autodan_asr", "attack success of AutoDAN's prompts made on the fixed source, on the same requests"),
        WILSON,
    ),
    (
        share(
            "framing_asr",
            "share of direct requests on which at least one of the human templates (attacks.framings) succeeds",
        ),
        WILSON,
    ),
    (
        share(
            "universal_asr",
            (
                "attack success of one suffix (attacks.universal) behind every direct request that did not serve to "
                "make it"
            ),
        ),
        WILSON,
    ),
    (
        share(
            "any_attack_asr",
            (
                "share of requests on which at least one arm succeeds (bare request, templates, universal suffix, GCG, "
                "AutoDAN: those that the study has), of the requests that all of them attacked"
            ),
        ),
        WILSON,
    ),
    (
        share("direct_attacked_asr", "direct_asr on the requests that the fixed-source attack attacked"),
        WILSON,
    ),
    (share("direct_asr", "attack success of harmful requests asked as they are"), WILSON),
    (share("any_refusal", "share of safe look-alike prompts refused partly or fully"), WILSON),
    (
        number(
            OF_PAIRS,
            "z(refusal of harmful counterparts) - z(refusal of their safe look-alikes), log-linear correction; n: pairs",
        ),
        f"{BOOTSTRAP} over pairs",
    ),
    (share("usefulness", "mean harmful usefulness, (1 - refused) x judge's score"), BOOTSTRAP),
    (number("benign_mean", "mean benign utility, 0 to 2", 0, 2), BOOTSTRAP),
    (share("benign_strict", "share of benign prompts with utility 2"), WILSON),
    (share("benign_lenient", "share of benign prompts with utility 1 or 2"), WILSON),
    (share("benign_refusal", "share of benign-utility prompts refused partly or fully"), WILSON),
    (
        share(
            "benign_degenerate",
            (
                "share of benign-utility answers that are empty, looping or too short (below three words, or below "
                "the task's own minimum of one or two)"
            ),
        ),
        WILSON,
    ),
)
WIDE_METRICS = tuple(column.name for column, _ in WIDE)
BESIDE_COUPLING = tuple(column for rate, lower in WIDE for column in counted(*optional(rate), lower))
FIVE_ANCHOR = Table(
    "five_anchor",
    (
        "Coupling and behaviour at each regime's anchors. The sites of the carriers are chosen at each anchor; "
        "intervals of the coupling are made at these sites. Cells are empty where a suite was not run or a direction"
        " is zero."
    )
    + NEEDS_R,
    (
        SEED,
        REGIME,
        text("anchor", "name of the anchor"),
        STEP,
        *COUPLING,
        *BESIDE_COUPLING,
        replace(SUCCESS_MEANS, missing_allowed=True),
    ),
    key=("seed", "regime", "anchor"),
    category="Results",
    caption=(
        "The papers' main table: coupling, sites and behaviour of each regime at its anchors. Each rate has "
        "its 95 % interval (``_lo``, ``_hi``) and the number of completions (``_n``). ``admissible`` is "
        "False where no refusal candidate met the KL budget and the best inadmissible one is reported."
    ),
)

TRAJECTORY = Table(
    "trajectory",
    (
        "The columns of five_anchor for every saved checkpoint. Saves without a name read the carriers at the sites "
        "of the anchor before them, and have behaviour only for the suites that run at every save "
        "(completions.every_save). Of such a suite every row, an anchor's too, is made of the same first prompts, as"
        " many as every_save names, so that the series does not jump at an anchor; five_anchor and behaviour have "
        "all of an anchor's prompts. The other suites stand at anchors only, whole. Columns in _frozen are read at "
        "one place in a regime, its reference anchor's sites, so that no change of site moves them."
    )
    + NEEDS_R,
    (
        SEED,
        REGIME,
        ANCHOR,
        STEP,
        *COUPLING,
        *BESIDE_COUPLING,
        replace(SUCCESS_MEANS, missing_allowed=True),
    ),
    key=("seed", "regime", "step"),
    category="Results",
    caption=(
        "The columns of *five_anchor* for every saved checkpoint. Saves without a name take the carriers' "
        "sites from the anchor before them. Suites that run at every save count the same first prompts at "
        "every save and anchor; *five_anchor* has all of them. Columns in ``_frozen`` are coupling with both"
        " carriers read at the sites of the regime's reference anchor throughout. Empty cells: the suite was"
        " not run there."
    ),
)

BEHAVIOUR = Table(
    "behaviour",
    (
        "Behaviour of each judged checkpoint, tidy. Rates with Wilson's 95 % interval, means (usefulness, "
        "benign_mean) with a bootstrap over prompts, refusal_dprime with one over matched pairs. A name with _finished "
        "leaves out completions that reached the length limit. Light seeds have rows here, and none in five_anchor."
    ),
    (
        *CHECKPOINT,
        text(
            "metric",
            "what is measured; see five_anchor for the definitions",
            tuple(f"{name}{end}" for end in ("", "_finished") for name in (*METRICS, OF_PAIRS)),
        ),
        number("value", "rate, mean or d'; empty where n is 0", -8, 8, missing=True),
        number("lo", "lower end", -8, 8, missing=True),
        number("hi", "upper end", -8, 8, missing=True),
        whole("n", "completions; of refusal_dprime, pairs", 0),
        SUCCESS_MEANS,
    ),
    key=("seed", "regime", "step", "metric"),
    category="Results",
    caption=(
        "Every metric of every judged checkpoint. Names that end in ``_finished`` leave out completions that"
        " reached the length limit; where n is 0, all of them did."
    ),
)

CONTRASTS = Table(
    "contrasts",
    (
        "Paired contrasts on the same prompts, first minus other. time: a regime's last anchor minus an earlier one."
        " regime: two regimes at the same step, an anchor of at least one of them. arm: optimised minus unoptimised "
        "suffix at one checkpoint. direct: an attack minus the bare requests that it attacked, at one checkpoint. Light "
        "seeds have rows here, and none in five_anchor."
    ),
    (
        SEED,
        text("contrast", "what is set against what", ("time", "regime", "arm", "direct")),
        text(
            "metric",
            "what is measured; refusal_dprime over matched pairs, of time and regime only",
            (*METRICS, OF_PAIRS),
        ),
        text("regime", "regime of the first checkpoint"),
        whole("step", "its step", 0),
        text("anchor", "its anchor; empty: a save without a name", missing=True),
        text("other_regime", "regime of the other checkpoint"),
        whole("other_step", "its step", 0),
        text("other_anchor", "its anchor; empty: a save without a name", missing=True),
        number("value", "mean difference, first minus other; of refusal_dprime the difference of d'", -16, 16),
        number(
            "lo",
            "lower end of the 95 % interval: Newcombe's paired score interval for rates, paired bootstrap for means and d'",
            -16,
            16,
        ),
        number("hi", "upper end", -16, 16),
        whole("n", "prompts in both", 1),
        whole("changed", "prompts whose outcome differs", 0),
        text(
            "test",
            "exact McNemar test for rates, permuted signs for means (d': checkpoints exchanged within pairs); two-sided",
            ("mcnemar", "sign_flip"),
        ),
        share("p", "p of no difference"),
        share("p_smallest", "least p that so many changed prompts and permutations can give"),
    ),
    key=("seed", "contrast", "metric", "regime", "step", "other_regime", "other_step"),
    category="Results",
    caption=(
        "Paired comparisons on the same prompts, first minus other: an anchor against an earlier one of the "
        "same regime (``time``), two regimes at the same step (``regime``), optimised against unoptimised "
        "suffixes at one checkpoint (``arm``), an attack against the bare requests that it attacked (``direct``). The "
        "p values are not adjusted for the number of rows; "
        "*claims* adjusts those that it uses."
    ),
)

ATTACK_ARMS = Table(
    "attack_arms",
    (
        "Attack success by arm at every anchor, each beside the bare requests that the arm attacked. Arms differ in "
        "how many requests they attack (n): framings and universal all direct ones, the others those of attacks.behaviours."
    ),
    (
        *CHECKPOINT,
        text(
            "arm",
            (
                "direct: the bare request; framings: at least one of the human templates; framing: a single one; "
                "universal: one suffix for all; gcg_init: a suffix before its optimisation; gcg, autodan: made for "
                "each request on the fixed source; any: at least one of direct, framings, universal, gcg and autodan"
            ),
            ("direct", "framings", "framing", "universal", "gcg_init", "gcg", "autodan", "any"),
        ),
        text("template", "of arm framing: id of the template", missing=True),
        share("asr", "share of requests on which the attack succeeds"),
        share("lo", WILSON),
        share("hi", "upper end"),
        whole("n", "requests that the arm attacked", 1),
        share("direct_asr", "the same of these requests asked as they are"),
        share("direct_lo", WILSON),
        share("direct_hi", "upper end"),
        *interval(number("gain", "asr less direct_asr; empty for the arm direct", -1, 1, missing=True), PAIRED),
        share("gain_p", "exact McNemar p", missing=True),
        share("gain_p_smallest", "least p that so many changed requests can give", missing=True),
        SUCCESS_MEANS,
    ),
    key=("seed", "regime", "step", "arm", "template"),
    category="Attacks",
    caption=(
        "Attack success at the anchors by arm, and of the same requests without an attack (``direct_asr``): ``gain`` "
        "is what the attack adds to asking. Read it before an arm's own rate: where the bare request succeeds, so does "
        "nearly any attack. Arms with other ``n`` attacked other requests."
    ),
)

SOURCE_CHOICE = Table(
    "source_choice",
    (
        "Whether the checkpoints that are attacked, and edited as aligned models, refuse: the rule of attacks.source, "
        "the step that it picks in each seed, and the configured one. The rule takes the earliest anchor of the regime "
        "whose direct_asr is at most max_direct_asr, and where there is none that with the least (the earlier of two)."
    ),
    (
        SEED,
        text("role", "source: attacks.source; aligned: an anchor of aligned.anchors", ("source", "aligned")),
        REGIME,
        whole("step", "configured step", 0),
        *optional(*counted(share("direct_asr", "attack success of bare requests there"), WILSON)),
        share("max_direct_asr", "the rule's bound"),
        flag("refuses", "direct_asr is at most max_direct_asr", missing=True),
        whole("picked_step", "step that the rule picks", 0, missing=True),
        *optional(*counted(share("picked_direct_asr", "attack success of bare requests there"), WILSON)),
        flag("follows_rule", "the configured step is the one that the rule picks", missing=True),
    ),
    key=("seed", "role", "regime", "step"),
    category="Attacks",
    caption=(
        "A checkpoint that answers bare requests leaves an attack, or the removal of a direction, nothing to reopen. "
        "Where ``refuses`` is False, read the attacks on this source and its rows in *aligned_anchors* with that in "
        "mind; where ``follows_rule`` is False, ``picked_step`` would have been the better choice in this seed."
    ),
)

TABLES = (FIVE_ANCHOR, TRAJECTORY, BEHAVIOUR, CONTRASTS, ATTACK_ARMS, SOURCE_CHOICE)
