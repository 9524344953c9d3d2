"""Causal sweeps, their follow-up, and judges."""

from collections.abc import Mapping

from costs import sizes
from costs.cells import count_cells
from costs.facts import ANSWERED, JUDGED, MB, PREFIX, REQUEST, Facts, Need
from costs.rates import Work


def sweep(f: Facts, at: Mapping[str, str]) -> Need:
    shape, spec = f.shape(at["regime"]), f.c["sweep"]
    cells = count_cells(f.params, at["regime"], int(at["step"]), int(at["seed"]), shape.layers)
    harmful, benign = spec["prompts"]["harmful"], spec["prompts"]["benign"]
    work = Work(shape, f.size)
    work.load()
    runs = harmful * cells.log_odds_blocks + benign * cells.kl_blocks
    work.forward(runs * REQUEST, runs / spec["batch_size"])
    work.forward(0, 0, logits=harmful * cells.log_odds + benign * cells.kl)
    work.forward((cells.log_odds_blocks + cells.kl_blocks) * PREFIX, 0)
    generate = spec["generate"]
    rows = cells.spoken * sum(generate["suites"].values())
    work.answers(rows, REQUEST, generate["max_new_tokens"], generate["batch_size"], ANSWERED)
    work.forward(cells.spoken * PREFIX, 0)
    layers = 2 + len((spec["layer_scan"] or {"layers": []})["layers"])
    streams = layers * ((harmful + benign) * REQUEST + 2 * PREFIX) * shape.hidden
    reading = f.probe_pass(shape, spec["batch_size"]) + sizes.key_values(shape, f.size, 64, PREFIX)
    speaking = f.decoding(shape, min(max(rows, 1), generate["batch_size"]), generate["max_new_tokens"])
    held = streams * f.size + max(reading, speaking) + 6 * sizes.FLOAT * spec["batch_size"] * shape.vocabulary
    host = 8 * streams + 8 * f.positions * 4 * f.probes[0] * shape.hidden
    return f.model(work, held, 400 * (cells.log_odds * harmful + cells.kl * benign) + 700 * rows, host=host)


def follow_up(f: Facts, at: Mapping[str, str]) -> Need:
    """The targets are chosen over all swept checkpoints of a seed; taken here to be spread evenly."""
    shape, spec = f.shape(at["regime"]), f.c["follow_up"]
    swept = sum(seed == int(at["seed"]) for seed, _, _ in f.study.swept())
    cells = (1 + spec["targets"] * (1 + spec["controls"]) / max(1, swept)) if spec["targets"] else 0
    asked = sum(n / 2 if suite == "direct" else n for suite, n in spec["suites"].items())
    work = Work(shape, f.size)
    work.load()
    work.answers(cells * asked, REQUEST, spec["max_new_tokens"], spec["batch_size"], ANSWERED)
    held = f.decoding(shape, min(spec["batch_size"], int(cells * asked) + 1), spec["max_new_tokens"])
    return f.model(work, held, cells * asked * 700)


def judge(f: Facts, kind: str | None, at: Mapping[str, str]) -> Need:
    """kind: what is judged, the suites of a checkpoint (None) or what follows the rule's name."""
    if kind is None:
        return judged(f, sum(f.suites(at["regime"], int(at["step"])).values()))
    return judged(f, 4 * {"_sweep": 100, "_follow_up": 100, "_transfer": 4 * f.c["transfer"]["behaviours"]}[kind])


def judge_saves(f: Facts, name: str, steps: list[int]) -> Need:
    others = [step for step in steps if step not in f.study.anchor_steps(name)]
    return judged(f, sum(sum(f.suites(name, step).values()) for step in others))


def judged(f: Facts, rows: int) -> Need:
    """By the published judges, one after the other, or by rules and trained ones."""
    seconds, memory, gpu = 0.0, 0.0, 0.0
    for _, shape in f.published():
        work = Work(shape, f.size)
        work.load()
        work.forward(rows * JUDGED, rows / 8, logits=rows)
        need = f.model(work, sizes.one_pass(shape, f.size, 8, JUDGED), 0)
        seconds, memory, gpu = seconds + need.seconds, max(memory, need.memory), max(gpu, need.gpu)
    return Need(seconds, memory, gpu, rows * 500 / MB, 0.0, True) if f.published() else f.table()
