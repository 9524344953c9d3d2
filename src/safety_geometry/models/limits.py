"""What a model cannot do that settings ask of it, by its config.json alone: before any job loads it."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from safety_geometry.models.configuration import context_of, uneven_heads


@dataclass(frozen=True)
class Asked:
    """What is asked of one model, by the key of the configuration: layers that are read (zero-based), replacement
    tokens that an attack considers (top_k), and numbers of tokens that have to fit into its context."""

    layers: Mapping[str, list[int]] = field(default_factory=dict)
    vocabulary: Mapping[str, int] = field(default_factory=dict)
    context: Mapping[str, int] = field(default_factory=dict)


def faults(name: str, config: Mapping, asked: Asked) -> Iterator[str]:
    """What to change, one sentence each, with key and value. What config.json does not tell is not checked."""
    sizes = (config.get(key) for key in ("num_hidden_layers", "vocab_size"))
    blocks, vocabulary = (size if type(size) is int else None for size in sizes)
    context, _ = context_of(config)
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
            length = f"the context of model {name} is {context} tokens"
            yield f"{key} is {n}, and {length}, which have to hold the prompt too; lower it"


def linear_layers(folder: Path) -> set[str]:
    """Last parts of the names of a model's matrices, but of its embedding, from the headers of its files of weights."""
    names = set()
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        matrices = (name for name, entry in header.items() if name.endswith(".weight") and len(entry["shape"]) == 2)
        names |= {name.split(".")[-2] for name in matrices}
    return names - {"embed_tokens"}


def lacking(targets: Sequence[str], layers: Collection[str]) -> list[str]:
    """Targets of LoRA that are none of a model's linear layers, by the last part of their names; none where no layer is
    known."""
    return [target for target in targets if layers and target.rsplit(".", 1)[-1] not in layers]
