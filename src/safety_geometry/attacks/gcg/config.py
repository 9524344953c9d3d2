"""Settings of GCG, as a configuration file has them."""

from collections.abc import Mapping
from dataclasses import dataclass

from safety_geometry.attacks.gcg.screening import Probe


@dataclass(frozen=True)
class GCGConfig:
    """steps; width: candidates proposed a step; top_k: replacements considered a position; suffix_length: tokens;
    batch_size: rows of one forward pass; stop_loss: stop when the objective falls to it; init: one start token's text,
    or `random` (words drawn by seed); stop_exact: stop when greedy decoding gives the target; merge: try the best
    substitutions of up to so many positions together (0: one a step); echo: candidates besides that repeat the target
    within the suffix; buffer: suffixes kept beside the best, which take turns while nothing better is found; mellowmax:
    α of the objective (None: mean cross-entropy); probe: screen the candidates with a draft (None: score all); lsgm: γ,
    what goes back through attention and MLP counts so much in the gradient (Li et al. 2024, arXiv 2405.20778; None: as
    it is); momentum: μ, candidates follow μ times the direction of the step before plus 1 − μ times the gradient (Zhang
    & Wei 2024, arXiv 2405.01229).
    """

    steps: int
    width: int
    top_k: int = 256
    suffix_length: int = 10
    batch_size: int = 64
    stop_loss: float = 0.0
    init: str = " !"
    stop_exact: bool = False
    merge: int = 0
    echo: int = 0
    buffer: int = 0
    mellowmax: float | None = None
    probe: Probe | None = None
    lsgm: float | None = None
    momentum: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.probe, Mapping):  # as a configuration file has it
            object.__setattr__(self, "probe", Probe(**self.probe))
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is {self.momentum}; it has to be at least 0 and below 1")
        if self.lsgm is not None and not 0 <= self.lsgm <= 1:
            raise ValueError(f"lsgm is {self.lsgm}; it has to be between 0 and 1")
