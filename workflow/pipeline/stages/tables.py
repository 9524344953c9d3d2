"""The study's tables over all seeds and trajectories, what they say about the papers' claims, and the figures."""

from pathlib import Path

from pipeline.identity import Job
from pipeline.stages.stage import Stage, by_content
from pipeline.study import Study
from safety_geometry.artefacts.tables import attacks, behaviour, causal, dense, geometry
from safety_geometry.artefacts.tables.registry import FINAL
from safety_geometry.settings.attack_arm import Place

# Tables by the rule that makes them: the groups of the specification.
MADE = [table.name for table in behaviour.TABLES]  # with OF_REGIMES of the rule `tables`
OF_REGIMES = [table.name for table in geometry.TABLES]  # put together from those of the regimes
ATTACKS = [table.name for table in attacks.TABLES]
DENSE = [table.name for table in dense.TABLES]
CAUSAL = [table.name for table in causal.TABLES]
CAPTIONS = Path(".snakemake") / "captions"
# What claims are decided from, beside the causal tables.
CLAIMS = (
    "five_anchor", "trajectory", "coupling", "contrasts", "coupling_controls", "geometry", "profile",
    "dense_correlations", *ATTACKS,
)  # fmt: skip
# Figure -> tables that it is drawn from.
FIGURES = {
    "five_anchor": ("five_anchor", "coupling_controls", "coupling"), "trajectory": ("trajectory", "coupling_controls",
    "coupling"), "layer_profile": ("profile",), "selection": ("selection", "profile"),
    "training_curves": ("training",), "geometry": ("geometry", "coupling"), "attacks": ("attack_arms",),
    "coupling_controls": ("coupling_controls", "coupling"), "transfer": ("transfer",),
    "transfer_predictors": ("transfer_predictors",), "dense": ("trajectory", "dense_correlations",
    "coupling_transition", "coupling"), "causal_layers": ("layer_scan",), "dose_response": ("causal_sweep",),
    "control_effects": ("control_normalised", "sweep_pooled"), "aligned_anchors": ("aligned_anchors",),
    "follow_up": ("follow_up",), "quadrants": ("quadrants",),
}  # fmt: skip
OVER_STEPS, OF_TRANSFER = ("trajectory", "geometry", "dense"), ("transfer", "transfer_predictors")


def together(study: Study) -> list[str]:
    """Tables of the rule `tables`."""
    return [*MADE, *OF_REGIMES, *(["training"] if study.regimes else [])]


def shown(name: str) -> dict:
    """How the report shows a table: what Snakemake's `report` takes. A caption has to be a file."""
    table = FINAL[name]
    caption = by_content(CAPTIONS, table.caption + "\n", "rst").resolve()
    return {"caption": str(caption), "category": table.category, "labels": {"table": name}}


def of_sweeps(study: Study) -> list[str]:
    """Causal tables that the study has."""
    config = study.config
    if not study.swept():
        return ["quadrants"]
    wanted = {
        "layer_scan": config["sweep"]["layer_scan"],
        "aligned_anchors": config["aligned"]["anchors"] or study.models,
        "follow_up": config["follow_up"]["targets"],
    }
    wanted["reply_inversion"] = config["sweep"].get("reply_inversion")
    wanted["directions"] = study.directions
    made = ["quadrants", "causal_sweep", "control_normalised", "sweep_pooled"]
    return [*made, *(name for name, there in wanted.items() if there)]


def claim_tables(study: Study) -> list[str]:
    judges = ["judges"] if study.labelled and "harm" not in study.deciding_models else []  # on the judge that is asked
    chosen = [name for name in ("selection", "separability") if name in together(study)]
    unread = ("layer_scan", "quadrants", "directions")
    return [*CLAIMS, *judges, *chosen, *(name for name in of_sweeps(study) if name not in unread)]


def all_tables(study: Study) -> list[str]:
    """Of a finished study."""
    trained = ["reference_anchors"] if study.regimes else []
    judges = ["judges"] if study.has_judges_table else []
    sampled = ["sampled"] if study.config["completions"].get("sampled") else []
    return [*together(study), *of_sweeps(study), *ATTACKS, *DENSE, "claims", *trained, "leakage", *judges, *sampled]


def figures(study: Study) -> dict[str, tuple[str, ...]]:
    """Figures of a finished study, with the tables that they are drawn from: none over steps where every trajectory is
    one checkpoint, none of transfer where no source has another target than itself."""
    made, over_steps = set(all_tables(study)), any(len(study.steps(name)) > 1 for name in study.trajectories)
    transferred = any(len(study.attack_targets(*source)) > 1 for source in study.attack_sources)
    left_out = {*(() if over_steps else OVER_STEPS), *(() if transferred else OF_TRANSFER)}
    return {name: of for name, of in FIGURES.items() if made.issuperset(of) and name not in left_out}


# --------------------------------------------------------------------------------------------------------- settings


def gathered(study: Study, job: Job) -> dict:
    statistics = study.config["statistics"]
    return {
        "regimes": study.trajectories,
        "judged": study.identities(study.judged_checkpoints()),
        "every_save": study.config["completions"]["every_save"],
        "source": Place(*study.fixed_source).text,
        "aligned": [Place(*anchor).text for anchor in study.at_anchors(study.config["aligned"]["anchors"])],
        "max_direct_asr": study.config["attacks"]["source"].get("max_direct_asr", 0.1),
        "seed": statistics["seed"],
        "draws": statistics["bootstrap"],
    }


def configured_references(study: Study, job: Job) -> dict:
    return {"configured": {name: regime["reference"] for name, regime in study.regimes.items()}}


def block_bootstrap(study: Study, job: Job) -> dict:
    spec = study.config["statistics"]
    return {"stats_seed": spec["seed"], "draws": spec["bootstrap"], "block_lengths": spec["block_lengths"]}


def claims(study: Study, job: Job) -> dict:
    return {"configuration": study.config["study"]} | ({} if study.regimes else {"tuned": []})


def figure(study: Study, job: Job) -> dict:
    name = job.other["figure"]
    r_may_lack = study.by_behaviour or study.config["refusal"]["require_gain"]
    empty = {"may_be_empty": True} if r_may_lack or study.brought else {}
    prompts = prompts_behind(study, name)
    return {"name": name, **empty, **({"prompts": prompts} if prompts else {})}


def prompts_behind(study: Study, figure: str) -> dict[str, int | None]:
    """Numbers of prompts behind a figure that stand in no table; with carriers from behaviour they are each
    checkpoint's own."""
    config = study.config
    if figure == "training_curves" and study.regimes:
        return {"monitor": fewest(study, "monitor_harmful", config["train"]["monitor"]["prompts"])}
    if figure == "layer_profile" and not study.by_behaviour:
        scored = fewest(study, "select_harmful", config["refusal"]["validation"])
        return {"H": fewest(study, "select_harmful"), "R": scored}
    return {}


def fewest(study: Study, role: str, most: int | None = None) -> int | None:
    """Prompts of a role that a stage reads, at most so many; None where only the run knows."""
    return min((n for n in (study.config["prompts"]["roles"][role]["n"], most) if isinstance(n, int)), default=None)


STAGES = {
    "tables": Stage("tables", "analysis", gathered),
    "reference_anchors": Stage("reference_anchors", "analysis", configured_references),
    "dense_tables": Stage("dense_tables", "analysis", block_bootstrap),
    "claims": Stage("claims", "analysis", claims),
    "figure": Stage("figure", "analysis", figure, place="{figure}"),
}
