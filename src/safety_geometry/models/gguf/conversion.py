"""A plain model folder of a GGUF file: configuration, weights and tokenizer, each exactly what the file says.

What the header says and this module does not know is refused by name: a setting that is dropped changes the logits, and
nobody would notice. Weights are read one after the other into the model that is saved, so that no second copy of them
is in memory.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from safety_geometry.models.configuration import ModelError, check_sizes
from safety_geometry.models.gguf.header import Header, TensorPlace, read_header
from safety_geometry.models.gguf.tokenizer import make_tokenizer
from safety_geometry.models.loading import DTYPES, save_plain
from safety_geometry.models.runner import all_finite
from safety_geometry.models.tokenizer import check_vocabulary, load_tokenizer

FAMILY_OF = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma2": "gemma2", "gemma3": "gemma3_text"}
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
}  # fmt: skip
FOUR_NORMS = {  # Gemma's
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
ROPE_FACTORS = "rope_freqs.weight"
SIZES = {
    "context_length": "max_position_embeddings", "embedding_length": "hidden_size", "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size", "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
}  # fmt: skip
NEUTRAL = {  # settings that say nothing at these values; at any other they are refused
    "expert_count": (0,), "expert_used_count": (0,), "attention.causal": (True,), "use_parallel_residual": (False,),
    "pooling_type": (0,), "attention.max_alibi_bias": (0.0,), "attention.clamp_kqv": (0.0,), "logit_scale": (0.0, 1.0),
    "residual_scale": (0.0, 1.0), "embedding_scale": (0.0, 1.0), "rope.scaling.yarn_ext_factor": (1.0, -1.0),
    "rope.scaling.yarn_log_multiplier": (0.0,),
}  # fmt: skip
UNUSED = ("tensor_data_layout", "attention.layer_norm_epsilon", "rope.scaling.finetuned")
LARGEST = {"gemma2": 46, "gemma3": 62}  # blocks of the 27B models, whose attention has a scale of its own


def convert_gguf(file: Path, folder: Path, dtype: str = "float32") -> None:
    """Write a plain model folder from a GGUF file.

    Raises:
        ModelError: it cannot be read, or has a setting, a tensor or a tokenizer that is not known; weights that are
            missing, of another shape, or not finite; the tokenizer does not fit.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        header = read_header(file)
        config = AutoConfig.for_model(**configuration(header))
        tokenizer = make_tokenizer(header)
        check_vocabulary(tokenizer, config.vocab_size)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=DTYPES[dtype])
        shapes = {name: tuple(t.shape) for name, t in model.state_dict().items()}
        model.load_state_dict(dict(weights(header, shapes, DTYPES[dtype])), strict=False, assign=True)
        model.tie_weights()
    except ModelError as error:
        raise ModelError(f"{file.name} cannot be read ({error})") from error
    save_plain(model, tokenizer, folder)
    check_rereading(tokenizer, folder)


TEXT = "Hello, World's  3½ items:\n\n1. 2024\t— naïve café's\r\n   (x+y)==12345; 你好 🙂 don't WE'LL\n"


def check_rereading(tokenizer, folder: Path) -> None:
    """Raise ModelError when the tokenizer that Hugging Face loads from `folder` gives other ids than the one that was
    written there."""
    again = load_tokenizer(folder)
    for text in (TEXT, " " + TEXT, tokenizer.eos_token or ""):
        ids = tokenizer(text).input_ids
        if again(text).input_ids != ids or again.decode(ids) != tokenizer.decode(ids):
            raise ModelError("its tokenizer gives other tokens once it is saved and loaded: please report this")


