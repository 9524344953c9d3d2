"""What goes with what over all saves."""

from safety_geometry.artefacts.tables.families import REGIME, SEED, TERMS
from safety_geometry.artefacts.tables.specification import Table, flag, number, share, text, whole

DENSE_CORRELATIONS = Table(
    "dense_correlations",
    (
        "Spearman's rho of a coupling term with a behaviour over all saves of a regime that have both, and of their "
        "first differences, with a moving-block bootstrap at several block lengths. Fewer than 20 saves: rho and n "
        "only."
    ),
    (
        SEED,
        REGIME,
        text("predictor", "coupling term", TERMS),
        text(
            "sites",
            (
                "where the carriers are read: selected, at the sites that the anchors chose (a series may jump where"
                " the site does); frozen, at the reference anchor's throughout"
            ),
            ("selected", "frozen"),
        ),
        text(
            "outcome",
            "behaviour",
            ("fixed_asr", "direct_asr", "any_refusal", "benign_refusal", "benign_mean", "usefulness"),
        ),
        text(
            "form",
            "levels: the series; first_differences: changes from one save to the next, in which a trend drops out",
            ("levels", "first_differences"),
        ),
        whole("block_length", "saves in a block of the bootstrap; empty with fewer than 20 saves", 1, missing=True),
        whole("n", "pairs of values", 2),
        number("rho", "Spearman's rho; empty where a series is constant", -1, 1, missing=True),
        number(
            "lo",
            "lower end of the 95 % interval; empty with fewer than 20 saves or blocks longer than half the series",
            -1,
            1,
            missing=True,
        ),
        number("hi", "upper end", -1, 1, missing=True),
        share("rho_tie_ceiling", "greatest absolute rho that the ties of both variables permit", missing=True),
    ),
    key=("seed", "regime", "predictor", "sites", "outcome", "form", "block_length"),
    category="Dense",
    caption=(
        "Does behaviour go with coupling over the saves of a regime? ``levels`` is the papers' number. "
        "``sites`` says where coupling is read: at the sites that each anchor chose, whose series may jump "
        "where the site does, or at the reference anchor's throughout; the claims use ``frozen``. Two series"
        " that both trend always correlate, so ``first_differences`` asks again whether they *change* "
        "together from save to save; a level correlation without one of the differences is a shared trend "
        "and no more. Single steps are noisy, so a weak correlation of differences is no proof of the "
        "opposite. Intervals are a moving-block bootstrap; where they widen with the block length, "
        "neighbouring saves depend on each other for longer than the short blocks hold. Nothing is adjusted "
        "for the number of rows."
    ),
)

COUPLING_TRANSITION = Table(
    "coupling_transition",
    (
        "When a coupling term changes level: one change point in mean over the saves of a regime (least squares), "
        "with a moving-block bootstrap interval of its residuals and a p against no change. Fewer than 20 saves: n "
        "only."
    ),
    (
        SEED,
        REGIME,
        text("quantity", "coupling term", TERMS),
        text(
            "sites",
            (
                "where the carriers are read: selected, at the sites that the anchors chose; frozen, at the "
                "reference anchor's throughout"
            ),
            ("selected", "frozen"),
        ),
        whole("step", "first save at the later level", 0, missing=True),
        whole("lo", "the change lies after this save (95 %)", 0, missing=True),
        whole("hi", "and no later than this one", 0, missing=True),
        number("drop", "mean before less mean after", missing=True),
        number("ratio", "mean before over mean after", 0, missing=True),
        share("r2_step", "share of the variance that the step explains", missing=True),
        share("r2_line", "share that a straight line explains", missing=True),
        flag(
            "site_moved",
            "whether a carrier is read at another layer or position than at the save before; never at frozen sites",
            missing=True,
        ),
        whole("block_length", "saves in a block of bootstrap and permutation", 1, missing=True),
        share("p", "p against no change: order of the blocks permuted", missing=True),
        share("p_smallest", "p of the strongest step among these orders", missing=True),
        whole("n", "saves", 0),
    ),
    key=("seed", "regime", "quantity", "sites"),
    category="Dense",
    caption=(
        "When coupling changes level. ``step`` is the first save at the later level; the change lies after "
        "``lo`` and no later than ``hi``. A p below 0.05 says that some change there is, a gradual one "
        "included: where ``r2_line`` is as large as ``r2_step``, coupling slid rather than stepped. At the "
        "sites that the anchors chose (``sites``: *selected*) a carrier may be read elsewhere than at the "
        "save before; ``site_moved`` says so, and the change may then be the site's. At *frozen* sites, the "
        "reference anchor's throughout, it is the model's. A negative ``drop`` is a rise."
    ),
)

TABLES = (DENSE_CORRELATIONS, COUPLING_TRANSITION)
