"""A GGUF file, written here with the gguf package, comes back as the model that it was made of."""

import pytest
import torch
from conftest import TEMPLATE, make_model, make_tokenizer
from gguf_file import write

from safety_geometry.folders import check_model_folder
from safety_geometry.gguf_model import convert_gguf
from safety_geometry.models import ModelError, load_model, load_tokenizer

pytest.importorskip("gguf")

IDS = torch.tensor([[1, 50, 60, 70, 80]])


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