def configuration(header: Header) -> dict[str, Any]:
    """Hugging Face's configuration (as `AutoConfig.for_model` takes it) of a header.

    Raises:
        ModelError: an architecture or a setting that is not known, or sizes that no model has.
    """
    architecture = header.get("general.architecture", str)
    if architecture not in FAMILY_OF:
        raise ModelError(f"its architecture is {architecture!r}, and {', '.join(FAMILY_OF)} are read")
    prefix = architecture + "."
    left = {key.removeprefix(prefix): value for key, value in header.settings.items() if key.startswith(prefix)}

    def take(key: str, kind=(float, int), default=None):
        value = header.get(prefix + key, kind, default)
        left.pop(key, None)
        return value

    values: dict[str, Any] = {"model_type": FAMILY_OF[architecture]}
    for key, name in SIZES.items():
        values[name] = take(key, int)
    values["num_key_value_heads"] = values["num_key_value_heads"] or values["num_attention_heads"]
    values["rms_norm_eps"] = take("attention.layer_norm_rms_epsilon")
    for name, value in values.items():
        if value is None:
            raise ModelError(f"its header lacks the setting for {name}")
    check_sizes(values)
    blocks = {name.split(".")[1] for name in header.tensors if name.startswith("blk.")}
    if len(blocks) != values["num_hidden_layers"]:
        raise ModelError(
            f"{prefix}block_count is {values['num_hidden_layers']}, and it has tensors of {len(blocks)} blocks"
        )
    keys, turned = take("attention.key_length", int), take("rope.dimension_count", int)
    values["head_dim"] = head = keys or turned or values["hidden_size"] // values["num_attention_heads"]
    for key, size in (
        ("rope.dimension_count", turned),
        ("attention.value_length", take("attention.value_length", int)),
    ):
        if size not in (None, head):
            raise ModelError(
                f"{prefix}{key} is {size}, and its heads have {head} dimensions; only equal numbers are read"
            )
    values["vocab_size"] = _rows(header, take("vocab_size", int))
    values["tie_word_embeddings"] = "output.weight" not in header.tensors
    for name, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown")):
        if (number := header.get(f"tokenizer.ggml.{key}_token_id", int)) is not None:
            values[f"{name}_token_id"] = number
    rope = _rope(header, take, values)
    if architecture.startswith("gemma"):
        values |= _gemma(architecture, take, values)
    if architecture == "gemma3":
        local = {"rope_type": "default", "rope_theta": take("rope.freq_base_swa", default=10000.0)}
        rope = {"full_attention": rope, "sliding_attention": local}
    values["rope_parameters"] = rope
    for key, usual in NEUTRAL.items():
        if left.pop(key, usual[0]) not in usual:
            value = header.settings[prefix + key]
            raise ModelError(f"{prefix}{key} is {value!r}, which is not read: give the model as a folder instead")
    if unknown := sorted(left.keys() - set(UNUSED)):
        raise ModelError(
            f"{prefix}{unknown[0]} is a setting that is not known: give the model as a folder (format: folder) instead"
        )
    check_sizes(values)
    return values


def _rows(header: Header, stated: int | None) -> int:
    """The size of the vocabulary is the number of rows of the embedding."""
    place = header.tensors.get("token_embd.weight")
    if place is None:
        raise ModelError("it has no tensor token_embd.weight: it is not a whole model")
    if stated is not None and stated != place.shape[0]:
        raise ModelError(f"vocab_size is {stated}, and token_embd.weight has {place.shape[0]} rows")
    return place.shape[0]


def _gemma(architecture: str, take, values: dict) -> dict:
    """Soft caps, window and scale of attention of Gemma 2 and 3; what the file leaves out is as llama.cpp has it."""
    second = architecture == "gemma2"
    window = take("attention.sliding_window", int, 4096 if second else None)
    if window is None:
        raise ModelError(f"its header lacks {architecture}.attention.sliding_window")
    every = take("attention.sliding_window_pattern", int, 2 if second else 6)
    if every < 1:
        raise ModelError(f"{architecture}.attention.sliding_window_pattern is {every}, and has to be above 0")
    blocks = range(1, values["num_hidden_layers"] + 1)
    large = values["num_hidden_layers"] == LARGEST[architecture]
    return {
        "sliding_window": window,
        "layer_types": ["sliding_attention" if block % every else "full_attention" for block in blocks],
        "attn_logit_softcapping": take("attn_logit_softcapping", default=50.0 if second else None),
        "final_logit_softcapping": take("final_logit_softcapping", default=30.0 if second else None),
        "query_pre_attn_scalar": values["hidden_size"] // values["num_attention_heads"]
        if large
        else values["head_dim"],
    }


