"""The need of a job by its rule and wildcards, and what a rule states of it as resources."""

import re
from collections.abc import Mapping

from study import Segment

from costs import answers, geometry, sweeps, training
from costs.facts import Facts, Need

RESOURCES = ("mem_mb", "disk_mb", "gpu_mem_mb", "runtime")
LEAST = {"tables": 1500, "model": 2000, "cuda": 6000}  # MB
MARGIN = 1.3  # of stated memory over the estimate
SLOWER = 4  # of stated minutes

STAGES = {
    "sources": ("fetch_source", "base_model", "tiny_model", "model_", "prompt_sets", "clean_rows"),
    "training": ("train_", "training_table"),
    "geometry": ("probe_", "fit_labels_", "carriers_"),
    "attacks and transfer": ("attacked_behaviours", "attack_", "transfer"),
    "behaviour": ("completions",),
    "causal sweeps": ("sweep", "follow_up"),
    "judges": ("judge", "train_judges"),
    "tables and figures": ("",),
}
TABLES = ("follow_up_choice", "follow_up_table", "transfer_tables", "training_table")


def stage(rule: str) -> str:
    """The stage that a rule belongs to, as people are told it."""
    if rule in TABLES:
        return "tables and figures"
    if rule == "train_judges":
        return "judges"
    return next(name for name, starts in STAGES.items() if rule.startswith(starts))


def need(facts: Facts, rule: str, at: Mapping[str, str]) -> Need:
    """Of a job of `rule` with wildcards `at`; rules that are not known to run a model are taken for tables."""
    for pattern, find in (
        (r"train_(.+)_(\d+)_(\d+)", lambda m: training.train(facts, segment(facts, m))),
        (r"probe_saves_(.+)", lambda m: geometry.probe_saves(facts, *group(facts, m[1]))),
        (r"fit_labels_(.+)", lambda m: geometry.fit_labels(facts, *group(facts, m[1]))),
        (r"completions_saves_(.+)", lambda m: answers.completions_saves(facts, *group(facts, m[1]))),
        (r"probe_anchor_(.+)", lambda m: geometry.probe_anchor(facts, m[1])),
        (r"carriers_(.+)", lambda m: geometry.carriers(facts, m[1])),
        (r"tiny_model|model_layers", lambda m: facts.table()),
        (r"base_model|(?:model|base_of)_.+|checkpoint_.+_\d+", lambda m: training.convert(facts, rule)),
        (r"judge_saves_(.+)", lambda m: sweeps.judge_saves(facts, *group(facts, m[1]))),
        (r"judge(_sweep|_follow_up|_transfer)?", lambda m: sweeps.judge(facts, m[1], at)),
    ):
        if m := re.fullmatch(pattern, rule):
            return find(m)
    if rule in ONE_BY_ONE:
        return ONE_BY_ONE[rule](facts, at)
    return facts.table(*SECONDS_AND_MEMORY.get(rule, ()))


ONE_BY_ONE = {
    "fetch_source": training.fetch_source,
    "clean_rows": training.clean_rows,
    "completions": answers.completions,
    "attacked_behaviours": answers.attacked_behaviours,
    "attack_gcg": answers.attack_gcg,
    "attack_autodan": answers.attack_autodan,
    "transfer": answers.transfer,
    "sweep": sweeps.sweep,
    "follow_up": sweeps.follow_up,
}
SECONDS_AND_MEMORY = {"train_judges": (35.0,), "quadrants": (8.0, 200.0)}


def group(facts: Facts, name: str) -> tuple[str, list[int]]:
    """Trajectory and steps of a rule that reads several: its name ends in both."""
    study = facts.study
    return next((t, steps) for t in study.trajectories for part, steps in study.groups(t) if f"{t}_{part}" == name)


def segment(facts: Facts, m: re.Match) -> Segment:
    return next(s for s in facts.study.segments(m[1]) if (s.start, s.stop) == (int(m[2]), int(m[3])))


def stated(need: Need, attempt: int) -> dict[str, int]:
    """RESOURCES of a job: memory and GPU memory with a margin, disk, minutes. Memory and minutes grow with the attempt."""
    least = LEAST["cuda" if need.gpu else "model" if need.model else "tables"]
    return {
        "mem_mb": attempt * max(least, _up(MARGIN * need.memory, 500)),
        "disk_mb": max(100, _up(1.1 * (need.disk + need.passing), 100)),
        "gpu_mem_mb": _up(MARGIN * need.gpu, 500),
        "runtime": attempt * max(60, _up(need.seconds / 60 * SLOWER + 20, 10)),
    }


def _up(value: float, step: int) -> int:
    return -(-int(value + 0.999) // step) * step
