"""Judges trained on human labels, and the judged completions."""

from pipeline.costs import sizes
from pipeline.costs.facts import JUDGED, MB, Facts, Need
from pipeline.costs.rates import Work
from pipeline.identity import At
from pipeline.stages.stage import Stage
from pipeline.study import Study

PUBLISHED_BATCH = 8  # rows of a published judge's pass
SWEEP_CELLS = 100  # cells that answer in a sweep, about


def trained(study: Study, at: At) -> dict:
    labelled = study.labelled
    return {
        **{f"{kind}_dataset": labelled[kind]["name"] for kind in ("refusal", "harm")},
        **{f"{kind}_files": labelled[kind]["files"] for kind in ("refusal", "harm")},
        "n_folds": labelled["folds"], "seed": study.config["statistics"]["seed"],
    }  # fmt: skip


def agreement(study: Study, at: At) -> dict:
    prefixes = [f"{seed}:{regime}:{step}:" for seed, regime, step in study.judged_checkpoints()]
    return {"seed": study.config["statistics"]["seed"], "prefixes": prefixes}


def template(study: Study, at: At) -> dict:
    judge, part = at.other["judge"], at.other["part"]
    given = {k: v for k, v in study.config["judges"][judge][part].items() if k != "source"}
    return {"name": f"judges.{judge}.{part}", **given}


def decision(study: Study, at: At) -> dict:
    model = {k: study.config["model"][k] for k in ("device", "dtype")} | {"batch_size": PUBLISHED_BATCH}
    return {"decision": study.config["judges"].get("decision", "rules"), **(model if study.published_judges else {})}


def where_judged(study: Study) -> str:
    """Judges that are models need their environment."""
    return "torch" if study.published_judges else "analysis"


def training(f: Facts, at: At) -> Need:
    return f.table(35.0)


def judging(f: Facts, rows: int) -> Need:
    """By the published judges, one after the other, or by rules and trained ones."""
    published = f.published()
    seconds, memory, gpu = 0.0, 0.0, 0.0
    for _, shape in published:
        work = Work(shape, f.size)
        work.forward(rows * JUDGED, rows / PUBLISHED_BATCH, logits=rows)
        need = f.model(work, sizes.one_pass(shape, f.size, PUBLISHED_BATCH, JUDGED), 0)
        seconds, memory, gpu = seconds + need.seconds, max(memory, need.memory), max(gpu, need.gpu)
    return Need(seconds, memory, gpu, rows * 500 / MB, 0.0, True) if published else f.table()


def judging_anchor(f: Facts, at: At) -> Need:
    return judging(f, sum(f.suites(at.regime, at.step).values()))


def judging_saves(f: Facts, at: At) -> Need:
    return judging(f, sum(sum(f.suites(at.regime, step).values()) for step in at.group.steps))


def judging_sweep(f: Facts, at: At) -> Need:
    return judging(f, 4 * SWEEP_CELLS)


def judging_transfer(f: Facts, at: At) -> Need:
    return judging(f, 16 * f.c["transfer"]["behaviours"])


CHECKPOINT = "seed/{regime}_step{step}"
STAGES = {
    "train_judges": Stage("train_judges", "analysis", trained, training),
    "judge_agreement": Stage("judge_agreement", "analysis", agreement),
    "judge_template": Stage("judge_template", "analysis", template, place="{judge}_{part}"),
    "judge": Stage("judge", where_judged, decision, judging_anchor, place=CHECKPOINT),
    "judge_saves": Stage("judge", where_judged, decision, judging_saves, place="seed"),
    "judge_sweep": Stage("judge", where_judged, decision, judging_sweep, place=CHECKPOINT),
    "judge_follow_up": Stage("judge", where_judged, decision, judging_sweep, place=CHECKPOINT),
    "judge_transfer": Stage("judge", where_judged, decision, judging_transfer, place=CHECKPOINT),
}