def _rope(header: Header, take, values: dict) -> dict:
    """Rotary frequencies: base, scaling (linear or yarn), and factors per frequency (Llama 3.1 and later)."""
    plain: dict[str, Any] = {"rope_type": "default", "rope_theta": take("rope.freq_base", default=10000.0)}
    kind = take("rope.scaling.type", str, "linear")
    stated, older = take("rope.scaling.factor"), take("rope.scale_linear")
    original = take("rope.scaling.original_context_length", int) or values["max_position_embeddings"]
    numbers = {
        "base": plain["rope_theta"],
        "factor": float(stated or older or 1.0),
        "attention": take("rope.scaling.attn_factor", default=1.0) * take("rope.scaling.yarn_attn_factor", default=1.0),
        "beta_fast": take("rope.scaling.yarn_beta_fast", default=32.0),
        "beta_slow": take("rope.scaling.yarn_beta_slow", default=1.0),
    }
    for name, number in numbers.items():
        if not (math.isfinite(number) and number > 0):
            raise ModelError(f"its rotary positions have {name} {number}, and a finite number above 0 is needed")
    factor, strength = numbers["factor"] if kind != "none" else 1.0, numbers["attention"]
    factors = _factors(header, values["head_dim"] // 2)
    if kind == "yarn" and factors is None:
        scaled = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
        scaled |= {"beta_fast": numbers["beta_fast"], "beta_slow": numbers["beta_slow"]}
        return plain | scaled | {"attention_factor": strength * (0.1 * math.log(factor) + 1.0)}
    if kind not in ("none", "linear") or strength != 1.0:
        hint = f"({kind}{' with factors of its own' * bool(factors)}, attention factor {strength})"
        raise ModelError(
            f"its rotary positions are scaled in a way that is not read {hint}: give the model as a folder"
        )
    if factors is not None:  # `longrope` takes any factors; those of long texts and of short ones are the same here
        scaled = [factor * number for number in factors]
        limits = {"original_max_position_embeddings": original, "factor": 1.0, "attention_factor": 1.0}
        return plain | {"rope_type": "longrope", "short_factor": scaled, "long_factor": scaled} | limits
    return plain if factor == 1.0 else plain | {"rope_type": "linear", "factor": factor}


def _factors(header: Header, count: int) -> list[float] | None:
    place = header.tensors.get(ROPE_FACTORS)
    if place is None:
        return None
    if place.shape != (count,):
        meant = f"heads of {2 * count} dimensions have {count} frequencies"
        raise ModelError(f"tensor {ROPE_FACTORS} has shape {list(place.shape)}, and {meant}")
    factors = _stored(header, place).astype(float).tolist()
    if not all(math.isfinite(number) and number > 0 for number in factors):
        raise ModelError(f"tensor {ROPE_FACTORS} has numbers that are not finite and above 0")
    return factors


def weights(
    header: Header, shapes: dict[str, tuple[int, ...]], dtype: torch.dtype
) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and values of each of a model's parameters (`shapes`), read from the file one after the other.

    Raises:
        ModelError: a tensor is missing, of another shape, not finite, or belongs to no parameter.
    """
    architecture = header.settings["general.architecture"]
    stored = {name: _stored_name(name, architecture) for name in shapes}
    if "output.weight" not in header.tensors:
        stored.pop("lm_head.weight", None)
    if unknown := sorted(header.tensors.keys() - set(stored.values()) - {ROPE_FACTORS}):
        raise ModelError(f"tensor {unknown[0]} is no part of such a model ({len(unknown)} such)")
    for name, tensor_name in stored.items():
        if (place := header.tensors.get(tensor_name)) is None:
            raise ModelError(f"tensor {tensor_name} is missing")
        if place.shape != shapes[name]:
            raise ModelError(
                f"tensor {tensor_name} has shape {list(place.shape)}, and its header's sizes mean {list(shapes[name])}"
            )
    for name, tensor_name in stored.items():
        values = _stored(header, header.tensors[tensor_name])
        if architecture == "llama" and tensor_name.endswith(("attn_q.weight", "attn_k.weight")):
            heads = "head_count" if "attn_q" in tensor_name else "head_count_kv"
            values = _halves(values, header.settings[f"llama.attention.{heads}"])
        if architecture.startswith("gemma") and tensor_name.endswith("norm.weight"):
            values = values - np.float32(1)
        tensor = torch.from_numpy(np.ascontiguousarray(values)).to(dtype)
        if not all_finite(tensor):
            raise ModelError(f"tensor {tensor_name} has values that are not finite numbers")
        yield name, tensor


def _stored_name(name: str, architecture: str) -> str:
    stem, _, end = name.rpartition(".")
    if not stem.startswith("model.layers."):
        return f"{NAMES[stem]}.{end}"
    number, _, part = stem.removeprefix("model.layers.").partition(".")
    names = NAMES | FOUR_NORMS if architecture.startswith("gemma") else NAMES
    return f"blk.{number}.{names[part]}.{end}"


def _stored(header: Header, place: TensorPlace) -> np.ndarray:
    """Values of a tensor as float32, in its shape."""
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    kind = GGMLQuantizationType(place.kind)
    raw = np.memmap(header.path, np.uint8, "r", place.start, (place.size,))
    plain = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}.get(kind.name)
    if plain:
        return raw.view(plain).reshape(place.shape).astype(np.float32)
    try:
        return dequantize(raw.reshape(*place.shape[:-1], -1), kind).reshape(place.shape)
    except NotImplementedError as error:
        raise ModelError(f"a tensor is stored as {kind.name}, which is not read") from error


def _halves(values: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp turns neighbouring rows of a head together, Hugging Face row i of the first half and row i of the
    second."""
    rows, columns = values.shape
    return values.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
