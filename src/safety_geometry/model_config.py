"""Configurations of models that others made: looked at as plain values, before anything builds a model of them.

No torch and no transformers: a configuration of 10⁹ layers fills the memory as soon as Hugging Face reads it.
"""

import json
import math
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
    "sliding_window": 2**27,
}
NUMBERS = ("rms_norm_eps", "rope_theta", "query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping")
LARGEST_JSON = 2**26  # bytes; an index of weights has a few millions


class ModelError(ValueError):
    """A model's folder or file is incomplete, cannot be read, or its parts do not fit each other."""


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
        told = getattr(error, "msg", None) or str(error).splitlines()[0]
        raise ModelError(f"{file.name} is not JSON ({told})") from error
    if not isinstance(values, dict):
        raise ModelError(f"{file.name} is not an object of keys and values but a {type(values).__name__}")
    return values


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
    width, heads, shared = (values.get(k) for k in ("hidden_size", "num_attention_heads", "num_key_value_heads"))
    if heads and shared and heads % shared:
        raise ModelError(f"num_attention_heads is {heads}, not a multiple of num_key_value_heads, {shared}")
    if values.get("head_dim") is None and width and heads and width % heads:
        raise ModelError(f"hidden_size is {width}, not a multiple of num_attention_heads, {heads}")
    each = values.get("head_dim") or (width // heads if width and heads else 2)
    if each % 2:
        raise ModelError(f"head_dim is {each}, and rotary positions need an even number")
    kinds = values.get("layer_types")
    if kinds is not None and (not isinstance(kinds, list) or len(kinds) != values.get("num_hidden_layers", len(kinds))):
        raise ModelError("layer_types is not a list of one kind per block (num_hidden_layers)")
