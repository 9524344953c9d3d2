"""The stages of the graph, by rule: one record each (`stage.Stage`), in a module for every file of workflow/rules.

A record names the script, its environment, what the script is told and how much work that is. The rule's command, the
digest of its code and its resources follow from the record; the rule itself states the files.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

from pipeline.costs.facts import Facts, Need
from pipeline.home import HERE, Home
from pipeline.identity import Group
from pipeline.stages import attacks, behaviour, causal, geometry, judges, sources, tables, training
from pipeline.stages.stage import Bound
from pipeline.study import Study

# What people are told of where a run is, or what a plan costs.
TITLES = {
    "sources": sources.STAGES, "training": training.STAGES, "geometry": geometry.STAGES,
    "attacks and transfer": attacks.STAGES, "behaviour": behaviour.STAGES, "causal sweeps": causal.STAGES,
    "judges": judges.STAGES, "tables and figures": tables.STAGES,
}  # fmt: skip
STAGES = {name: stage for stages in TITLES.values() for name, stage in stages.items()}
TITLE_OF = {name: title for title, stages in TITLES.items() for name in stages}
# Stages that have a rule for each group of steps: how many files such a job makes depends on the group, and the outputs
# of a
# Snakemake rule cannot.
GROUPS: dict[str, Callable[[Study], list[Group]]] = {
    "train": lambda study: [group for regime in study.regimes for group in study.segments(regime)],
    "fit_labels": lambda study: (
        [g for name in study.trajectories for g in study.groups(name)] if study.by_behaviour else []
    ),
    "probe_saves": lambda study: [
        g for name in [*study.trajectories, *study.models] for g in study.between_anchors(name)
    ],
    "completions_saves": lambda study: study.answered_groups(),
    "verdicts_saves": lambda study: study.answered_groups() if study.deciding_models else [],
    "judge_saves": lambda study: study.answered_groups(),
}


class Stages:
    """The stages of a study, each bound to it: `stages["sweep"]`, `stages.groups("train")`."""

    def __init__(self, study: Study, facts: Facts, root: Path, share: int = 0, home: Home = HERE):
        """share: MB of a GPU's memory for each thread of a job, where the jobs of a run share one; 0: they do not."""
        self.study, self.facts, self.root, self.share, self.home = study, facts, root, share, home

    def _bound(self, name: str, group: Group | None) -> Bound:
        return Bound(name, STAGES[name], self.study, self.facts, self.root, group, self.share, self.home)

    def __getitem__(self, name: str) -> Bound:
        return self._bound(name, None)

    def groups(self, name: str) -> list[Bound]:
        return [self._bound(name, group) for group in GROUPS[name](self.study)]

    @cached_property
    def by_rule(self) -> dict[str, Bound]:
        single = [self[name] for name in STAGES if name not in GROUPS]
        return {bound.rule: bound for bound in [*single, *(bound for name in GROUPS for bound in self.groups(name))]}

    def need(self, rule: str, wildcards: Mapping[str, str]) -> Need:
        """What a job costs."""
        return self.by_rule[rule].need(wildcards)

    def title(self, rule: str) -> str:
        return TITLE_OF[self.by_rule[rule].name]
