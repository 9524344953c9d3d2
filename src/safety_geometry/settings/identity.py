"""How a checkpoint and a place in its residual stream are named."""

from dataclasses import asdict, dataclass

Position = int | str  # counted from the end of the rendered prompt (−1 is its last token), or `T_INST`
Site = tuple[Position, int]  # and a zero-based layer: the stream at the input of that block
T_INST = "t_inst"  # the last token of the instruction


@dataclass(frozen=True)
class Checkpoint:
    """A saved checkpoint of the study; `anchor` is None for a save without a name."""

    seed: int
    regime: str
    step: int
    anchor: str | None = None

    def columns(self) -> dict:
        """Its cells in every table."""
        return asdict(self)
