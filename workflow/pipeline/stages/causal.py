"""Causal sweeps with matched controls, their follow-up, aligned models and the four quadrants."""

from pipeline.costs import sizes
from pipeline.costs.facts import ANSWERED, PREFIX, REQUEST, Facts, Need
from pipeline.costs.rates import Work
from pipeline.identity import Job
from pipeline.stages.sources import model_settings
from pipeline.stages.stage import Stage
from pipeline.study import Study
from safety_geometry.causal.names import SHARED
from safety_geometry.causal.plan import PlannedCell, SweepPlan, Target
from safety_geometry.causal.question import EDITS, WORDINGS
from safety_geometry.settings.identity import Checkpoint

QUESTION = 30  # tokens of the question about a request
TESTED = {"ablate": (1.0,), "steer": (-1.0, 1.0)}  # strengths of a brought direction that have a p
BELOW = 0.45  # share of the blocks above a carrier's layer, which is not known before it is chosen

# --------------------------------------------------------------------------------------------------------- settings


def sweep(study: Study, job: Job) -> dict:
    """Of one checkpoint."""
    s = study.config["sweep"]
    here = job.regime, study.anchor_name(job.regime, job.step)
    primary = [target.id for _, place, target in study.primary() if place == here]
    alone = [Target.of(cell).id for cell in s["generate"]["cells"] if cell.get("controls") is False]
    return {
        "model": model_settings(study),
        "seed": job.seed,
        "step": job.step,
        "targets": [target.id for target in study.targets()],
        "primary": primary,
        **{
            k: s[k]
            for k in (
                "controls",
                "max_matched_lambda",
                "permutations",
                "openings",
                "prompts",
                "batch_size",
                "steer_scale",
            )
        },
        "layer_scan": s["layer_scan"] and {name: value for name, value in s["layer_scan"].items() if name != "max_kl"},
        "generate": {**s["generate"], "cells": study.generated(), "alone": alone},
        "subspace_positions": study.config["activations"]["positions"],
    }


def follow_up(study: Study, job: Job) -> dict:
    """Those of its sweep, since the cells are made anew from them."""
    answers = {k: study.config["follow_up"][k] for k in ("suites", "max_new_tokens", "batch_size")}
    return sweep(study, job) | {"checkpoint": {"regime": job.regime, "step": job.step}, "answers": answers}


def reply_inversion(study: Study, job: Job) -> dict:
    """Of one checkpoint."""
    checkpoint = Checkpoint(job.seed, job.regime, job.step, study.anchor_name(job.regime, job.step))
    asked = study.config["sweep"]["reply_inversion"]
    return {"model": model_settings(study), "checkpoint": checkpoint.columns(), **asked, **statistics(study)}


def directions(study: Study, job: Job) -> dict:
    """The sweep's of one checkpoint, with each direction in R's place: readouts only, and controls that it can have."""
    s, at = study.config["sweep"], study.anchor_name(job.regime, job.step)
    targets = [
        Target(family, "r_only", strength, scope)
        for family in ("ablate", "steer")
        for strength in s[family]
        for scope in s["scopes"]
    ]
    tested = [target.id for target in targets if target.scope == "layer" and target.strength in TESTED[target.family]]
    return sweep(study, job) | {
        "checkpoint": Checkpoint(job.seed, job.regime, job.step, at).columns(),
        "targets": [target.id for target in targets],
        "primary": tested,
        "tested": [name for name, spec in study.directions.items() if spec.get("primary")],
        "controls": {kind: count for kind, count in s["controls"].items() if kind in (*SHARED, "norm_matched")},
        "layer_scan": None,
        "generate": {"cells": [], "controls": {}, "max_new_tokens": 1},
        "directions": {
            name: {key: spec[key] for key in ("name", "position") if key in spec}
            for name, spec in study.directions.items()
        },
        "tau": study.config["coupling"]["tau"],
        **statistics(study),
    }


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
    scan = study.config["sweep"]["layer_scan"]
    about = {"checkpoints": study.identities(study.swept()), "aligned": aligned, "models": list(study.models)}
    return about | {"max_kl": scan["max_kl"] if scan else None} | statistics(study)


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
    if cell.layer is not None:
        return 1 - cell.layer / layers
    return 1.0 if cell.targets[0].scope == "all_layers" else BELOW


