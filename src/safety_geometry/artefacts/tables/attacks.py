"""Attacks, their transfer, and what predicts it."""

from safety_geometry.artefacts.tables.families import PAIRED, SEED, SUCCESS_MEANS
from safety_geometry.artefacts.tables.specification import Table, flag, interval, number, share, text, whole

ATTACKS = Table(
    "attacks",
    (
        "One row per optimised attack, on the fixed source and on every other, and one for the universal suffix; "
        "strings are in the private folder under the same behaviour id. Attack success of kinds fixed and adaptive is "
        "never pooled. The unoptimised "
        "arm of an attack is in its row (loss_start, success_start), and stands as an arm of its own in transfer. No"
        " time is in this table, since equal runs have equal bytes: what the attacks took is in logs/attack_gcg (all"
        " behaviours of a source together, since they are attacked together), logs/attack_autodan (each), and per "
        "job in benchmarks."
    ),
    (
        SEED,
        text("id", "hash of method, source, behaviour id and budget; with the seed the name of an attack"),
        text("attack", "method; universal: one suffix for several requests", ("gcg", "autodan", "universal")),
        text(
            "kind",
            "fixed: made on the fixed source (attacks.source); adaptive: made on another checkpoint",
            ("fixed", "adaptive"),
        ),
        text("source", "checkpoint that the attack was made on, regime:step"),
        text("behaviour", "id of the attacked request; of a universal suffix: all"),
        whole("behaviours", "requests that it was optimised on together", 1),
        whole("budget_steps", "steps allowed", 0),
        whole("width", "candidates proposed in a step (gcg), prompts of a generation (autodan)", 1),
        whole("steps", "steps used", 0),
        number(
            "loss_start",
            "target cross-entropy of the unoptimised suffix or of the best seed (nats per token)",
            0,
            missing=True,
        ),
        number("loss", "final target cross-entropy, recomputed without cache", 0, missing=True),
        whole("candidates", "candidates scored", 0),
        whole("rejected", "candidates that did not re-tokenise to themselves, or were too long", 0),
        whole("tokens", "tokens processed, padding not counted; a backward pass counts as two forward ones", 0),
        number("operations", "2 x parameters x tokens: what attacks of any kind are compared by", 0),
        whole("batch_size", "rows of one forward pass, less than configured where memory forced it", 1),
        text(
            "stopped",
            (
                "what ended the search: its loss, the exact target, the caller's judge, its budget; stuck: no "
                "candidate re-tokenised to itself; unusable: every seed is too long"
            ),
            ("loss", "exact", "stop", "steps", "stuck", "unusable"),
        ),
        flag(
            "success", "whether the attack succeeds on its source; of a universal suffix: see attack_arms", missing=True
        ),
        flag("success_start", "whether it did before optimisation", missing=True),
    ),
    key=("seed", "attack", "source", "behaviour"),
    category="Attacks",
    caption=(
        "One row per optimised attack, those on the fixed source (``kind``: *fixed*) and those made on other"
        " checkpoints (*adaptive*): target loss before and after optimisation, what it cost, and whether it "
        "succeeds on its own source with and without optimisation. ``stopped`` says what ended the search; a"
        " row that ends *stuck* or *unusable* is an attack that could not be made. Strings are not here."
    ),
)

TRANSFER = Table(
    "transfer",
    (
        "Transfer attack success: attacks made on a source checkpoint, tried on a target checkpoint. Attacks made on"
        " the target itself (diagonal) are no transfer. gain compares with the unoptimised arm (gcg: gcg_init, "
        "autodan: seeds) on the same behaviours."
    ),
    (
        SEED,
        text("regime", "regime of source and target; cross: they differ"),
        text("source_regime", "regime of the source"),
        text("target_regime", "regime of the target"),
        text(
            "attack",
            "method; seeds: AutoDAN's prompts, gcg_init: GCG's suffix, both before optimisation",
            ("gcg", "autodan", "seeds", "gcg_init"),
        ),
        whole("source", "step of the checkpoint that the attacks were made on", 0),
        whole("target", "step of the checkpoint that they were tried on", 0),
        whole("n", "behaviours", 1),
        share("tasr", "share of attacks that succeed"),
        share("lo", "lower end of the 95 % Wilson interval"),
        share("hi", "upper end"),
        flag("diagonal", "whether source and target are one checkpoint"),
        flag("fixed_source", "whether the attacks are those of the fixed source (attacks.source)"),
        *interval(
            number("gain", "tasr less that of the unoptimised arm; empty: is one, or was not run", -1, 1, missing=True),
            PAIRED,
        ),
        whole("gain_n", "behaviours that both arms have", 1, missing=True),
        share("gain_p", "exact McNemar p", missing=True),
        share("gain_p_smallest", "least p that so many changed behaviours can give", missing=True),
        SUCCESS_MEANS,
    ),
    key=("seed", "attack", "source_regime", "source", "target_regime", "target"),
    category="Attacks",
    caption=(
        "Attacks made on one checkpoint (*source*), tried on another (*target*). ``gain`` is what "
        "optimisation adds: attack success less that of the same behaviours with the unoptimised arm "
        "(``gcg_init`` for ``gcg``, ``seeds`` for ``autodan``). An attack without a gain where it was made "
        "is too weak to say anything about transfer. *diagonal* rows are attacks on their own source; regime"
        " *cross* holds rows between regimes. Intervals cover the behaviours, not another training seed."
    ),
)

