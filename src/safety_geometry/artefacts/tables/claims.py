"""What the papers claim, against a run."""

from safety_geometry.artefacts.tables.specification import Table, flag, number, share, text, whole

CLAIMS = Table(
    "claims",
    (
        "Claims of the two papers against this run. Each claim is decided by the test in its row, seed by seed; it "
        "holds or fails where all seeds agree. Numbers are of the decisive comparison (several seeds: mean value, "
        "widest interval, largest p)."
    ),
    (
        text("id", "short name of the claim"),
        text("claim", "what the paper says"),
        text("source", "where"),
        text("test", "what decides here"),
        number("value", "the number that is tested; empty where it could not be made", missing=True),
        number("lo", "lower end of its interval; empty where it has none", missing=True),
        number("hi", "upper end", missing=True),
        number("threshold", "what the interval is held against", missing=True),
        share("p", "p of the test, adjusted (Holm) where several comparisons could decide", missing=True),
        share("p_smallest", "least p that the test could have given, adjusted alike", missing=True),
        whole("n", "units behind the number: prompts, anchors or saves", 0, missing=True),
        whole("n_seeds", "seeds that were tested", 0),
        flag("tuned", "whether hyper-parameters were chosen with this outcome in view (on monitor prompts)"),
        text("verdict", "on this run", ("holds", "fails", "inconclusive")),
        text("reason", "why"),
    ),
    key=("id",),
    category="Results",
    caption=(
        "Each claim of the papers that this study can decide: the sentence, the test that decides it, its "
        "numbers, and the verdict on this run with the reason. *Inconclusive* means that the data cannot "
        "tell, for instance because the attack does not beat its unoptimised arm, a regime did not move, or "
        "a time series is too short; it is not a weak yes. ``tuned`` marks claims whose outcome was in view "
        "when hyper-parameters were chosen."
    ),
)

TABLES = (CLAIMS,)
