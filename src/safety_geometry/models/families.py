"""Decoder families: what differs between them around Hugging Face's own blocks. A new one is a line of `FAMILIES`.

What differs inside a block needs no word here, since blocks are run as they are: norms before its two halves, behind
them (OLMo 2 and 3) or both (Gemma 2 and 3), norms of queries and keys, blocks without positions (SmolLM3), fused
matrices and rotary embeddings of a part of each head (Phi 3), soft caps of attention. Embeddings that are scaled
(Gemma) are so inside the embedding layer, and rotary scaling (linear, dynamic, yarn, llama3, longrope) is inside the
rotary layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from safety_geometry.models.configuration import ModelError

FULL, SLIDING = "full_attention", "sliding_attention"

Rotary = dict[str, tuple[Tensor, Tensor]]
"""Kind of attention -> cosines and sines, each [1 or B, T, head dim]."""


class UnsupportedModel(ModelError):
    """The model is not of a family, or not of a shape, that the runner knows."""


@dataclass(frozen=True)
class Family:
    """One `model_type`.

    windows: which blocks see a sliding window alone: none, whatever config.json says; all, if it has a
        `sliding_window`; or those that `layer_types` lists.
    rotary_by_kind: blocks with a window have rotary embeddings of their own.
    text_of: the model type of multimodal checkpoints whose `text_config` it is; they are taken in as their text part.
    """

    windows: Literal["none", "all", "listed"] = "none"
    rotary_by_kind: bool = False
    text_of: str | None = None

    def kinds(self, config) -> list[str]:
        """Kind of attention of each block, `FULL` or `SLIDING`.

        Raises:
            UnsupportedModel: `layer_types` lists another.
        """
        if self.windows == "listed":
            if other := sorted(set(config.layer_types) - {FULL, SLIDING}):
                raise UnsupportedModel(
                    f"{config.model_type}: layer_types has blocks of kind {other[0]!r}; {FULL} and {SLIDING} are run"
                )
            return list(config.layer_types)
        windowed = self.windows == "all" and config.sliding_window is not None
        return [SLIDING if windowed else FULL] * config.num_hidden_layers

    def rotary(self, layer: nn.Module, h: Tensor, positions: Tensor, kinds: Sequence[str]) -> Rotary:
        """Of the model's rotary `layer` at `positions` [1 or B, T], in the dtype that it gives for h."""
        if self.rotary_by_kind:
            return {kind: layer(h, positions, kind) for kind in sorted(set(kinds))}
        return dict.fromkeys(kinds, layer(h, positions))


FAMILIES = {
    "llama": Family(),
    "mistral": Family(windows="all"),
    "qwen2": Family(windows="listed"),
    "qwen3": Family(windows="listed"),
    "gemma2": Family(windows="listed"),
    "gemma3_text": Family(windows="listed", rotary_by_kind=True, text_of="gemma3"),
    "olmo2": Family(),
    "olmo3": Family(windows="listed", rotary_by_kind=True),
    "smollm3": Family(windows="listed"),
    "phi3": Family(windows="all"),
}
MULTIMODAL = {family.text_of: name for name, family in FAMILIES.items() if family.text_of}


def family_of(model_type: str | None) -> Family:
    """Raises UnsupportedModel, with those that there are, for a type that is none of them."""
    if model_type not in FAMILIES:
        raise UnsupportedModel(
            f"model type {model_type!r} is not supported; supported are {', '.join(FAMILIES)}; "
            "docs/extending.md, 'A new model family', says how one is added"
        )
    return FAMILIES[model_type]
