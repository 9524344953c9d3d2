"""Activation caches, candidate scores, carriers and their coupling."""

from pipeline.costs import sizes
from pipeline.costs.facts import ANSWERED, MB, PREFIX, REQUEST, Facts, Need
from pipeline.costs.rates import Work
from pipeline.costs.shapes import Shape
from pipeline.identity import At
from pipeline.stages.sources import model_settings
from pipeline.stages.stage import Stage
from pipeline.study import Study

# --------------------------------------------------------------------------------------------------------- settings


def labels(study: Study, at: At) -> dict:
    """What the labels of the fit prompts depend on."""
    tokens, batch = study.config["refusal"]["answer_tokens"], study.config["completions"]["batch_size"]
    return {"model": model_settings(study), "answer_tokens": tokens, "batch_size": batch}


def activations(study: Study) -> dict:
    cached = study.config["activations"]
    least = {"class_min": study.config["refusal"]["class_min"]} if study.by_behaviour else {}
    return {"model": model_settings(study), **{k: cached[k] for k in ("positions", "dtype", "batch_size")}, **least}


def anchor(study: Study, at: At) -> dict:
    """What the candidate scores depend on as well. The thresholds are not here: they act on stored scores."""
    r = study.config["refusal"]
    return activations(study) | {
        "layers": r["layers"], "max_layer_fraction": r["max_layer_fraction"] if r["layers"] == "all" else None,
        "candidate_positions": study.config["activations"]["positions"], "validation": r["validation"],
        "coefficient": r["coefficient"], "evaluation_share": r["evaluation_share"], "score_batch": r["batch_size"],
    }  # fmt: skip


def saves(study: Study, at: At) -> dict:
    """Of the saves that are no anchors."""
    keep = study.config["activations"]["keep"]
    position = {} if keep == "all" else {"select_position": study.config["harmfulness"]["position"]}
    return {**activations(study), "keep": keep, **position}


def carriers(study: Study, at: At) -> dict:
    c, anchors = study.config, study.anchors(at.regime)
    settings = {
        "h_position": c["harmfulness"]["position"], "h_score": c["harmfulness"]["score"],
        **{k: c["refusal"][k] for k in ("kl_max", "beta_kl", "max_layer_fraction")},
        "positions": c["activations"]["positions"], **c["coupling"],
        **{k: c["statistics"][k] for k in ("bootstrap", "shuffles", "splits", "seed")},
    }  # fmt: skip
    return {
        "seed": at.seed, "regime": at.regime, "steps": study.steps(at.regime), "anchors": anchors,
        "reference": next(iter(anchors.values())), "scored_steps": study.anchor_steps(at.regime), "settings": settings,
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- work


def recorded(f: Facts, work: Work) -> float:
    """Adds the probe prompts of one checkpoint; returns the bytes that a batch of them holds on the host."""
    n, batch = sum(f.probes), f.c["activations"]["batch_size"]
    work.forward(n * REQUEST, -(-n // batch))
    site = f.positions * (work.shape.layers + 1) * work.shape.hidden
    work.seconds_besides += 2 * n * site * 4 / f.rates.load
    return site * (1.5 * sizes.FLOAT * min(batch, max(f.probes)) + 16)


def cache(f: Facts, shape: Shape, whole: bool) -> int:
    fit, select = f.probes
    dtype = f.c["activations"]["dtype"]
    return sizes.cache(shape, f.positions, dtype, fit, select, whole, f.study.by_behaviour)


def probing_anchor(f: Facts, at: At) -> Need:
    shape, refusal, positions = f.shape(at.regime), f.c["refusal"], f.positions - 1
    work = Work(shape, f.size)
    host = recorded(f, work)
    layers = refusal["layers"]
    if layers == "all":
        layers = range(int(refusal["max_layer_fraction"] * shape.layers))
    layers = [ell for ell in layers if ell < shape.layers] or [0]
    n = refusal["validation"]
    share = sum(1 - ell / shape.layers for ell in layers) / len(layers)
    rows = 3 * n * positions * len(layers)
    work.forward(rows * REQUEST, rows / refusal["batch_size"] + 2 * len(layers), share, rows / 3)
    work.forward(2 * len(layers) * positions * PREFIX, 0, share)
    streams = len(layers) * (2 * n * REQUEST + PREFIX) * shape.hidden * f.size
    held = streams + f.probe_pass(shape, refusal["batch_size"])
    held += sizes.key_values(shape, f.size, refusal["batch_size"] + 2 * positions, PREFIX)
    held += 2 * n * 3 * shape.vocabulary * sizes.FLOAT
    disk = cache(f, shape, True) + sizes.scores(shape, len(layers) * positions, n)
    return f.model(work, max(held, f.probe_pass(shape, f.c["activations"]["batch_size"])), disk, host=host)


def probing_saves(f: Facts, at: At) -> Need:
    steps, shape = at.group.steps, f.shape(at.regime)
    work, host = Work(shape, f.size), 0.0
    for _ in steps:
        host = recorded(f, work)
        work.seconds_besides += f.merging(shape)
    disk = len(steps) * cache(f, shape, f.c["activations"]["keep"] == "all")
    held = f.probe_pass(shape, f.c["activations"]["batch_size"])
    return f.model(work, held, disk, copies=2, host=host)


def labelling(f: Facts, at: At) -> Need:
    limit, batch, shape = f.c["refusal"]["answer_tokens"], f.c["completions"]["batch_size"], f.shape(at.regime)
    work, n, steps = Work(shape, f.size), f.probes[0], at.group.steps
    for _ in steps:
        work.answers(n, REQUEST, limit, batch, ANSWERED)
        work.seconds_besides += f.merging(shape)
    return f.model(work, f.decoding(shape, min(n, batch), limit), len(steps) * 2000, copies=2)


def coupling(f: Facts, at: At) -> Need:
    shape, s = f.shape(at.regime), f.c["statistics"]
    anchors, steps = len(f.study.anchor_steps(at.regime)), len(f.study.steps(at.regime))
    draws = s["bootstrap"] + s["shuffles"] + 2 * s["splits"]
    sites = f.positions * (1 + len(f.c["coupling"]["fixed_layers"]))
    seconds = 4 + 1.9e-9 * anchors * draws * sites * f.probes[0] * shape.hidden / 10
    means = 4 * steps * f.positions * (shape.layers + 1) * shape.hidden * sizes.FLOAT
    disk = sizes.carriers(shape, steps, f.c["coupling"]["subspace_k"]) / MB + 0.5
    return f.table(seconds, (means + 8 * 4 * sites * f.probes[0] * shape.hidden) / MB, disk)


STAGES = {
    "fit_labels": Stage("fit_labels", "torch", labels, labelling, place="seed"),
    "probe_anchor": Stage("probe", "torch", anchor, probing_anchor, place="seed/{regime}_step{step}"),
    "probe_saves": Stage("probe_saves", "torch", saves, probing_saves, place="seed"),
    "carriers": Stage("carriers", "analysis", carriers, coupling, place="seed/{regime}"),
}
