"""Answers to the evaluation suites, attacks, and what others answer to them."""

from collections.abc import Mapping

from costs import sizes
from costs.facts import ANSWERED, ATTACK_PROMPT, PREFIX, REQUEST, TARGET, Facts, Need
from costs.rates import Work
from costs.training import merging, search, searching


def completions(f: Facts, at: Mapping[str, str]) -> Need:
    asked, shape = f.suites(at["regime"], int(at["step"])), f.shape(at["regime"])
    work = Work(shape, f.size)
    work.load()
    held, text = answered(f, work, asked)
    kept = sizes.prompt_activations(shape, f.positions, f.c["activations"]["dtype"], sum(asked.values()))
    return f.model(work, held, kept + text, host=2 * kept)


def completions_saves(f: Facts, name: str, steps: list[int]) -> Need:
    work, others = Work(f.shape(name), f.size), [step for step in steps if step not in f.study.anchor_steps(name)]
    work.load()
    for step in others:
        held, text = answered(f, work, f.suites(name, step))
        work.seconds_besides += merging(f)
    return f.model(work, held, len(others) * text, copies=2)


def answered(f: Facts, work: Work, asked: dict[str, int]) -> tuple[float, float]:
    """Adds the answers of one checkpoint to its suites; returns the bytes that they hold, and those of their file."""
    spec, rows = f.c["completions"], sum(asked.values())
    limits = spec["max_new_tokens"]
    mean = sum(n * limits[suite] for suite, n in asked.items()) / max(1, rows)
    work.answers(rows, REQUEST, mean, spec["batch_size"], ANSWERED)
    held = f.decoding(work.shape, min(rows, spec["batch_size"]), max(limits[suite] for suite in asked))
    return held, rows * (300 + 5 * mean)


def attacked_behaviours(f: Facts, at: Mapping[str, str]) -> Need:
    spec, batch, n = f.c["attacks"], f.c["completions"]["batch_size"], f.prompts("direct")
    if not spec["require_refusal"]:
        return f.table()
    work = Work(f.base, f.size)
    work.load()
    work.answers(n, REQUEST, spec["refusal_tokens"], batch, ANSWERED)
    return f.model(work, f.decoding(f.base, min(n, batch), spec["refusal_tokens"]), 20_000)


def attack_gcg(f: Facts, at: Mapping[str, str]) -> Need:
    spec = f.params.gcg_attacks(at["regime"], int(at["step"]), 0)
    gcg, cases = spec["gcg"], spec["behaviours"]
    work = Work(f.base, f.size)
    work.load()
    search(f, work, cases, gcg["steps"], gcg)
    return f.model(work, searching(f, cases, gcg), cases * 3000)


def attack_autodan(f: Facts, at: Mapping[str, str]) -> Need:
    spec = f.params.autodan_attacks(at["regime"], int(at["step"]), 0)
    genetic, cases = spec["autodan"], spec["behaviours"]
    work = Work(f.base, f.size)
    work.load()
    prompts = cases * (spec["seeds"] + genetic["steps"] * genetic["population"])
    batch = genetic.get("batch_size", 16)
    work.forward(prompts * ATTACK_PROMPT, prompts / batch, logits=prompts * TARGET)
    held = sizes.one_pass(f.base, f.size, batch, ATTACK_PROMPT + TARGET)
    held += 3 * sizes.FLOAT * batch * TARGET * f.base.vocabulary
    return f.model(work, held, cases * 4000)


def transfer(f: Facts, at: Mapping[str, str]) -> Need:
    regime, step, spec = at["regime"], int(at["step"]), f.c["transfer"]
    methods, targets = f.study.methods(regime, step), f.study.attack_targets(regime, step)
    own = sum(2 * (f.params.gcg_attacks(regime, step, 0)["behaviours"] if m == "gcg" else spec["behaviours"])
              for m in methods)  # fmt: skip
    others = 2 * len(methods) * spec["behaviours"]
    work = Work(f.base, f.size)
    for rows in (own, *[others] * (len(targets) - 1)):
        work.load()
        work.answers(rows, ATTACK_PROMPT, spec["max_new_tokens"], spec["batch_size"], ANSWERED)
    rows = min(spec["batch_size"], max(own, others))
    held = sizes.decoding(f.base, f.size, rows, PREFIX + ATTACK_PROMPT, spec["max_new_tokens"])
    return f.model(work, held, (own + others * len(targets)) * 1500)
