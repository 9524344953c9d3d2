"""What a model cannot do that settings ask of it, by its config.json alone: before any job loads it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from safety_geometry.models.configuration import uneven_heads


@dataclass(frozen=True)
class Asked:
    """What is asked of one model, by the key of the configuration: layers that are read (zero-based), replacement tokens that an
    attack considers (top_k), and numbers of tokens that have to fit into its context."""

    layers: Mapping[str, list[int]] = field(default_factory=dict)
    vocabulary: Mapping[str, int] = field(default_factory=dict)
    context: Mapping[str, int] = field(default_factory=dict)


def faults(name: str, config: Mapping, asked: Asked) -> Iterator[str]:
    """What to change, one sentence each, with key and value. What config.json does not tell is not checked."""
    blocks, vocabulary, context = (
        _whole(config, key) for key in ("num_hidden_layers", "vocab_size", "max_position_embeddings")
    )
    if (fault := uneven_heads(config)) is not None:
        yield f"model {name} has {fault}; choose others"
    for key, layers in asked.layers.items():
        if blocks is not None and (out := [layer for layer in layers if layer >= blocks]):
            yield (
                f"{key} has {', '.join(map(str, out))}, and model {name} has {blocks} blocks, 0 to {blocks - 1};"
                " take out what is beyond them"
            )
    for key, n in asked.vocabulary.items():
        if vocabulary is not None and n > vocabulary:
            yield f"{key} is {n}, and model {name} has {vocabulary} tokens; take at most so many"
    for key, n in asked.context.items():
        if context is not None and n >= context:
            yield f"{key} is {n}, and the context of model {name} is {context} tokens, which have to hold the prompt too; lower it"


def _whole(config: Mapping, key: str) -> int | None:
    value = config.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
