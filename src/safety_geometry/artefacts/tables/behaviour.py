"""Behaviour of the checkpoints beside their coupling, and contrasts between them."""

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
    REGIME,
    SEED,
    SITE_H,
    SITE_R,
    STEP,
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
    "direct_asr",
    "direct_refusal",
    "usefulness",
    "any_refusal",
    "full_refusal",
    "partial_refusal",
    "benign_mean",
    "benign_strict",
    "benign_lenient",
    "benign_refusal",
    "benign_degenerate",
)
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
    (share("direct_asr", "attack success of harmful requests asked as they are"), WILSON),
    (share("any_refusal", "share of safe look-alike prompts refused partly or fully"), WILSON),
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
        "benign_mean) with a bootstrap over prompts. A name with _finished leaves out completions that reached the "
        "length limit."
    ),
    (
        *CHECKPOINT,
        text(
            "metric",
            "what is measured; see five_anchor for the definitions",
            (*METRICS, *(f"{name}_finished" for name in METRICS)),
        ),
        number("value", "rate or mean; empty where n is 0", 0, 2, missing=True),
        number("lo", "lower end", 0, 2, missing=True),
        number("hi", "upper end", 0, 2, missing=True),
        whole("n", "completions", 0),
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
        " regime: two regimes at the anchor of the same name. arm: optimised minus unoptimised suffix at one "
        "checkpoint."
    ),
    (
        SEED,
        text("contrast", "what is set against what", ("time", "regime", "arm")),
        text("metric", "what is measured", METRICS),
        text("regime", "regime of the first checkpoint"),
        whole("step", "its step", 0),
        text("anchor", "its anchor"),
        text("other_regime", "regime of the other checkpoint"),
        whole("other_step", "its step", 0),
        text("other_anchor", "its anchor"),
        number("value", "mean difference, first minus other", -2, 2),
        number(
            "lo",
            "lower end of the 95 % interval: Newcombe's paired score interval for rates, paired bootstrap for means",
            -2,
            2,
        ),
        number("hi", "upper end", -2, 2),
        whole("n", "prompts in both", 1),
        whole("changed", "prompts whose outcome differs", 0),
        text("test", "exact McNemar test for rates, permuted signs for means; two-sided", ("mcnemar", "sign_flip")),
        share("p", "p of no difference"),
        share("p_smallest", "least p that so many changed prompts and permutations can give"),
    ),
    key=("seed", "contrast", "metric", "regime", "step", "other_regime", "other_step"),
    category="Results",
    caption=(
        "Paired comparisons on the same prompts, first minus other: an anchor against an earlier one of the "
        "same regime (``time``), two regimes at one anchor (``regime``), optimised against unoptimised "
        "suffixes at one checkpoint (``arm``). The p values are not adjusted for the number of rows; "
        "*claims* adjusts those that it uses."
    ),
)

TABLES = (FIVE_ANCHOR, TRAJECTORY, BEHAVIOUR, CONTRASTS)
