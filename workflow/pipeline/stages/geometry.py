"""Activation caches, candidate scores, carriers and their coupling."""

from pipeline.costs import sizes
from pipeline.costs.facts import ANSWERED, MB, PREFIX, REQUEST, Facts, Need
from pipeline.costs.rates import Work
from pipeline.costs.shapes import Shape
from pipeline.identity import Job
from pipeline.stages.sources import model_settings
from pipeline.stages.stage import Stage
from pipeline.study import Study

KL_PROMPTS, TOGETHER = (
    8,
    64,
)  # as in the library: prompts of the KL at all sites, edits whose prefixes are held at one time

# --------------------------------------------------------------------------------------------------------- settings


def labels(study: Study, job: Job) -> dict:
    """What the labels of the fit prompts depend on."""
    tokens, batch = study.config["refusal"]["answer_tokens"], study.config["completions"]["batch_size"]
    return {"model": model_settings(study), "answer_tokens": tokens, "batch_size": batch}


def activations(study: Study) -> dict:
    cached = study.config["activations"]
    least = {"class_min": study.config["refusal"]["class_min"]} if study.by_behaviour else {}
    return {"model": model_settings(study), **{k: cached[k] for k in ("positions", "dtype", "batch_size")}, **least}


SELECTION = (
    "validation",
    "screen",
    "finalists",
    "null_sets",
    "null_sites",
    "answer_tokens",
    "require_gain",
    "kl_max",
    "beta_kl",
    "min_gain",
)


def anchor(study: Study, job: Job) -> dict:
    """What the candidate scores depend on as well; the thresholds too: finalists and null sets are chosen by them."""
    refusal, config = study.config["refusal"], study.config
    selection = {name: refusal[name] for name in SELECTION} | {"in_charge": refusal["selector"]}
    selection |= {"openings": config["sweep"]["openings"], "seed": config["statistics"]["seed"]}
    return activations(study) | {
        "layers": refusal["layers"],
        "max_layer_fraction": refusal["max_layer_fraction"],
        "selection": selection,
        "removal": refusal["removal"],
        "answer_batch": config["completions"]["batch_size"],
        "candidate_positions": study.config["activations"]["positions"],
        "coefficient": refusal["coefficient"],
        "evaluation_share": refusal["evaluation_share"],
        "score_batch": refusal["batch_size"],
    }


def saves(study: Study, job: Job) -> dict:
    """Of the saves that are no anchors."""
    keep = study.config["activations"]["keep"]
    position = {} if keep == "all" else {"select_position": study.config["harmfulness"]["position"]}
    return {**activations(study), "keep": keep, **position}


def carriers(study: Study, job: Job) -> dict:
    config, anchors = study.config, study.anchors(job.regime)
    settings = {
        "h_position": config["harmfulness"]["position"],
        "h_score": config["harmfulness"]["score"],
        **{
            k: config["refusal"][k]
            for k in ("selector", "kl_max", "beta_kl", "max_layer_fraction", "min_gain", "require_gain")
        },
        "positions": config["activations"]["positions"],
        **config["coupling"],
        **{k: config["statistics"][k] for k in ("bootstrap", "shuffles", "splits", "seed")},
    }
    elsewhere = [next(iter(study.anchors(name).values())) for name in study.carriers_elsewhere(job.regime)]
    return {
        "seed": job.seed,
        "regime": job.regime,
        "steps": study.steps(job.regime),
        "anchors": anchors,
        "reference": next(iter(anchors.values())),
        "scored_steps": study.anchor_steps(job.regime),
        **({"elsewhere": elsewhere[0]} if elsewhere else {}),
        "settings": settings,
    }


# ------------------------------------------------------------------------------------------------------------- work


