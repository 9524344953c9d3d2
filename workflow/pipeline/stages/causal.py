"""Causal sweeps with matched controls, their follow-up, aligned models and the four quadrants."""

from pipeline.costs import sizes
from pipeline.costs.facts import ANSWERED, PREFIX, REQUEST, Facts, Need
from pipeline.costs.rates import Work
from pipeline.identity import Job
from pipeline.stages.sources import model_settings
from pipeline.stages.stage import Stage
from pipeline.study import Study
from safety_geometry.causal.plan import PlannedCell, SweepPlan, Target

BELOW = 0.45  # share of the blocks above a carrier's layer, which is not known before it is chosen

# --------------------------------------------------------------------------------------------------------- settings


def sweep(study: Study, job: Job) -> dict:
    """Of one checkpoint."""
    s = study.config["sweep"]
    here = job.regime, study.anchor_name(job.regime, job.step)
    primary = [Target.of(t).id for t in s["primary"] if (t["regime"], str(t["anchor"])) == here]
    return {
        "model": model_settings(study),
        "seed": job.seed,
        "step": job.step,
        "targets": [target.id for target in study.targets()],
        "primary": primary,
        **{
            k: s[k]
            for k in ("controls", "permutations", "openings", "prompts", "batch_size", "steer_scale", "layer_scan")
        },
        "generate": {**s["generate"], "cells": study.generated()},
        "subspace_positions": study.config["activations"]["positions"],
    }


def follow_up(study: Study, job: Job) -> dict:
    """Those of its sweep, since the cells are made anew from them."""
    answers = {k: study.config["follow_up"][k] for k in ("suites", "max_new_tokens", "batch_size")}
    return sweep(study, job) | {"checkpoint": {"regime": job.regime, "step": job.step}, "answers": answers}


def choice(study: Study, job: Job) -> dict:
    spec = study.config["follow_up"]
    return {
        "checkpoints": [c for c in study.identities(study.swept()) if c["seed"] == job.seed],
        "targets": spec["targets"],
        "controls": spec["controls"],
        "stats_seed": study.config["statistics"]["seed"],
    }


def statistics(study: Study) -> dict:
    """Seed and draws of the bootstrap of tables."""
    spec = study.config["statistics"]
    return {"stats_seed": spec["seed"], "draws": spec["bootstrap"]}


def tables(study: Study, job: Job) -> dict:
    aligned = [f"{regime}:{a}" for regime, anchors in study.config["aligned"]["anchors"].items() for a in anchors]
    about = {"checkpoints": study.identities(study.swept()), "aligned": aligned, "models": list(study.models)}
    return about | statistics(study)


def follow_up_table(study: Study, job: Job) -> dict:
    return {"checkpoints": study.identities(study.swept())} | statistics(study)


def quadrants(study: Study, job: Job) -> dict:
    return {
        "checkpoints": study.identities(study.evaluated()),
        **study.config["quadrants"],
        "stats_seed": study.config["statistics"]["seed"],
    }


# ------------------------------------------------------------------------------------------------------------- work


def share(cell: PlannedCell, layers: int) -> float:
    """Of the blocks that run for a readout of the cell."""
    if cell.kind == "layer_scan":
        return 1 - cell.number / layers
    return 1.0 if cell.targets[0].scope == "all_layers" else BELOW


def sweeping(facts: Facts, job: Job) -> Need:
    """At the most: controls that do not exist at a checkpoint are counted as if they did."""
    shape, spec = facts.shape(job.regime), facts.config["sweep"]
    cells = [cell for unit in SweepPlan.of(sweep(facts.study, job)).units() for cell in unit.cells]
    read = [cell for cell in cells if cell.kind != "baseline"]  # the model as it is has been run before
    with_kl = [cell for cell in read if cell.kl]
    log_odds_blocks, kl_blocks = (sum(share(cell, shape.layers) for cell in kind) for kind in (read, with_kl))
    spoken = sum(cell.answers for cell in cells)
    harmful, benign = spec["prompts"]["harmful"], spec["prompts"]["benign"]
    work = Work(shape, facts.size)
    runs = harmful * log_odds_blocks + benign * kl_blocks
    work.forward(runs * REQUEST, runs / spec["batch_size"])
    work.forward(0, 0, logits=harmful * len(read) + benign * len(with_kl))
    work.forward((log_odds_blocks + kl_blocks) * PREFIX, 0)
    generate = spec["generate"]
    rows = spoken * sum(generate["suites"].values())
    work.answers(rows, REQUEST, generate["max_new_tokens"], generate["batch_size"], ANSWERED)
    work.forward(spoken * PREFIX, 0)
    layers = 2 + len((spec["layer_scan"] or {"layers": []})["layers"])
    streams = layers * ((harmful + benign) * REQUEST + 2 * PREFIX) * shape.hidden
    reading = facts.probe_pass(shape, spec["batch_size"]) + sizes.key_values(shape, facts.size, 64, PREFIX)
    speaking = facts.decoding(shape, min(max(rows, 1), generate["batch_size"]), generate["max_new_tokens"])
    held = streams * facts.size + max(reading, speaking) + 6 * sizes.FLOAT * spec["batch_size"] * shape.vocabulary
    host = 8 * streams + 8 * facts.positions * 4 * facts.probes[0] * shape.hidden
    return facts.model(work, held, 400 * (len(read) * harmful + len(with_kl) * benign) + 700 * rows, host=host)


def following_up(facts: Facts, job: Job) -> Need:
    """The targets are chosen over all swept checkpoints of a seed; taken here to be spread evenly."""
    shape, spec = facts.shape(job.regime), facts.config["follow_up"]
    swept = sum(seed == job.seed for seed, _, _ in facts.study.swept())
    cells = (1 + spec["targets"] * (1 + spec["controls"]) / max(1, swept)) if spec["targets"] else 0
    prompts = sum(n / 2 if suite == "direct" else n for suite, n in spec["suites"].items())
    work = Work(shape, facts.size)
    work.answers(cells * prompts, REQUEST, spec["max_new_tokens"], spec["batch_size"], ANSWERED)
    held = facts.decoding(shape, min(spec["batch_size"], int(cells * prompts) + 1), spec["max_new_tokens"])
    return facts.model(work, held, cells * prompts * 700)


CHECKPOINT = "seed/{regime}_step{step}"
STAGES = {
    "sweep": Stage("sweep", "torch", sweep, sweeping, place=CHECKPOINT),
    "follow_up_choice": Stage("follow_up_choice", "analysis", choice, place="seed"),
    "follow_up": Stage("follow_up", "torch", follow_up, following_up, place=CHECKPOINT),
    "causal_tables": Stage("causal_tables", "analysis", tables),
    "follow_up_table": Stage("follow_up_table", "analysis", follow_up_table),
    "quadrants": Stage("quadrants", "analysis", quadrants, lambda facts, job: facts.table(8.0, 200.0)),
}