def sweeping(facts: Facts, job: Job) -> Need:
    """At the most: controls that do not exist at a checkpoint are counted as if they did."""
    shape, spec = facts.shape(job.regime), facts.config["sweep"]
    cells = [cell for unit in SweepPlan.of(sweep(facts.study, job)).units() for cell in unit.cells]
    read = [cell for cell in cells if cell.kind != "baseline"]  # the model as it is has been run before
    with_kl = [cell for cell in read if cell.kl]
    answering = [cell for cell in read if cell.answers]
    log_odds_blocks, kl_blocks, answer_blocks = (
        sum(share(cell, shape.layers) for cell in kind) for kind in (read, with_kl, answering)
    )
    spoken = sum(cell.answers for cell in cells)
    harmful, benign = spec["prompts"]["harmful"], spec["prompts"]["benign"]
    work = Work(shape, facts.size)
    readouts = harmful * log_odds_blocks + benign * kl_blocks
    work.forward(readouts * REQUEST, readouts / spec["batch_size"])
    work.forward(0, 0, logits=harmful * len(read) + benign * len(with_kl))
    work.forward((log_odds_blocks + kl_blocks) * PREFIX, 0)
    generate = spec["generate"]
    if answering:  # the clean answers to the benign prompts, and each cell's readout over them
        told, passes = generate["max_new_tokens"] * ANSWERED, benign * answer_blocks
        work.answers(benign, REQUEST, generate["max_new_tokens"], spec["batch_size"], ANSWERED)
        work.forward(benign * (REQUEST + told), 1)
        work.forward(passes * (REQUEST + told), passes / spec["batch_size"], logits=2 * benign * told * len(answering))
        work.forward(answer_blocks * PREFIX, 0)
    rows = spoken * sum(generate["suites"].values())
    work.answers(rows, REQUEST, generate["max_new_tokens"], generate["batch_size"], ANSWERED)
    work.forward(spoken * PREFIX, 0)
    layers = 2 + len((spec["layer_scan"] or {"layers": []})["layers"])
    streams = layers * ((harmful + benign) * REQUEST + 2 * PREFIX) * shape.hidden
    if answering:
        streams += (layers + 1) * (benign * (REQUEST + generate["max_new_tokens"]) + PREFIX) * shape.hidden
    reading = facts.probe_pass(shape, spec["batch_size"]) + sizes.key_values(shape, facts.size, 64, PREFIX)
    speaking = facts.decoding(shape, min(max(rows, 1), generate["batch_size"]), generate["max_new_tokens"])
    held = streams * facts.size + max(reading, speaking) + 6 * sizes.FLOAT * spec["batch_size"] * shape.vocabulary
    host = 8 * streams + 8 * facts.positions * 4 * facts.probes[0] * shape.hidden
    written = 400 * (len(read) * harmful + (len(with_kl) + len(answering)) * benign) + 700 * rows
    return facts.model(work, held, written, host=host)


def sweeping_directions(facts: Facts, job: Job) -> Need:
    """Log-odds and KL of every direction's cells."""
    shape, spec = facts.shape(job.regime), facts.config["sweep"]
    told = directions(facts.study, job)
    cells = [c for unit in SweepPlan.of(told).units() for c in unit.cells if c.kind != "baseline"]
    harmful, benign = spec["prompts"]["harmful"], spec["prompts"]["benign"]
    passes = (harmful * len(cells) + benign * sum(cell.kl for cell in cells)) * len(facts.study.directions)
    work = Work(shape, facts.size)
    work.forward(BELOW * passes * REQUEST, BELOW * passes / spec["batch_size"], logits=passes)
    streams = 2 * (harmful + benign) * REQUEST * shape.hidden
    held = streams * facts.size + facts.probe_pass(shape, spec["batch_size"])
    return facts.model(work, held, 500 * len(told["targets"]), host=8 * streams)


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


def inverting(facts: Facts, job: Job) -> Need:
    """Both wordings of the question about every prompt, as it is and with H and R removed and added."""
    shape, spec = facts.shape(job.regime), facts.config["sweep"]["reply_inversion"]
    rows = len(WORDINGS) * sum(spec["prompts"].values())
    tokens, cells = REQUEST + QUESTION, len(EDITS) * 2
    work = Work(shape, facts.size)
    runs = rows * (1 + BELOW * cells)
    work.forward(runs * tokens, runs / spec["batch_size"], logits=rows * (1 + cells))
    streams = 3 * rows * tokens * shape.hidden * facts.size
    held = streams + facts.probe_pass(shape, 2 * spec["batch_size"])
    return facts.model(work, held, 1000)


CHECKPOINT = "seed/{regime}_step{step}"
STAGES = {
    "reply_inversion": Stage("reply_inversion", "torch", reply_inversion, inverting, place=CHECKPOINT),
    "reply_inversion_table": Stage("reply_inversion_table", "analysis", lambda study, job: {}),
    "sweep_directions": Stage("sweep_directions", "torch", directions, sweeping_directions, place=CHECKPOINT),
    "directions_table": Stage("directions_table", "analysis"),
    "sweep": Stage("sweep", "torch", sweep, sweeping, place=CHECKPOINT),
    "follow_up_choice": Stage("follow_up_choice", "analysis", choice, place="seed"),
    "follow_up": Stage("follow_up", "torch", follow_up, following_up, place=CHECKPOINT),
    "causal_tables": Stage("causal_tables", "analysis", tables),
    "follow_up_table": Stage("follow_up_table", "analysis", follow_up_table),
    "quadrants": Stage("quadrants", "analysis", quadrants, lambda facts, job: facts.table(8.0, 200.0)),
}
