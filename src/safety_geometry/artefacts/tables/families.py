"""Columns that mean the same in several tables, each said once."""

from safety_geometry.artefacts.tables.specification import flag, number, optional, share, text, whole

# A checkpoint of a run.
SEED = whole("seed", "seed of the run")
REGIME = text("regime", "training regime")
STEP = whole("step", "optimiser step of the checkpoint", 0)
ANCHOR = text("anchor", "name of the anchor at this step; empty for other saves", missing=True)
CHECKPOINT = (SEED, REGIME, STEP, ANCHOR)

# Where the carriers are read.
SITE_H = (
    whole("layer_h", "layer of the harmfulness carrier", 0),
    text("pos_h", "position of the harmfulness carrier (t_inst or counted from the end)"),
)
SITE_R = (
    whole("layer_r", "layer of the refusal carrier", 0),
    whole("pos_r", "position of the refusal carrier", maximum=-1),
)
SELECTION = ("own", "frozen")
R_STATUS = (
    text(
        "r_status",
        "own: R is read at a site that this checkpoint, or the anchor before it, chose; reference: it has none, and frozen "
        "sites and common layers are read where the regime's reference anchor, or sft_refusal's, has its R; candidate: "
        "neither has one, and they are read where sft_refusal's reference anchor (without it, the regime's) has its best "
        "candidate, which decides no claim; none: nowhere",
        ("own", "reference", "candidate", "none"),
    ),
    text("r_reason", "why there is no R of its own, or what a kept one lacks", missing=True),
)
NEEDS_R = " Cells that need R are empty at a checkpoint without one of its own (r_status, r_reason)."

# What stands beside a separability of the carriers.
RULERS = (
    share(
        "ruler_length_auroc",
        "AUROC of the prompts' length in tokens on the same select prompts, its direction from the fit prompts",
    ),
    share("ruler_words_auroc", "AUROC of naive Bayes over their content words, learnt on the fit prompts"),
)

# Coupling of the carriers.
TERMS = ("hrci_repr", "hrci", "c_cos", "c_sub")
C_COS = share("c_cos", "|cos| of the carriers", missing=True)
C_LAYER = share("c_layer", "exp(-|L_H - L_R| / tau)", missing=True)
HRCI = share("hrci", ".4 c_cos + .4 c_sub + .2 c_layer", missing=True)
HRCI_REPR = share("hrci_repr", "mean of c_cos and c_sub", missing=True)
FROZEN = optional(
    share("hrci_frozen", "hrci with both carriers read where the regime's reference anchor reads them"),
    *(share(f"{name}_frozen", f"{name} at the same frozen sites") for name in ("hrci_repr", "c_cos", "c_sub")),
)

# An intervention.
FAMILY = text(
    "family",
    "ablate: a - lambda * (projection on the direction), steer: a + lambda * direction (arXiv 2606.16349)",
    ("ablate", "steer"),
)
MODE = text(
    "mode",
    "carrier that is edited; h_plus_r: both, each at its layer; h_perp_r: H without its part along R; "
    "r_perp_h: R without its part along H",
    ("h_only", "r_only", "h_plus_r", "h_perp_r", "r_perp_h"),
)
SCOPE = text(
    "scope",
    "layer: at the input of the carrier's own block; all_layers: at the input of every block",
    ("layer", "all_layers"),
)
RANK = whole("rank", "dimensions of the edited subspace; 1: the single direction", 1)
LAMBDA = number("lambda", "strength")
KL_BENIGN = number(
    "kl_benign",
    "mean KL(baseline || intervened) of the first answer token on benign prompts, nats",
    0,
    missing=True,
)

# Judged answers.
REFUSAL_CLASSES = ("none", "partial", "full")
REFUSAL = text(
    "refusal",
    "refusal class; partial only beside 30 words of substance or more: of a shorter answer full says no more than that it "
    "refuses",
    REFUSAL_CLASSES,
)
REFUSAL_SCORE = number("refusal_score", "score of the refusal judge", missing=True)
HARM_SCORE = number("harm_score", "score of the harm judge", missing=True)
ATTACK_SUCCESS = flag(
    "attack_success",
    "the harm judge's label, on an answer that neither refuses nor is broken; read it for harmful requests only",
)
SUCCESS_MEANS = text(
    "success_means",
    "what attack success is here: not_refused, where the judge of harm orders answers no better than chance or there is "
    "none: neither refused nor degenerate; else attack_success",
    ("attack_success", "not_refused"),
)
DEGENERATE = flag("degenerate", "empty or nonsensical answer")
UTILITY = number("utility", "benign utility; empty for other suites", 0, 2, missing=True)
DIGEST = text("digest", "first 12 digits of the SHA-256 of the answer")
EMPTY_ANSWERS = share("degenerate", "empty or nonsensical answers over all suites of the cell", missing=True)

# What the lower end of an interval is.
WILSON = "lower end of the 95 % Wilson interval"
BOOTSTRAP = "lower end of the 95 % bootstrap interval"
OVER_FIT_PROMPTS = f"{BOOTSTRAP} over fit prompts"
PAIRED = "lower end of its 95 % interval (paired; Newcombe's method 10)"
PAIRED_BOOTSTRAP = "lower end of its 95 % interval (paired bootstrap over prompts)"
