"""What the papers claim, against a run."""

from dataclasses import replace

from safety_geometry.artefacts.tables.families import SUCCESS_MEANS
from safety_geometry.artefacts.tables.specification import Table, flag, number, share, text, whole

VERDICTS = ("holds", "fails", "no effect", "inconclusive", "not applicable")
CLAIMS = Table(
    "claims",
    (
        "Claims of the two papers, and some of this study's own, against this run. Seeds are replicates: an estimate "
        "is the mean of the seeds' values. Its conditional interval resamples prompts with the seeds fixed and decides "
        "verdict; its generalising one takes the seeds as a sample and decides verdict_over_seeds. Quantities are "
        "signed so that the claim says they are large. docs/claims.md has the rules, and every margin with its reason."
    ),
    (
        text("id", "short name of the claim"),
        text("claim", "what is claimed"),
        text("source", "where"),
        text("rule", "what decides (docs/claims.md)", ("difference", "level", "constant")),
        text("quantity", "what is measured, a row of the margins in docs/claims.md"),
        text("unit", "its unit"),
        replace(
            SUCCESS_MEANS,
            description="what attack success is in this claim; empty: the claim does not rest on it",
            missing_allowed=True,
        ),
        text("twin", "the claim that asks the same of direct requests; empty: none", missing=True),
        text("verdict", "on these seeds", VERDICTS),
        text("verdict_over_seeds", "on seeds like these; not applicable with one seed", VERDICTS),
        number("estimate", "mean over the seeds; empty where it could not be made", missing=True),
        number("lo", "lower end of its conditional 95 % interval", missing=True),
        number("hi", "upper end", missing=True),
        number("lo_seeds", "lower end of its generalising 95 % interval; empty with one seed", missing=True),
        number("hi_seeds", "upper end", missing=True),
        number("threshold", "what the estimate has to exceed", missing=True),
        number("margin", "least effect that would matter; 0 where the rule has none", 0, missing=True),
        number("detectable", "least effect that this run shows with a power of .8 (conditional)", 0, missing=True),
        number("n", "units behind a seed's value (prompts, saves), mean over the seeds", 0, missing=True),
        number("n_decides", "n that would decide an inconclusive claim if the estimate stayed", 0, missing=True),
        share("p", "p that has to be below .05 too, adjusted (Holm); empty where the rule has none", missing=True),
        share("p_smallest", "least p that the test could have given, adjusted alike", missing=True),
        text("by_seed", "each seed's value", missing=True),
        whole("n_seeds", "seeds of the study", 0),
        flag("tuned", "whether hyper-parameters were chosen with this outcome in view (on monitor prompts)"),
        flag("decidable", "whether the claim applies and this configuration was declared to decide it"),
        text("reason", "why"),
    ),
    key=("id",),
    category="Results",
    caption=(
        "Each claim with the rule that decides it, its numbers and two verdicts: on these seeds, and on seeds like "
        "them. *No effect*: the interval lies within the margin. *Inconclusive*: it is too wide, and ``n_decides`` "
        "says what would do; it is not a weak yes. *Not applicable*: the study lacks what the claim needs. ``detectable`` "
        "is the least effect that the run could have shown. ``tuned`` marks claims whose outcome was in view when "
        "hyper-parameters were chosen."
    ),
)

TABLES = (CLAIMS,)
