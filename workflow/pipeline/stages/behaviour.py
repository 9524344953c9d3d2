"""Completions of the evaluation suites."""

from collections.abc import Iterable

from pipeline.costs import sizes
from pipeline.costs.facts import ANSWERED, ATTACK_PROMPT, REQUEST, Facts, Need
from pipeline.costs.rates import Work
from pipeline.identity import Job
from pipeline.stages.sources import model_settings
from pipeline.stages.stage import Stage
from pipeline.study import Study

ARMS = {"autodan": ["autodan"]}  # its unoptimised arm, one template a request, is asked in transfer only
SAMPLED_SUITE = "direct"  # asked for sampled answers too
FRAMED = ("framings", "autodan")  # suites of long prompts


def answers(study: Study, suites: Iterable[str]) -> dict:
    spec = study.config["completions"]
    limits = {suite: tokens for suite, tokens in spec["max_new_tokens"].items() if suite in suites}
    arms = {suite: asked for suite, asked in ARMS.items() if suite in limits}
    named = {"arms": arms} if arms else {}
    return {"model": model_settings(study), "suites": limits, **named, "batch_size": spec["batch_size"]}


def anchor(study: Study, job: Job) -> dict:
    positions = [*study.config["activations"]["positions"], "t_inst"]
    dtype = study.config["activations"]["dtype"]
    return answers(study, study.suites(job.regime, job.step)) | {"positions": positions, "dtype": dtype}


def saves(study: Study, job: Job) -> dict:
    """Of the saves that are no anchors."""
    every = study.suites(job.regime, job.group.steps[0])
    return answers(study, every) | {"prompts": every}


def light(study: Study, job: Job) -> dict:
    """Of an anchor of a light seed, whose prompts' activations nothing reads."""
    suites = study.suites(job.regime, job.step, job.seed)
    return answers(study, suites) | {"prompts": suites}


def answered(facts: Facts, work: Work, prompts: dict[str, int]) -> tuple[float, float]:
    """Adds the answers of one checkpoint to its suites; returns the bytes that they hold, and those of their file."""
    spec, rows = facts.config["completions"], sum(prompts.values())
    limits = spec["max_new_tokens"]
    mean = sum(n * limits[suite] for suite, n in prompts.items()) / max(1, rows)
    framed = sum(n for suite, n in prompts.items() if suite in FRAMED)
    work.answers(rows, REQUEST, mean, spec["batch_size"], ANSWERED)
    work.forward(framed * (ATTACK_PROMPT - REQUEST))
    held = facts.decoding(work.shape, min(rows, spec["batch_size"]), max(limits[suite] for suite in prompts))
    return held, rows * (300 + 5 * mean)


def answering_anchor(facts: Facts, job: Job) -> Need:
    prompts, shape = facts.suites(job.regime, job.step), facts.shape(job.regime)
    work = Work(shape, facts.size)
    held, text = answered(facts, work, prompts)
    kept = sizes.prompt_activations(shape, facts.positions, facts.config["activations"]["dtype"], sum(prompts.values()))
    return facts.model(work, held, kept + text, host=2 * kept)


def answering_light(facts: Facts, job: Job) -> Need:
    work = Work(facts.shape(job.regime), facts.size)
    held, text = answered(facts, work, facts.suites(job.regime, job.step, job.seed))
    return facts.model(work, held, text, copies=2)


def answering_saves(facts: Facts, job: Job) -> Need:
    work, held, text = Work(facts.shape(job.regime), facts.size), 0.0, 0.0
    for step in job.group.steps:
        held, text = answered(facts, work, facts.suites(job.regime, step))
        work.seconds_besides += facts.merging(work.shape)
    return facts.model(work, held, len(job.group.steps) * text, copies=2)


def sampled(study: Study, job: Job) -> dict:
    """Of an anchor."""
    spec = study.config["completions"]
    limit = {"max_new_tokens": spec["max_new_tokens"][SAMPLED_SUITE], "batch_size": spec["batch_size"]}
    return {"model": model_settings(study), "suite": SAMPLED_SUITE, "seed": job.seed, **spec["sampled"], **limit}


def sampled_table(study: Study, job: Job) -> dict:
    statistics = study.config["statistics"]
    return {
        "checkpoints": study.identities(study.evaluated()),
        "suite": SAMPLED_SUITE,
        "temperature": study.config["completions"]["sampled"]["temperature"],
        "stats_seed": statistics["seed"],
        "draws": statistics["bootstrap"],
    }


def sampled_rows(facts: Facts) -> int:
    """Sampled answers of a checkpoint."""
    return facts.config["completions"]["sampled"]["answers"] * facts.prompts(SAMPLED_SUITE)


def sampling(facts: Facts, job: Job) -> Need:
    work, spec = Work(facts.shape(job.regime), facts.size), facts.config["completions"]
    rows, limit = sampled_rows(facts), spec["max_new_tokens"][SAMPLED_SUITE]
    work.answers(rows, REQUEST, limit, spec["batch_size"], ANSWERED)
    batch = min(rows, spec["batch_size"])
    chosen = 16 * batch * work.shape.vocabulary  # probabilities and their cumulated sum, float64
    return facts.model(work, facts.decoding(work.shape, batch, limit) + chosen, rows * (300 + 5 * limit))


STAGES = {
    "completions": Stage("complete", "torch", anchor, answering_anchor, place="seed/{regime}_step{step}"),
    "completions_light": Stage("complete_saves", "torch", light, answering_light, place="seed/{regime}_step{step}"),
    "completions_saves": Stage("complete_saves", "torch", saves, answering_saves, place="seed"),
    "completions_sampled": Stage("complete_sampled", "torch", sampled, sampling, place="seed/{regime}_step{step}"),
    "sampled_table": Stage("sampled_table", "analysis", sampled_table),
}
