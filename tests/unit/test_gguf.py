"""A GGUF file, written here with the gguf package, comes back as the model that it was made of."""

import json

import pytest
import torch
from conftest import TEMPLATE, make_model, make_tokenizer

from safety_geometry.folders import check_model_folder
from safety_geometry.models import ModelError, convert_gguf, load_model, load_tokenizer

gguf = pytest.importorskip("gguf")

IDS = torch.tensor([[1, 50, 60, 70, 80]])
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
}  # fmt: skip


def write(file, model, tokenizer, architecture: str = "qwen2") -> None:
    """Qwen2's names and settings, weights as float32, a byte-level BPE tokenizer with its chat template."""
    writer, config = gguf.GGUFWriter(str(file), architecture), model.config
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    bpe = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(bpe["vocab"], key=bpe["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in tokens])  # control, normal
    writer.add_token_merges([" ".join(pair) for pair in bpe["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)
    for name, values in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        stem, _, end = name.rpartition(".")
        if stem.startswith("model.layers."):
            number, _, part = stem.removeprefix("model.layers.").partition(".")
            stem = f"blk.{number}.{NAMES[part]}"
        else:
            stem = NAMES[stem]
        writer.add_tensor(f"{stem}.{end}", values.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("tied", [False, True])
def test_a_file_becomes_the_model_that_it_was_made_of(tmp_path, tied):
    tokenizer = make_tokenizer()
    model = make_model("qwen2", window=None, tie_word_embeddings=tied)
    write(tmp_path / "tiny.gguf", model, tokenizer)
    convert_gguf(tmp_path / "tiny.gguf", tmp_path / "folder")
    check_model_folder(tmp_path / "folder")
    loaded, read = load_model(tmp_path / "folder"), load_tokenizer(tmp_path / "folder")
    assert loaded.config.tie_word_embeddings is tied and loaded.config.model_type == "qwen2"
    with torch.no_grad():
        torch.testing.assert_close(loaded(IDS).logits, model(IDS).logits, atol=1e-5, rtol=1e-5)
    text = "<|start|>user\nWrite a poem, please!<|end|>"
    assert read.chat_template == TEMPLATE and read(text).input_ids == tokenizer(text).input_ids


def test_a_file_that_cannot_be_read(tmp_path):
    (tmp_path / "broken.gguf").write_bytes(b"version https://git-lfs")
    with pytest.raises(ModelError, match=r"broken.gguf cannot be read \("):
        convert_gguf(tmp_path / "broken.gguf", tmp_path / "folder")
    write(tmp_path / "other.gguf", make_model("qwen2", window=None), make_tokenizer(), "rwkv7")
    with pytest.raises(ModelError, match=r"other.gguf cannot be read .*rwkv7"):
        convert_gguf(tmp_path / "other.gguf", tmp_path / "folder")
