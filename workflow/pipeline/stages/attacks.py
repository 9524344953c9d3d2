"""Attacks made on checkpoints, and their transfer to others."""

from pipeline.costs import sizes
from pipeline.costs.attacks import search, searching
from pipeline.costs.facts import ANSWERED, ATTACK_PROMPT, PREFIX, REQUEST, TARGET, Facts, Need
from pipeline.costs.rates import Work
from pipeline.identity import Job
from pipeline.stages.causal import statistics
from pipeline.stages.sources import model_settings
from pipeline.stages.stage import Stage
from pipeline.study import Study
from safety_geometry.settings.attack_arm import Place

# --------------------------------------------------------------------------------------------------------- settings


def behaviours(study: Study, job: Job) -> dict:
    attacks = study.config["attacks"]
    return {
        "model": model_settings(study),
        "source": Place(*study.fixed_source).text,
        "batch_size": study.config["completions"]["batch_size"],
        **{k: attacks[k] for k in ("behaviours", "refusal_tokens", "require_refusal")},
        **({"universal": attacks["universal"]["behaviours"]} if attacks.get("universal") else {}),
    }


def framings(study: Study, job: Job) -> dict:
    return {"framings": study.config["attacks"]["framings"]}


def gcg(study: Study, job: Job) -> dict:
    return attack(study, job) | {"gcg": study.config["attacks"]["gcg"]}


def universal(study: Study, job: Job) -> dict:
    """Of the suffix for several requests; what makes no sense for it is left out of GCG's settings."""
    spec, search = study.config["attacks"]["universal"], study.config["attacks"]["gcg"]
    kept = {k: v for k, v in search.items() if k not in ("echo", "buffer", "probe", "momentum", "stop_exact")}
    return of_source(study, job) | {"gcg": kept | {k: spec[k] for k in ("steps", "width")}}


def autodan(study: Study, job: Job) -> dict:
    search = dict(study.config["attacks"]["autodan"])
    seeds = search.pop("seeds")
    return attack(study, job) | {"seeds": seeds, "autodan": search}


def attack(study: Study, job: Job) -> dict:
    """Of one suffix or prompt a behaviour: all behaviours on the fixed source, the first on the others."""
    section = "attacks" if (job.regime, job.step) == study.fixed_source else "transfer"
    return of_source(study, job) | {"behaviours": study.config[section]["behaviours"]}


def of_source(study: Study, job: Job) -> dict:
    return {"model": model_settings(study), "seed": job.seed, "source": Place(job.regime, job.step).text}


def transfer(study: Study, job: Job) -> dict:
    """Of asking all targets the attacks of one source; `whole` are those of the targets that have no adapter."""
    spec, targets = study.config["transfer"], study.attack_targets(job.regime, job.step)
    whole = [Place(*target).text for target in targets if not study.has_adapter(*target)]
    return {
        "model": model_settings(study),
        "source": Place(job.regime, job.step).text,
        "targets": [Place(*target).text for target in targets],
        **({"whole": whole} if whole else {}),
        **{k: spec[k] for k in ("behaviours", "max_new_tokens", "batch_size")},
    }


def tables(study: Study, job: Job) -> dict:
    sources = [dict(zip(("seed", "regime", "step"), source, strict=True)) for source in study.attacked()]
    fixed = Place(*study.fixed_source).text
    return {"sources": sources, "fixed_source": fixed, "untrained": list(study.brought)} | statistics(study)


# ------------------------------------------------------------------------------------------------------------- work


def choosing(facts: Facts, job: Job) -> Need:
    spec, batch, n = facts.config["attacks"], facts.config["completions"]["batch_size"], facts.prompts("direct")
    if not spec["require_refusal"]:
        return facts.table()
    shape = facts.shape(facts.study.fixed_source[0])
    work = Work(shape, facts.size)
    work.answers(n, REQUEST, spec["refusal_tokens"], batch, ANSWERED)
    if spec.get("universal"):
        work.answers(facts.prompts(spec["universal"]["role"]), REQUEST, spec["refusal_tokens"], batch, ANSWERED)
    return facts.model(work, facts.decoding(shape, min(n, batch), spec["refusal_tokens"]), 20_000)


def attacking_gcg(facts: Facts, job: Job) -> Need:
    settings = gcg(facts.study, job)
    search_settings, cases = settings["gcg"], settings["behaviours"]
    work = Work(facts.shape(job.regime), facts.size)
    search(work, cases, search_settings["steps"], search_settings)
    return facts.model(work, searching(work, cases, search_settings), cases * 3000)


def attacking_universal(facts: Facts, job: Job) -> Need:
    """Each step scores its candidates behind all of the requests, as many cases of a search do."""
    search_settings, cases = universal(facts.study, job)["gcg"], facts.config["attacks"]["universal"]["behaviours"]
    work = Work(facts.shape(job.regime), facts.size)
    search(work, cases, search_settings["steps"], search_settings)
    return facts.model(work, searching(work, cases, search_settings), facts.prompts("direct") * 1500)


def attacking_autodan(facts: Facts, job: Job) -> Need:
    settings, shape = autodan(facts.study, job), facts.shape(job.regime)
    genetic, cases = settings["autodan"], settings["behaviours"]
    work = Work(shape, facts.size)
    prompts = cases * (settings["seeds"] + genetic["steps"] * genetic["population"])
    batch = genetic.get("batch_size", 16)
    work.forward(prompts * ATTACK_PROMPT, prompts / batch, logits=prompts * TARGET)
    held = sizes.one_pass(shape, facts.size, batch, ATTACK_PROMPT + TARGET)
    held += 3 * sizes.FLOAT * batch * TARGET * shape.vocabulary
    return facts.model(work, held, cases * 4000)


def asking(facts: Facts, job: Job) -> Need:
    """The largest of the targets decides what is held."""
    spec, study = facts.config["transfer"], facts.study
    methods, targets = study.methods(job.regime, job.step), study.attack_targets(job.regime, job.step)
    at_source = 2 * len(methods) * attack(study, job)["behaviours"]
    elsewhere = 2 * len(methods) * spec["behaviours"]
    work = Work(
        max([facts.shape(regime) for regime, _ in targets], key=lambda shape: shape.parameters),
        facts.size,
        len(targets),
    )
    for rows in (at_source, *[elsewhere] * (len(targets) - 1)):
        work.answers(rows, ATTACK_PROMPT, spec["max_new_tokens"], spec["batch_size"], ANSWERED)
    rows = min(spec["batch_size"], max(at_source, elsewhere))
    held = facts.decoding(work.shape, rows, spec["max_new_tokens"], PREFIX + ATTACK_PROMPT)
    return facts.model(work, held, (at_source + elsewhere * len(targets)) * 1500)


CHECKPOINT = "seed/{regime}_step{step}"
STAGES = {
    "attacked_behaviours": Stage("choose_behaviours", "torch", behaviours, choosing, place="seed"),
    "framings": Stage("framings", "analysis", framings, place="seed"),
    "attack_universal": Stage("attack_universal", "torch", universal, attacking_universal, place=CHECKPOINT),
    "attack_gcg": Stage("attack_gcg", "torch", gcg, attacking_gcg, place=CHECKPOINT),
    "attack_autodan": Stage("attack_autodan", "torch", autodan, attacking_autodan, place=CHECKPOINT),
    "transfer": Stage("transfer", "torch", transfer, asking, place=CHECKPOINT),
    "transfer_tables": Stage("transfer_tables", "analysis", tables),
}
