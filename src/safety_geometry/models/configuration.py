"""Configurations of models that others made: looked at as plain values, before anything builds a model of them.

No torch and no transformers: a configuration of 10⁹ layers fills the memory as soon as Hugging Face reads it.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path

SIZES = {  # key -> the largest size that is believed
    "vocab_size": 2**22,
    "hidden_size": 2**17,
    "intermediate_size": 2**19,
    "num_hidden_layers": 1000,
    "num_attention_heads": 2**12,
    "num_key_value_heads": 2**12,
    "head_dim": 2**12,
    "max_position_embeddings": 2**27,
    "original_max_position_embeddings": 2**27,
    "sliding_window": 2**27,
}
NUMBERS = ("rms_norm_eps", "rope_theta", "query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping")
LONG, FIRST = ("longrope", "su"), "original_max_position_embeddings"  # su: Phi 3's first name for it
LARGEST_JSON = 2**26  # bytes; an index of weights has a few millions


class ModelError(ValueError):
    """A model's folder or file is incomplete, cannot be read, or its parts do not fit each other."""


def first_line(error: Exception) -> str:
    """What others' code says, in short; its kind where it says nothing."""
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__


def read_json(file: Path, without: str) -> dict:
    """The object in a JSON file; `without` says what its absence means.

    Raises:
        ModelError: it is missing, too large, not JSON, or no object.
    """
    if not file.exists():
        raise ModelError(f"it has no {file.name}: {without}")
    if file.stat().st_size > LARGEST_JSON:
        raise ModelError(
            f"{file.name} has {file.stat().st_size} bytes, more than any such file: it is not what it says"
        )
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file.name} is not JSON ({getattr(error, 'msg', None) or first_line(error)})") from error
    if not isinstance(values, dict):
        raise ModelError(f"{file.name} is not an object of keys and values but a {type(values).__name__}")
    return values


def uneven_heads(values: Mapping) -> str | None:
    """What is wrong with how a width is divided into heads, and heads into groups that share keys and values; None:
    nothing.

    Sizes that are missing, or no whole numbers, are not judged.
    """
    sizes = ("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim")
    width, heads, shared, head = (size if type(size := values.get(key)) is int else None for key in sizes)
    if head and head % 2:
        return f"heads of width {head}, and rotary positions need an even number (head_dim)"
    if not head and width and heads and (width % heads or width // heads % 2):
        return f"{heads} heads in a width of {width}, which gives them no even width (num_attention_heads, hidden_size)"
    if heads and shared and heads % shared:
        keys = "(num_attention_heads, num_key_value_heads)"
        return f"{heads} heads for {shared} of keys and values, which do not share evenly {keys}"
    return None


def read_config(folder: Path) -> dict:
    """The checked config.json of a model folder.

    Raises:
        ModelError: it is missing, cannot be read, or has sizes that no model has.
    """
    config = read_json(folder / "config.json", "it is not a model folder")
    check_sizes(config)
    return config


def context_of(values: Mapping) -> tuple[int | None, str]:
    """Tokens that a text may have by a configuration (None: it does not say), and the key that says so.

    With longrope it is the length of pre-training: one longer text in a batch would turn the positions of all others,
    and those of tokens whose keys are cached, by other angles.
    """
    key = "max_position_embeddings"
    length = values.get(key) if type(values.get(key)) is int else None
    rope = values.get("rope_parameters") or values.get("rope_scaling")
    for scaling in [rope, *rope.values()] if isinstance(rope, Mapping) else ():  # one for all blocks, or one a kind
        if not isinstance(scaling, Mapping) or scaling.get("rope_type", scaling.get("type")) not in LONG:
            continue
        first = values.get(FIRST) or scaling.get(FIRST)
        if type(first) is int and (length is None or first < length):
            length, key = first, f"{FIRST}, beyond which longrope is another"
    return length, key


def check_sizes(values: dict) -> None:
    """Sizes of a decoder under Hugging Face's names: whole numbers above 0, believable, and dividing each other.

    Keys that are missing are well: the family's own values stand in.

    Raises:
        ModelError: names the key.
    """
    for key, most in SIZES.items():
        value = values.get(key)
        if value is None:
            continue
        if type(value) is not int or value < 1:
            raise ModelError(f"{key} is {value!r}, and has to be a whole number above 0")
        if value > most:
            raise ModelError(f"{key} is {value}, more than any model has ({most})")
    for key in NUMBERS:
        value = values.get(key)
        if value is None:
            continue
        if type(value) not in (int, float) or not math.isfinite(value) or value <= 0:
            raise ModelError(f"{key} is {value!r}, and has to be a finite number above 0")
    if (fault := uneven_heads(values)) is not None:
        raise ModelError(f"it has {fault}")
    kinds = values.get("layer_types")
    if kinds is not None and (not isinstance(kinds, list) or len(kinds) != values.get("num_hidden_layers", len(kinds))):
        raise ModelError("layer_types is not a list of one kind per block (num_hidden_layers)")
