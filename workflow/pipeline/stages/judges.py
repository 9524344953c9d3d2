"""Judges trained on human labels, and the judged completions."""

from pipeline.costs import sizes
from pipeline.costs.facts import JUDGED, MB, Facts, Need
from pipeline.costs.rates import Work
from pipeline.identity import Job
from pipeline.stages.stage import Stage
from pipeline.study import Study

PUBLISHED_BATCH = 8  # rows of a published judge's pass
SWEEP_CELLS = 100  # cells that answer in a sweep, about


def trained(study: Study, job: Job) -> dict:
    labelled = study.labelled
    return {
        **{f"{kind}_dataset": labelled[kind]["name"] for kind in ("refusal", "harm")},
        **{f"{kind}_files": labelled[kind]["files"] for kind in ("refusal", "harm")},
        "n_folds": labelled["folds"],
        "seed": study.config["statistics"]["seed"],
    }


def agreement(study: Study, job: Job) -> dict:
    prefixes = [f"{seed}:{regime}:{step}:" for seed, regime, step in study.judged_checkpoints()]
    return {"seed": study.config["statistics"]["seed"], "prefixes": prefixes}


def template(study: Study, job: Job) -> dict:
    judge, part = job.other["judge"], job.other["part"]
    entry = {k: v for k, v in study.config["judges"][judge][part].items() if k != "source"}
    return {"name": f"judges.{judge}.{part}", **entry}


def decision(study: Study, job: Job) -> dict:
    model = {k: study.config["model"][k] for k in ("device", "dtype")} | {"batch_size": PUBLISHED_BATCH}
    return {"decision": study.config["judges"].get("decision", "rules"), **(model if study.published_judges else {})}


def where_judged(study: Study) -> str:
    """Judges that are models need their environment."""
    return "torch" if study.published_judges else "analysis"


def judging(facts: Facts, rows: int) -> Need:
    """By the published judges, one after the other, or by rules and trained ones."""
    published = facts.published()
    seconds, memory, gpu = 0.0, 0.0, 0.0
    for _, shape in published:
        work = Work(shape, facts.size)
        work.forward(rows * JUDGED, rows / PUBLISHED_BATCH, logits=rows)
        need = facts.model(work, sizes.one_pass(shape, facts.size, PUBLISHED_BATCH, JUDGED), 0)
        seconds, memory, gpu = seconds + need.seconds, max(memory, need.memory), max(gpu, need.gpu)
    return Need(seconds, memory, gpu, rows * 500 / MB, 0.0, True) if published else facts.table()


def judging_sweep(facts: Facts, job: Job) -> Need:
    return judging(facts, 4 * SWEEP_CELLS)


def judging_suites(facts: Facts, job: Job) -> Need:
    """Of one checkpoint, or of the saves of a group."""
    steps = job.group.steps if job.group else [job.step]
    return judging(facts, sum(sum(facts.suites(job.regime, step).values()) for step in steps))


def judging_transfer(facts: Facts, job: Job) -> Need:
    return judging(facts, 16 * facts.config["transfer"]["behaviours"])


CHECKPOINT = "seed/{regime}_step{step}"
STAGES = {
    "train_judges": Stage("train_judges", "analysis", trained, lambda facts, job: facts.table(35.0)),
    "judge_agreement": Stage("judge_agreement", "analysis", agreement),
    "judge_template": Stage("judge_template", "analysis", template, place="{judge}_{part}"),
    "judge": Stage("judge", where_judged, decision, judging_suites, place=CHECKPOINT),
    "judge_saves": Stage("judge", where_judged, decision, judging_suites, place="seed"),
    "judge_sweep": Stage("judge", where_judged, decision, judging_sweep, place=CHECKPOINT),
    "judge_follow_up": Stage("judge", where_judged, decision, judging_sweep, place=CHECKPOINT),
    "judge_transfer": Stage("judge", where_judged, decision, judging_transfer, place=CHECKPOINT),
}
