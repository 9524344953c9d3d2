"""Judges trained on human labels, and the judged completions."""

from collections.abc import Callable

from pipeline.costs import sizes
from pipeline.costs.facts import JUDGED, Facts, Need
from pipeline.costs.rates import Work
from pipeline.identity import Job
from pipeline.layout import TEMPLATES
from pipeline.stages.behaviour import sampled_rows
from pipeline.stages.stage import Stage
from pipeline.study import Study

JUDGE_BATCH = 8  # rows of a pass of a judge that is a model
VERDICT = 32  # tokens that a guard writes at most
# Sentence embeddings (all-MiniLM-L6-v2, one core), seconds: loading the model; an answer of a suite with its request;
# the labelled answers, which are longer, and the judges that are trained on them. Memory in MB.
EMBEDDER_SECONDS, EMBEDDING_SECONDS, LABELLED_SECONDS = 5.0, 0.03, 200.0
EMBEDDED_MEMORY, LABELLED_MEMORY = 500.0, 1000.0
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
    judged = [_prefix(*point) for point in study.in_agreement()]
    settings = {"seed": study.config["statistics"]["seed"], "prefixes": judged}
    if study.model_judges:
        asked = [_prefix(*point) for _ in study.model_judges for point in study.compared()]
        settings["verdict_prefixes"] = asked
    return settings


def _prefix(seed: int, regime: str, step: int) -> str:
    """Before the ids of answers, which repeat between checkpoints."""
    return f"{seed}:{regime}:{step}:"


def template(study: Study, job: Job) -> dict:
    judge, part = job.other["judge"], job.other["part"]
    entry = {k: v for k, v in study.model_judges[judge][part].items() if k != "source"}
    return {"name": f"judges.models.{judge}.{part}", **entry}


def verdicts(study: Study, job: Job) -> dict:
    name = job.other["judge"]
    spec = {k: v for k, v in study.model_judges[name].items() if k not in ("source", "base", "shape", *TEMPLATES)}
    where = {key: study.config["model"][key] for key in ("device", "dtype", "threads", "grow_batches")}
    return {"name": name} | spec | where | {"batch_size": JUDGE_BATCH}


def decision(study: Study, job: Job) -> dict:
    judges = study.config["judges"]
    settings = {"decision": judges.get("decision", "rules"), "success": judges.get("success", "attack_success")}
    models = {"models": study.deciding_models} if study.deciding_models else {}
    return settings | models | embedded(study)


def where_judged(study: Study) -> str:
    """Judges that see embeddings of a model need its environment."""
    return "torch" if study.embeddings else "analysis"


def judging(asked: str) -> Callable[[Facts, Job], Need]:
    """By rules, trained judges, and verdicts that are there, of answers of a kind (`asked_rows`)."""

    def work(facts: Facts, job: Job) -> Need:
        if not facts.study.embeddings:
            return facts.table()
        seconds = 4.0 + EMBEDDER_SECONDS + EMBEDDING_SECONDS * asked_rows(facts, job, asked)
        return facts.table(seconds, memory=EMBEDDED_MEMORY)

    return work


def asking(facts: Facts, job: Job) -> Need:
    """A judge that is a model, of some answers."""
    name = job.other["judge"]
    spec, shape = facts.study.model_judges[name], facts.judge(name)
    rows = asked_rows(facts, job, job.other.get("asked", "suites"))  # saves between anchors are asked the suites
    work = Work(shape, facts.size)
    if spec["kind"] == "guard":
        work.answers(rows, JUDGED, spec.get("max_new_tokens", VERDICT), JUDGE_BATCH)
    else:
        work.forward(rows * JUDGED, rows / JUDGE_BATCH, logits=rows)
    return facts.model(work, sizes.one_pass(shape, facts.size, JUDGE_BATCH, JUDGED), rows * 100)


def asked_rows(facts: Facts, job: Job, asked: str) -> int:
    """Answers of a checkpoint, or of the saves of a group, to suites, sampled, sweep, follow_up or transfer."""
    if asked in ("sweep", "follow_up"):
        return 4 * SWEEP_CELLS
    if asked == "transfer":
        return 16 * facts.config["transfer"]["behaviours"]
    if asked == "sampled":
        return sampled_rows(facts)
    steps = job.group.steps if job.group else [job.step]
    return sum(sum(facts.suites(job.regime, step, job.seed).values()) for step in steps)


def training(facts: Facts, job: Job) -> Need:
    """Folds, and files left out: some 40 fits by words, and as many again with embeddings."""
    if not facts.study.embeddings:
        return facts.table(35.0)
    return facts.table(35.0 + LABELLED_SECONDS, memory=LABELLED_MEMORY)


CHECKPOINT = "seed/{regime}_step{step}"
STAGES = {
    "train_judges": Stage("train_judges", where_judged, trained, training),
    "judge_agreement": Stage("judge_agreement", "analysis", agreement),
    "judge_template": Stage("judge_template", "analysis", template, place="{judge}_{part}"),
    "verdicts": Stage("verdicts", "torch", verdicts, asking, place=f"{CHECKPOINT}/{{judge}}_{{asked}}"),
    "verdicts_saves": Stage("verdicts", "torch", verdicts, asking, place="seed/{judge}"),
    "judge": Stage("judge", where_judged, decision, judging("suites"), place=CHECKPOINT),
    "judge_saves": Stage("judge", where_judged, decision, judging("suites"), place="seed"),
    "judge_sampled": Stage("judge", where_judged, decision, judging("sampled"), place=CHECKPOINT),
    "judge_sweep": Stage("judge", where_judged, decision, judging("sweep"), place=CHECKPOINT),
    "judge_follow_up": Stage("judge", where_judged, decision, judging("follow_up"), place=CHECKPOINT),
    "judge_transfer": Stage("judge", where_judged, decision, judging("transfer"), place=CHECKPOINT),
}
