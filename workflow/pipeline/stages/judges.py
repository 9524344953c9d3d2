"""Judges trained on human labels, and the judged completions."""

from pipeline.costs import sizes
from pipeline.costs.facts import JUDGED, MB, Facts, Need
from pipeline.costs.rates import Work
from pipeline.identity import Job
from pipeline.stages.stage import Stage
from pipeline.study import Study

PUBLISHED_BATCH = 8  # rows of a published judge's pass
# Sentence embeddings (all-MiniLM-L6-v2, one core), seconds: loading the model; an answer of a suite with its request;
# the labelled answers, which are longer, and the judges that are trained on them. Memory in MB.
EMBEDDER_SECONDS, EMBEDDING_SECONDS, LABELLED_SECONDS, EMBEDDED_MEMORY = 5.0, 0.03, 200.0, 500.0
SWEEP_CELLS = 100  # cells that answer in a sweep, about


def trained(study: Study, job: Job) -> dict:
    labelled = study.labelled
    return {
        **{f"{kind}_dataset": labelled[kind]["name"] for kind in ("refusal", "harm")},
        **{f"{kind}_files": labelled[kind]["files"] for kind in study.layout.labelled_kinds()},
        "n_folds": labelled["folds"],
        "seed": study.config["statistics"]["seed"],
        **embedded(study),
    }


def embedded(study: Study) -> dict:
    """Where the sentence embeddings' model stands in its source."""
    return {"embeddings_folder": study.embeddings.get("folder", ".")} if study.embeddings else {}


def agreement(study: Study, job: Job) -> dict:
    prefixes = [f"{seed}:{regime}:{step}:" for seed, regime, step in study.judged_checkpoints()]
    return {"seed": study.config["statistics"]["seed"], "prefixes": prefixes}


def template(study: Study, job: Job) -> dict:
    judge, part = job.other["judge"], job.other["part"]
    entry = {k: v for k, v in study.config["judges"][judge][part].items() if k != "source"}
    return {"name": f"judges.{judge}.{part}", **entry}


def decision(study: Study, job: Job) -> dict:
    model = {k: study.config["model"][k] for k in ("device", "dtype", "grow_batches")} | {"batch_size": PUBLISHED_BATCH}
    judges = study.config["judges"]
    settings = {"decision": judges.get("decision", "rules"), "success": judges.get("success", "attack_success")}
    return settings | (model if study.published_judges else {}) | embedded(study)


def where_judged(study: Study) -> str:
    """Judges that are models, or see embeddings of one, need their environment."""
    return "torch" if study.published_judges or study.embeddings else "analysis"


def where_trained(study: Study) -> str:
    return "torch" if study.embeddings else "analysis"


def judging(facts: Facts, rows: int) -> Need:
    """By the published judges, one after the other, or by rules and trained ones."""
    published = facts.published()
    seconds, memory, gpu = 0.0, 0.0, 0.0
    for _, shape in published:
        work = Work(shape, facts.size)
        work.forward(rows * JUDGED, rows / PUBLISHED_BATCH, logits=rows)
        need = facts.model(work, sizes.one_pass(shape, facts.size, PUBLISHED_BATCH, JUDGED), 0)
        seconds, memory, gpu = seconds + need.seconds, max(memory, need.memory), max(gpu, need.gpu)
    if published:
        return Need(seconds, memory, gpu, rows * 500 / MB, 0.0, True)
    if facts.study.embeddings:
        return facts.table(4.0 + EMBEDDER_SECONDS + EMBEDDING_SECONDS * rows, memory=EMBEDDED_MEMORY)
    return facts.table()


def training(facts: Facts, job: Job) -> Need:
    """Folds, and files left out: some 40 fits by words, and as many again with embeddings."""
    if not facts.study.embeddings:
        return facts.table(35.0)
    return facts.table(35.0 + LABELLED_SECONDS, memory=EMBEDDED_MEMORY)


def judging_sweep(facts: Facts, job: Job) -> Need:
    return judging(facts, 4 * SWEEP_CELLS)


def judging_suites(facts: Facts, job: Job) -> Need:
    """Of one checkpoint, or of the saves of a group."""
    steps = job.group.steps if job.group else [job.step]
    return judging(facts, sum(sum(facts.suites(job.regime, step, job.seed).values()) for step in steps))


def judging_sampled(facts: Facts, job: Job) -> Need:
    return judging(facts, facts.study.config["completions"]["sampled"]["answers"] * facts.prompts("direct"))


def judging_transfer(facts: Facts, job: Job) -> Need:
    return judging(facts, 16 * facts.config["transfer"]["behaviours"])


CHECKPOINT = "seed/{regime}_step{step}"
STAGES = {
    "train_judges": Stage("train_judges", where_trained, trained, training),
    "judge_agreement": Stage("judge_agreement", "analysis", agreement),
    "judge_template": Stage("judge_template", "analysis", template, place="{judge}_{part}"),
    "judge": Stage("judge", where_judged, decision, judging_suites, place=CHECKPOINT),
    "judge_saves": Stage("judge", where_judged, decision, judging_suites, place="seed"),
    "judge_sampled": Stage("judge", where_judged, decision, judging_sampled, place=CHECKPOINT),
    "judge_sweep": Stage("judge", where_judged, decision, judging_sweep, place=CHECKPOINT),
    "judge_follow_up": Stage("judge", where_judged, decision, judging_sweep, place=CHECKPOINT),
    "judge_transfer": Stage("judge", where_judged, decision, judging_transfer, place=CHECKPOINT),
}