def recorded(facts: Facts, work: Work) -> float:
    """Adds the probe prompts of one checkpoint; returns the bytes that a batch of them holds on the host."""
    n, batch = sum(facts.probes), facts.config["activations"]["batch_size"]
    work.forward(n * REQUEST, -(-n // batch))
    site = facts.positions * (work.shape.layers + 1) * work.shape.hidden
    work.seconds_besides += 2 * n * site * 4 / facts.rates.load
    return site * (1.5 * sizes.FLOAT * min(batch, max(facts.probes)) + 16)


def cache(facts: Facts, shape: Shape, whole: bool) -> int:
    fit, select = facts.probes
    dtype = facts.config["activations"]["dtype"]
    return sizes.cache(shape, facts.positions, dtype, fit, select, whole, facts.study.by_behaviour)


def probing_anchor(facts: Facts, job: Job) -> Need:
    shape, refusal, positions = facts.shape(job.regime), facts.config["refusal"], facts.positions - 1
    work = Work(shape, facts.size)
    host = recorded(facts, work)
    layers = refusal["layers"]
    if layers == "all":
        layers = range(int(refusal["max_layer_fraction"] * shape.layers))
    layers = [ell for ell in layers if ell < shape.layers] or [0]
    n, least = refusal["validation"], refusal["screen"]
    share = sum(1 - ell / shape.layers for ell in layers) / len(layers)
    candidates = positions * len(layers)
    finalists, sets = min(refusal["finalists"], candidates), refusal["null_sets"]
    of_set = min(refusal["null_sites"], finalists)
    going_on = finalists + sets * max(1, of_set // 3)
    screened = candidates + sets * of_set
    rows = 3 * least * screened + (n - least) * (3 * finalists + 2 * (going_on - finalists))
    work.forward(rows * REQUEST, rows / refusal["batch_size"] + 2 * len(layers), share, rows)
    work.forward(2 * (screened + going_on) * PREFIX, 0, share)
    work.forward(finalists * KL_PROMPTS * REQUEST, 1, 1, finalists * KL_PROMPTS)
    asked = facts.probes[1]
    work.answers(asked, REQUEST, refusal["answer_tokens"], facts.config["completions"]["batch_size"], ANSWERED)
    streams = len(layers) * (asked * REQUEST + PREFIX) * shape.hidden * facts.size
    held = streams + facts.probe_pass(shape, refusal["batch_size"])
    held += sizes.key_values(shape, facts.size, refusal["batch_size"] + TOGETHER, PREFIX)
    held += asked * 3 * shape.vocabulary * sizes.FLOAT
    disk = cache(facts, shape, True) + sizes.scores(shape, candidates, least) + sizes.scores(shape, finalists, n)
    disk += sizes.FLOAT * sets * shape.hidden
    return facts.model(
        work, max(held, facts.probe_pass(shape, facts.config["activations"]["batch_size"])), disk, host=host
    )


def probing_saves(facts: Facts, job: Job) -> Need:
    steps, shape = job.group.steps, facts.shape(job.regime)
    work, host = Work(shape, facts.size), 0.0
    for _ in steps:
        host = recorded(facts, work)
        work.seconds_besides += facts.merging(shape)
    disk = len(steps) * cache(facts, shape, facts.config["activations"]["keep"] == "all")
    held = facts.probe_pass(shape, facts.config["activations"]["batch_size"])
    return facts.model(work, held, disk, copies=2, host=host)


def labelling(facts: Facts, job: Job) -> Need:
    limit, batch, shape = (
        facts.config["refusal"]["answer_tokens"],
        facts.config["completions"]["batch_size"],
        facts.shape(job.regime),
    )
    work, n, steps = Work(shape, facts.size), facts.probes[0], job.group.steps
    for _ in steps:
        work.answers(n, REQUEST, limit, batch, ANSWERED)
        work.seconds_besides += facts.merging(shape)
    return facts.model(work, facts.decoding(shape, min(n, batch), limit), len(steps) * 2000, copies=2)


def coupling(facts: Facts, job: Job) -> Need:
    shape, s = facts.shape(job.regime), facts.config["statistics"]
    anchors, steps = len(facts.study.anchor_steps(job.regime)), len(facts.study.steps(job.regime))
    draws = s["bootstrap"] + s["shuffles"] + 2 * s["splits"]
    sites = facts.positions * (1 + len(facts.config["coupling"]["fixed_layers"]))
    seconds = 4 + 1.9e-9 * anchors * draws * sites * facts.probes[0] * shape.hidden / 10
    means = 4 * steps * facts.positions * (shape.layers + 1) * shape.hidden * sizes.FLOAT
    disk = sizes.carriers(shape, steps, facts.config["coupling"]["subspace_k"]) / MB + 0.5
    return facts.table(seconds, (means + 8 * 4 * sites * facts.probes[0] * shape.hidden) / MB, disk)


STAGES = {
    "fit_labels": Stage("fit_labels", "torch", labels, labelling, place="seed"),
    "probe_anchor": Stage("probe", "torch", anchor, probing_anchor, place="seed/{regime}_step{step}"),
    "probe_saves": Stage("probe_saves", "torch", saves, probing_saves, place="seed"),
    "rulers": Stage("rulers", "torch", work=lambda facts, job: facts.table(6.0, 300.0), place="seed/{model}"),
    "carriers": Stage("carriers", "analysis", carriers, coupling, place="seed/{regime}"),
}
