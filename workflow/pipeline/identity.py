"""Which job of a stage: what its wildcards say, and the group of steps where one job makes several."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """Steps of a trajectory that one job makes or reads together: the saves of a training segment (`start` to `stop`),
    or a single step that was not trained here (`start` is None)."""

    regime: str
    stop: int
    steps: tuple[int, ...]
    start: int | None = None

    @property
    def text(self) -> str:
        """Of file names: 0_15, or 20."""
        return str(self.stop) if self.start is None else f"{self.start}_{self.stop}"

    @property
    def name(self) -> str:
        """Of rules and logs. Two underscores and the steps are its end, so that no two groups share one, whatever
        regimes are called."""
        return f"{self.regime}__{self.text}"

    @property
    def places(self) -> list[str]:
        """Of the files of each step."""
        return [f"{self.regime}/step{step}" for step in self.steps]


@dataclass(frozen=True)
class Job:
    """Which job of a stage: seed, regime and step as far as its rule has them, other wildcards by name, and its
    group."""

    seed: int | None = None
    regime: str | None = None
    step: int | None = None
    group: Group | None = None
    other: Mapping[str, str] | None = None

    @classmethod
    def of(cls, wildcards: Mapping[str, str], group: Group | None = None) -> "Job":
        """From Snakemake's wildcards, which are text."""
        known = dict(wildcards)
        seed, step, regime = known.pop("seed", None), known.pop("step", None), known.pop("regime", None)
        return cls(
            None if seed is None else int(seed),
            group.regime if group else regime,
            None if step is None else int(step),
            group,
            known,
        )
