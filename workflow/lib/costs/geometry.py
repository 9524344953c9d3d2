"""Activation caches, candidate scores, carriers."""

from costs import sizes
from costs.facts import ANSWERED, MB, PREFIX, REQUEST, Facts, Need
from costs.rates import Work
from costs.shapes import Shape
from costs.training import merging


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


def probe_anchor(f: Facts, name: str) -> Need:
    shape, refusal, positions = f.shape(name), f.c["refusal"], f.positions - 1
    work = Work(shape, f.size)
    work.load()
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


def probe_saves(f: Facts, name: str, steps: list[int]) -> Need:
    others, shape = [step for step in steps if step not in f.study.anchor_steps(name)], f.shape(name)
    work, host = Work(shape, f.size), 0.0
    work.load()
    for _ in others:
        host = recorded(f, work)
        work.seconds_besides += merging(f)
    disk = len(others) * cache(f, shape, f.c["activations"]["keep"] == "all")
    held = f.probe_pass(shape, f.c["activations"]["batch_size"])
    return f.model(work, held, disk, copies=2, host=host)


def fit_labels(f: Facts, name: str, steps: list[int]) -> Need:
    limit, batch, shape = f.c["refusal"]["answer_tokens"], f.c["completions"]["batch_size"], f.shape(name)
    work, n = Work(shape, f.size), f.probes[0]
    work.load()
    for _ in steps:
        work.answers(n, REQUEST, limit, batch, ANSWERED)
        work.seconds_besides += merging(f)
    return f.model(work, f.decoding(shape, min(n, batch), limit), len(steps) * 2000, copies=2)


def carriers(f: Facts, name: str) -> Need:
    shape, s = f.shape(name), f.c["statistics"]
    anchors, saves = len(f.study.anchor_steps(name)), len(f.study.steps(name))
    draws = s["bootstrap"] + s["shuffles"] + 2 * s["splits"]
    sites = f.positions * (1 + len(f.c["coupling"]["fixed_layers"]))
    seconds = 4 + 1.9e-9 * anchors * draws * sites * f.probes[0] * shape.hidden / 10
    means = 4 * saves * f.positions * (shape.layers + 1) * shape.hidden * sizes.FLOAT
    disk = sizes.carriers(shape, saves, f.c["coupling"]["subspace_k"]) / MB + 0.5
    return f.table(seconds, (means + 8 * 4 * sites * f.probes[0] * shape.hidden) / MB, disk)
