"""Names of attacks: where one was made, and of whom it was asked."""

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Place:
    """A step of a regime, under whatever seed; as text `r2d2:30`."""

    regime: str
    step: int

    @property
    def text(self) -> str:
        return f"{self.regime}:{self.step}"

    @classmethod
    def parse(cls, text: str) -> "Place":
        """Raises ValueError for what is no `regime:step`."""
        regime, colon, step = text.rpartition(":")
        if not (regime and colon and step.isdecimal()):
            raise ValueError(f"{text!r} is no checkpoint; it is written regime:step, as r2d2:30")
        return cls(regime, int(step))


@dataclass(frozen=True, order=True)
class AttackArm:
    """An arm of an attack (`gcg`, `gcg_init`, `autodan`, `seeds`) asked of a target; as text `gcg@r2d2:30`."""

    method: str
    target: Place

    @property
    def text(self) -> str:
        return f"{self.method}@{self.target.text}"

    @classmethod
    def parse(cls, text: str) -> "AttackArm":
        """Raises ValueError for what is no `method@regime:step`."""
        method, sign, target = text.partition("@")
        if not (method and sign):
            raise ValueError(f"{text!r} is no attack on a target; it is written method@regime:step, as gcg@r2d2:30")
        return cls(method, Place.parse(target))
