"""Tiny random models as GGUF files, written with the gguf package: `python gguf_file.py FILE`."""

import json
import sys
from pathlib import Path

import numpy as np
from conftest import make_model, make_tokenizer

NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
}  # fmt: skip
GEMMA = {"post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm"}  # fmt: skip


def write(
    file, model, tokenizer, architecture: str = "qwen2", pre: str | None = "gpt-2", extra=None, stored: str = "F32"
) -> None:
    """Settings, weights (matrices as `stored`), a byte-level BPE tokenizer with its chat template; `extra(writer)` adds what it likes."""
    import gguf

    writer, config = gguf.GGUFWriter(str(file), architecture), model.config
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope.get("full_attention", rope)["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    if architecture.startswith("gemma"):
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
        writer.add_sliding_window(config.sliding_window)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    write_tokenizer(writer, tokenizer, pre)
    if extra:
        extra(writer)
    for name, values in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        stem, _, end = name.rpartition(".")
        array = values.numpy()
        if stem.startswith("model.layers."):
            number, _, part = stem.removeprefix("model.layers.").partition(".")
            stem = f"blk.{number}.{(NAMES | GEMMA if architecture.startswith('gemma') else NAMES)[part]}"
        else:
            stem = NAMES[stem]
        if architecture == "llama" and stem.endswith(
            ("attn_q", "attn_k")
        ):  # llama.cpp turns neighbouring rows together
            heads = config.num_attention_heads if stem.endswith("attn_q") else config.num_key_value_heads
            array = array.reshape(heads, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        if architecture.startswith("gemma") and stem.endswith("norm"):
            array = array + 1
        kind = gguf.GGMLQuantizationType[stored if array.ndim == 2 else "F32"]
        writer.add_tensor(f"{stem}.{end}", gguf.quantize(np.ascontiguousarray(array), kind), raw_dtype=kind)
    close(writer)


def write_tokenizer(writer, tokenizer, pre: str | None) -> None:
    bpe = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(bpe["vocab"], key=bpe["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in tokens])  # control, normal
    writer.add_token_merges([" ".join(pair) for pair in bpe["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def close(writer) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    write(Path(sys.argv[1]), make_model("qwen2", layers=6, window=None), make_tokenizer())
