"""Whether a request could cause harm, asked of the model with its carriers removed and added."""

from safety_geometry.artefacts.tables.families import BOOTSTRAP, CHECKPOINT, FAMILY, LAMBDA
from safety_geometry.artefacts.tables.specification import Table, flag, interval, number, optional, share, text, whole

SCORE = "mean log-odds of the answer that means harm against the other, first answer token, over both wordings"


def _shift(label: str):
    column = number(f"shift_{label}", f"mean change of the {label} prompts' score from the model as it is")
    return interval(column, f"{BOOTSTRAP} over prompts")


def _over_r(label: str):
    column = number(f"over_r_{label}", f"of H: shift_{label} less R's under the same edit; else empty", missing=True)
    return interval(column, f"{BOOTSTRAP} over prompts, paired")


REPLY_INVERSION = Table(
    "reply_inversion",
    (
        "Reply inversion (arXiv 2507.11878): a question to which harmful requests have the affirmative answer, on"
        " harmful and benign prompts, as the model is and with H and R removed and added at their own layers. A model"
        " that is at chance without edits has no rows with edits."
    ),
    (
        *CHECKPOINT,
        text("carrier", "what is edited; none: the model as it is", ("none", "H", "R")),
        *optional(FAMILY, LAMBDA),
        whole("layer", "where it acts: the carrier's own layer", 0, missing=True),
        flag("at_chance", "AUROC's interval reaches .5, or accuracy lies below the stated bound, without edits"),
        number("score_harmful", f"{SCORE}; harmful prompts"),
        *_shift("harmful"),
        number("score_benign", "the same; benign prompts"),
        *_shift("benign"),
        *_over_r("harmful"),
        *_over_r("benign"),
        *interval(share("auroc", "of the scores, harmful against benign prompts"), f"{BOOTSTRAP} within the classes"),
        share("accuracy", "share of right answers, mean of the classes"),
        whole("n_harmful", "harmful prompts", 1),
        whole("n_benign", "benign prompts", 1),
    ),
    key=("seed", "regime", "step", "carrier", "family", "lambda"),
    category="Causal",
    caption=(
        "Does the model still say that a harmful request could cause harm when H or R is removed, and does adding them"
        " make a harmless one look harmful? If H is recognition and R is policy, H moves the answers and R does not: ``over_r`` is the difference."
        " ``at_chance``: the model cannot answer the question, and is left out."
    ),
)

TABLES = (REPLY_INVERSION,)
