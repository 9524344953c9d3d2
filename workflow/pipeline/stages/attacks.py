"""Attacks made on checkpoints, and their transfer to others."""

from pipeline.costs import sizes
from pipeline.costs.attacks import search, searching
from pipeline.costs.facts import ANSWERED, ATTACK_PROMPT, PREFIX, REQUEST, TARGET, Facts, Need
from pipeline.costs.rates import Work
from pipeline.identity import At
from pipeline.stages.causal import statistics
from pipeline.stages.sources import model_settings
from pipeline.stages.stage import Stage
from pipeline.study import Study
from safety_geometry.settings.attack_arm import Place

# --------------------------------------------------------------------------------------------------------- settings


def behaviours(study: Study, at: At) -> dict:
    attacks = study.config["attacks"]
    return {
        "model": model_settings(study), "source": Place(*study.fixed_source).text,
        "batch_size": study.config["completions"]["batch_size"],
        **{k: attacks[k] for k in ("behaviours", "refusal_tokens", "require_refusal")},
    }  # fmt: skip


def gcg(study: Study, at: At) -> dict:
    """All behaviours on the fixed source, the first on the others."""
    section = "attacks" if (at.regime, at.step) == study.fixed_source else "transfer"
    return attack(study, at, study.config[section]["behaviours"]) | {"gcg": study.config["attacks"]["gcg"]}


def autodan(study: Study, at: At) -> dict:
    search = dict(study.config["attacks"]["autodan"])
    seeds = search.pop("seeds")
    return attack(study, at, study.config["transfer"]["behaviours"]) | {"seeds": seeds, "autodan": search}


def attack(study: Study, at: At, behaviours: int) -> dict:
    source = Place(at.regime, at.step).text
    return {"model": model_settings(study), "seed": at.seed, "source": source, "behaviours": behaviours}


def transfer(study: Study, at: At) -> dict:
    """Of asking all targets the attacks of one source; `whole` are those of the targets that have no adapter."""
    spec, targets = study.config["transfer"], study.attack_targets(at.regime, at.step)
    whole = [Place(*target).text for target in targets if not study.has_adapter(*target)]
    return {
        "model": model_settings(study), "source": Place(at.regime, at.step).text,
        "targets": [Place(*target).text for target in targets], **({"whole": whole} if whole else {}),
        **{k: spec[k] for k in ("behaviours", "max_new_tokens", "batch_size")},
    }  # fmt: skip


def tables(study: Study, at: At) -> dict:
    sources = [dict(zip(("seed", "regime", "step"), source, strict=True)) for source in study.attacked()]
    fixed = Place(*study.fixed_source).text
    return {"sources": sources, "fixed_source": fixed, "untrained": list(study.brought)} | statistics(study)


# ------------------------------------------------------------------------------------------------------------- work


def choosing(f: Facts, at: At) -> Need:
    spec, batch, n = f.c["attacks"], f.c["completions"]["batch_size"], f.prompts("direct")
    if not spec["require_refusal"]:
        return f.table()
    shape = f.shape(f.study.fixed_source[0])
    work = Work(shape, f.size)
    work.answers(n, REQUEST, spec["refusal_tokens"], batch, ANSWERED)
    return f.model(work, f.decoding(shape, min(n, batch), spec["refusal_tokens"]), 20_000)


def attacking_gcg(f: Facts, at: At) -> Need:
    settings = gcg(f.study, at)
    search_settings, cases = settings["gcg"], settings["behaviours"]
    work = Work(f.shape(at.regime), f.size)
    search(work, cases, search_settings["steps"], search_settings)
    return f.model(work, searching(work, cases, search_settings), cases * 3000)


def attacking_autodan(f: Facts, at: At) -> Need:
    settings, shape = autodan(f.study, at), f.shape(at.regime)
    genetic, cases = settings["autodan"], settings["behaviours"]
    work = Work(shape, f.size)
    prompts = cases * (settings["seeds"] + genetic["steps"] * genetic["population"])
    batch = genetic.get("batch_size", 16)
    work.forward(prompts * ATTACK_PROMPT, prompts / batch, logits=prompts * TARGET)
    held = sizes.one_pass(shape, f.size, batch, ATTACK_PROMPT + TARGET)
    held += 3 * sizes.FLOAT * batch * TARGET * shape.vocabulary
    return f.model(work, held, cases * 4000)


def asking(f: Facts, at: At) -> Need:
    """The largest of the targets decides what is held."""
    spec, study = f.c["transfer"], f.study
    methods, targets = study.methods(at.regime, at.step), study.attack_targets(at.regime, at.step)
    at_source = sum(2 * (gcg(study, at)["behaviours"] if m == "gcg" else spec["behaviours"]) for m in methods)
    elsewhere = 2 * len(methods) * spec["behaviours"]
    shapes = [f.shape(regime) for regime, _ in targets]
    work = Work(max(shapes, key=lambda shape: shape.parameters), f.size, len(targets))
    for rows in (at_source, *[elsewhere] * (len(targets) - 1)):
        work.answers(rows, ATTACK_PROMPT, spec["max_new_tokens"], spec["batch_size"], ANSWERED)
    rows = min(spec["batch_size"], max(at_source, elsewhere))
    held = sizes.decoding(work.shape, f.size, rows, PREFIX + ATTACK_PROMPT, spec["max_new_tokens"])
    return f.model(work, held, (at_source + elsewhere * len(targets)) * 1500)


CHECKPOINT = "seed/{regime}_step{step}"
STAGES = {
    "attacked_behaviours": Stage("choose_behaviours", "torch", behaviours, choosing, place="seed"),
    "attack_gcg": Stage("attack_gcg", "torch", gcg, attacking_gcg, place=CHECKPOINT),
    "attack_autodan": Stage("attack_autodan", "torch", autodan, attacking_autodan, place=CHECKPOINT),
    "transfer": Stage("transfer", "torch", transfer, asking, place=CHECKPOINT),
    "transfer_tables": Stage("transfer_tables", "analysis", tables),
}
