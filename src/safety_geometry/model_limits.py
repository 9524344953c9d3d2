"""What a model cannot do that settings ask of it, by its config.json alone: before any job loads it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


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
    yield from _heads(name, config)
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


def _heads(name: str, config: Mapping) -> Iterator[str]:
    """Width into heads, and heads into groups that share keys and values."""
    hidden, heads, shared, width = (
        _whole(config, key) for key in ("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim")
    )
    if hidden and heads and not width and (hidden % heads or hidden // heads % 2):
        yield f"model {name} has {heads} heads in a width of {hidden}, which gives them no even width; choose others"
    if heads and shared and heads % shared:
        yield f"model {name} has {heads} heads for {shared} of keys and values, which do not share evenly; choose others"


def _whole(config: Mapping, key: str) -> int | None:
    value = config.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
