"""Completions of the evaluation suites."""

from collections.abc import Iterable

from pipeline.costs import sizes
from pipeline.costs.facts import ANSWERED, REQUEST, Facts, Need
from pipeline.costs.rates import Work
from pipeline.identity import At
from pipeline.stages.sources import model_settings
from pipeline.stages.stage import Stage
from pipeline.study import Study


def answers(study: Study, suites: Iterable[str]) -> dict:
    spec = study.config["completions"]
    limits = {suite: tokens for suite, tokens in spec["max_new_tokens"].items() if suite in suites}
    return {"model": model_settings(study), "suites": limits, "batch_size": spec["batch_size"]}


def anchor(study: Study, at: At) -> dict:
    positions = [*study.config["activations"]["positions"], "t_inst"]
    dtype = study.config["activations"]["dtype"]
    return answers(study, study.suites(at.regime, at.step)) | {"positions": positions, "dtype": dtype}


def saves(study: Study, at: At) -> dict:
    """Of the saves that are no anchors."""
    every = study.config["completions"]["every_save"]
    return answers(study, every) | {"prompts": every}


def answered(f: Facts, work: Work, asked: dict[str, int]) -> tuple[float, float]:
    """Adds the answers of one checkpoint to its suites; returns the bytes that they hold, and those of their file."""
    spec, rows = f.c["completions"], sum(asked.values())
    limits = spec["max_new_tokens"]
    mean = sum(n * limits[suite] for suite, n in asked.items()) / max(1, rows)
    work.answers(rows, REQUEST, mean, spec["batch_size"], ANSWERED)
    held = f.decoding(work.shape, min(rows, spec["batch_size"]), max(limits[suite] for suite in asked))
    return held, rows * (300 + 5 * mean)


def answering_anchor(f: Facts, at: At) -> Need:
    asked, shape = f.suites(at.regime, at.step), f.shape(at.regime)
    work = Work(shape, f.size)
    held, text = answered(f, work, asked)
    kept = sizes.prompt_activations(shape, f.positions, f.c["activations"]["dtype"], sum(asked.values()))
    return f.model(work, held, kept + text, host=2 * kept)


def answering_saves(f: Facts, at: At) -> Need:
    work, held, text = Work(f.shape(at.regime), f.size), 0.0, 0.0
    for step in at.group.steps:
        held, text = answered(f, work, f.suites(at.regime, step))
        work.seconds_besides += f.merging(work.shape)
    return f.model(work, held, len(at.group.steps) * text, copies=2)


STAGES = {
    "completions": Stage("complete", "torch", anchor, answering_anchor, place="seed/{regime}_step{step}"),
    "completions_saves": Stage("complete_saves", "torch", saves, answering_saves, place="seed"),
}