TRANSFER_PREDICTORS = Table(
    "transfer_predictors",
    (
        "Spearman's rho of a number of the target checkpoint (or of target less source: gap) with transfer attack "
        "success, over the rows of transfer off the diagonal. seeds, the best on the source of AutoDAN's unoptimised"
        " prompts, is treated like any attack made there. p relabels targets, not rows. A study of several seeds has"
        " a row for each, and one for all together (seed empty), which decides the claims."
    ),
    (
        whole("seed", "seed of the run; empty: all seeds together, and rho the mean of the seeds' own", missing=True),
        text("regime", "regime of sources and targets; cross: rows whose regimes differ"),
        text("attack", "attacks whose rows are taken; all: gcg and autodan", ("all", "gcg", "autodan", "seeds")),
        text(
            "predictor",
            (
                "target_*: hrci, hrci_repr and fixed_asr as in trajectory, s_total_drift, drift_h_ref and norm_h as "
                "in geometry; gap_*: hrci_repr or s_total of the target less the source's"
            ),
            (
                "target_hrci",
                "target_hrci_repr",
                "target_fixed_asr",
                "target_refusal_score_drift",
                "target_h_drift",
                "target_h_norm",
                "gap_hrci_repr",
                "gap_refusal_score",
            ),
        ),
        text("family", "kind of predictor", ("coupling", "behaviour", "refusal_score", "harmfulness", "gap")),
        number("rho", "Spearman's rho; empty where a variable is constant or unknown", -1, 1, missing=True),
        share(
            "p",
            (
                "two-sided p: values dealt anew to the targets, within each seed and over the seeds jointly; every "
                "dealing up to seven targets in a seed and two million over the seeds, else random ones"
            ),
            missing=True,
        ),
        share(
            "p_smallest",
            (
                "least p that any dealing of these values gives: 2/24 with four untied targets, 2/24^3 with four in "
                "each of three seeds"
            ),
            missing=True,
        ),
        number(
            "lo",
            (
                "lower end of the 95 % interval, sources, targets and seeds resampled; empty with fewer than five "
                "source or target checkpoints"
            ),
            -1,
            1,
            missing=True,
        ),
        number("hi", "upper end", -1, 1, missing=True),
        share(
            "rho_tie_ceiling",
            "greatest absolute rho that the ties of both variables permit, mean over the seeds",
            missing=True,
        ),
        whole("n", "rows", 0),
        whole("n_sources", "source checkpoints; a step under two seeds is two", 0),
        whole("n_targets", "target checkpoints", 0),
        whole("n_seeds", "seeds behind the row", 0),
        SUCCESS_MEANS,
    ),
    key=("seed", "regime", "attack", "predictor"),
    category="Attacks",
    caption=(
        "What transfer follows: Spearman's ρ of a number of the target checkpoint, or of its gap to the "
        "source, with transfer attack success. The rows share sources and targets, so ``p`` deals the values"
        " anew to the *targets*, within each seed, and beside it stands the least p that these values could "
        "have given: with three targets it is never below 1/6, with four never below 1/24. Rows without a "
        "seed put all seeds together: ρ is the mean of theirs, and the values are dealt in all of them "
        "jointly. ``lo`` and ``hi`` resample sources, targets and seeds, and need five source and five "
        "target checkpoints; without them nothing is decided. ``rho_tie_ceiling`` is the greatest \\|ρ\\| that"
        " ties permit; a ρ at its ceiling says that the order of a few checkpoints agrees, and predictors "
        "that order them alike cannot be told apart. Error of the rates themselves is in *transfer*, not "
        "here."
    ),
)

TABLES = (ATTACKS, TRANSFER, TRANSFER_PREDICTORS)
