"""A GGUF file, written here with the gguf package, comes back as the model that it was made of; what its header says is kept or refused."""

import shutil
import struct
import time
import tracemalloc

import numpy as np
import pytest
import torch
from conftest import TEMPLATE, make_model, make_tokenizer
from gguf_file import close, write

from safety_geometry.models.folders import check_model_folder
from safety_geometry.models.gguf.conversion import _stored, check_rereading, convert_gguf
from safety_geometry.models.gguf.header import read_header
from safety_geometry.models.loading import ModelError, load_model
from safety_geometry.models.tokenizer import load_tokenizer

pytest.importorskip("gguf")

IDS = torch.tensor([[1, *range(50, 80)]])
FAMILIES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma2": "gemma2", "gemma3": "gemma3_text"}


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def converted(tmp_path, model, architecture: str = "llama", **options):
    write(tmp_path / "tiny.gguf", model, make_tokenizer(), architecture, **options)
    shutil.rmtree(tmp_path / "folder", ignore_errors=True)
    convert_gguf(tmp_path / "tiny.gguf", tmp_path / "folder")
    return load_model(tmp_path / "folder")


@pytest.mark.parametrize("tied", [False, True])
def test_a_file_becomes_the_model_that_it_was_made_of(tmp_path, tied):
    tokenizer = make_tokenizer()
    model = make_model("qwen2", window=None, tie_word_embeddings=tied)
    write(tmp_path / "tiny.gguf", model, tokenizer)
    convert_gguf(tmp_path / "tiny.gguf", tmp_path / "folder")
    check_model_folder(tmp_path / "folder")
    loaded, read = load_model(tmp_path / "folder"), load_tokenizer(tmp_path / "folder")
    assert loaded.config.tie_word_embeddings is tied and loaded.config.model_type == "qwen2"
    torch.testing.assert_close(logits(loaded), logits(model), atol=1e-5, rtol=1e-5)
    text = "<|start|>user\nWrite a poem, please!<|end|>"
    assert read.chat_template == TEMPLATE and read(text).input_ids == tokenizer(text).input_ids
    assert len(read) == len(tokenizer)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_every_family(tmp_path, architecture):
    """Windows, soft caps, norms, the order of rotary halves: the logits are the original's."""
    model = make_model(FAMILIES[architecture], layers=6, window=6 if "gemma" in architecture else None)
    if architecture == "gemma3":
        model.config.layer_types[:] = [("sliding" if i % 6 else "full") + "_attention" for i in range(1, 7)]
        model = type(model)(model.config).requires_grad_(False).eval()
    loaded = converted(tmp_path, model, architecture)
    assert loaded.config.model_type == FAMILIES[architecture]
    torch.testing.assert_close(logits(loaded), logits(model), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("stored", "off"), [("F16", 1e-3), ("BF16", 1e-2), ("Q8_0", 1e-2), ("Q5_0", 0.1), ("Q4_1", 0.15)]
)
def test_weights_are_read_as_they_are_stored(tmp_path, stored, off):
    """Within the rounding of the storage, and not exactly: they were rounded."""
    model = make_model("llama", hidden=32, layers=2, intermediate_size=64)
    loaded = converted(tmp_path, model, stored=stored)
    for (name, got), wanted in zip(loaded.named_parameters(), model.parameters(), strict=True):
        worst = (got - wanted).abs().max() / wanted.abs().max()
        assert (0 < worst < off) if got.ndim == 2 else worst == 0, name


def scale_and_least(packed: bytes, j: int) -> tuple[int, int]:
    """Six bits each of the j-th of eight parts of a block, as llama.cpp packs them in twelve bytes."""
    if j < 4:
        return packed[j] & 63, packed[j + 4] & 63
    high, low = packed[j - 4], packed[j]
    return (packed[j + 4] & 15) | (high >> 6) << 4, (packed[j + 4] >> 4) | (low >> 6) << 4


def q4_k(block: bytes) -> list[float]:
    """144 bytes: two halves d and d_min, scales and minima, 256 numbers of four bits; y = d·s·q − d_min·m."""
    d, least = np.frombuffer(block[:4], "<f2").astype(float)
    values = []
    for part in range(8):
        s, m = scale_and_least(block[4:16], part)
        quarter = block[16 + 32 * (part // 2) : 48 + 32 * (part // 2)]
        values += [d * s * (byte >> 4 * (part % 2) & 15) - least * m for byte in quarter]
    return values


def q6_k(block: bytes) -> list[float]:
    """210 bytes: 128 of low bits, 64 of high bits, 16 signed scales, a half d; y = d·s·(q − 32)."""
    low, high, scales = block[:128], block[128:192], np.frombuffer(block[192:208], np.int8).astype(float)
    d, values = float(np.frombuffer(block[208:], "<f2")[0]), []
    for half in range(2):
        for quarter in range(4):
            for i in range(32):
                four = low[64 * half + 32 * (quarter % 2) + i] >> 4 * (quarter // 2) & 15
                two = high[32 * half + i] >> 2 * quarter & 3
                values.append(d * scales[8 * half + 2 * quarter + i // 16] * ((four | two << 4) - 32))
    return values


@pytest.mark.parametrize(("kind", "size", "reference"), [("Q4_K", 144, q4_k), ("Q6_K", 210, q6_k)])
def test_blocks_of_256_are_read_as_they_are_packed(tmp_path, kind, size, reference):
    from gguf import GGMLQuantizationType, GGUFWriter

    blocks = np.random.default_rng(5).integers(0, 256, (3, 2, size), dtype=np.uint8)
    halves = [(0, 2), (2, 4)] if kind == "Q4_K" else [(208, 210)]
    for place, (start, stop) in enumerate(halves):
        blocks[..., start:stop] = np.array([0.01 * (place + 1)], "<f2").view(np.uint8)
    writer = GGUFWriter(str(tmp_path / "blocks.gguf"), "llama")
    writer.add_tensor("t.weight", blocks.reshape(3, -1), raw_dtype=GGMLQuantizationType[kind])
    close(writer)
    header = read_header(tmp_path / "blocks.gguf")
    found = _stored(header, header.tensors["t.weight"])
    wanted = [[value for block in row for value in reference(block.tobytes())] for row in blocks]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_a_file_that_cannot_be_read(tmp_path):
    (tmp_path / "broken.gguf").write_bytes(b"version https://git-lfs")
    with pytest.raises(ModelError, match=r"broken.gguf cannot be read \("):
        convert_gguf(tmp_path / "broken.gguf", tmp_path / "folder")
    write(tmp_path / "other.gguf", make_model("qwen2", window=None), make_tokenizer(), "rwkv7")
    with pytest.raises(ModelError, match=r"other.gguf cannot be read .*rwkv7"):
        convert_gguf(tmp_path / "other.gguf", tmp_path / "folder")


# -------------------------------------------------------------------------------------------------- rotary positions


def factors(writer) -> None:
    """Llama 3.1's: its frequencies are those without scaling, divided by these."""
    plain = make_model("llama").model.rotary_emb.inv_freq
    writer.add_tensor(
        "rope_freqs.weight", (plain / make_model("llama", **ROPES["factors"][0]).model.rotary_emb.inv_freq).numpy()
    )


def scaling(kind: str, **more):
    def add(writer) -> None:
        from gguf import RopeScalingType

        writer.add_rope_scaling_type(RopeScalingType(kind))
        writer.add_rope_scaling_factor(4.0)
        for name, value in more.items():
            getattr(writer, f"add_rope_scaling_{name}")(value)

    return add


def rope(kind: str, factor: float = 4.0, **more) -> dict:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, "factor": factor, **more}}


ROPES = {
    "factors": (
        rope("llama3", 8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64),
        factors,
    ),
    "linear": (rope("linear"), scaling("linear")),
    "yarn": (
        rope("yarn", original_max_position_embeddings=64),
        scaling("yarn", orig_ctx_len=64),
    ),
    "yarn with an attention factor": (
        rope("yarn", original_max_position_embeddings=32, attention_factor=1.5 * (0.1 * np.log(4) + 1), beta_fast=16.0, beta_slow=2.0),
        scaling("yarn", orig_ctx_len=32, yarn_attn_factor=1.5, yarn_beta_fast=16.0, yarn_beta_slow=2.0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ROPES)
def test_rotary_positions_are_scaled_as_the_file_says(tmp_path, kind):
    parameters, extra = ROPES[kind]
    model, unscaled = make_model("llama", **parameters), make_model("llama")
    loaded = converted(tmp_path, model, extra=extra)
    torch.testing.assert_close(logits(loaded), logits(model), atol=1e-5, rtol=1e-4)
    assert (logits(unscaled) - logits(model)).abs().max() > 0.01  # a file read without it would not pass


def test_gemma_3_scales_its_full_attention_only(tmp_path):
    model = make_model("gemma3_text", layers=6)
    model.config.layer_types[:] = [*["sliding_attention"] * 5, "full_attention"]
    model.config.rope_parameters["full_attention"] = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
    model = type(model)(model.config).requires_grad_(False).eval()
    loaded = converted(tmp_path, model, "gemma3", extra=scaling("linear"))
    torch.testing.assert_close(logits(loaded), logits(model), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (scaling("longrope"), r"scaled in a way that is not read \(longrope"),
        (lambda w: (scaling("yarn")(w), factors(w)), "yarn with factors of its own"),
        (scaling("linear", attn_factors=2.0), "attention factor 2.0"),
        (lambda w: w.add_tensor("rope_freqs.weight", np.ones(3, np.float32)), r"shape \[3\].*have 4 frequencies"),
        (lambda w: w.add_float32("llama.rope.scaling.beyond", 2.0), "llama.rope.scaling.beyond is a setting that is not known"),
        (lambda w: w.add_expert_count(8), "llama.expert_count is 8, which is not read"),
        (lambda w: w.add_logit_scale(0.5), "llama.logit_scale is 0.5"),
        (lambda w: w.add_rope_dimension_count(4), "rope.dimension_count is 4, and its heads have 8"),
        (lambda w: w.add_tensor("blk.0.attn_q.bias", np.ones(32, np.float32)), "tensor blk.0.attn_q.bias is no part"),
        (lambda w: w.add_uint16("split.count", 3), "one of 3 parts"),
        (lambda w: w.add_add_eos_token(True), "add_eos_token is set"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused(tmp_path, extra, message):
    if message.startswith("rope.dimension"):

        def both(writer, add=extra):
            writer.add_key_length(8)
            add(writer)

        extra = both  # fmt: skip
    with pytest.raises(ModelError, match=message):
        converted(tmp_path, make_model("llama"), extra=extra)


def test_weights_that_are_no_numbers_or_not_there(tmp_path):
    model = make_model("llama", layers=2)
    model.model.layers[1].mlp.up_proj.weight[0, 0] = float("inf")
    with pytest.raises(ModelError, match=r"tensor blk.1.ffn_up.weight has values that are not finite"):
        converted(tmp_path, model)
    model = make_model("llama", layers=2)
    model.config.num_hidden_layers = 3
    with pytest.raises(ModelError, match=r"llama.block_count is 3, and it has tensors of 2 blocks"):
        converted(tmp_path, model)
    model.config.num_hidden_layers, model.config.intermediate_size = 2, 64
    with pytest.raises(ModelError, match=r"shape \[48, 32\], and its header's sizes mean \[64, 32\]"):
        converted(tmp_path, model)


@pytest.mark.parametrize(
    ("key", "size", "message"),
    [
        ("hidden_size", 2**31, f"hidden_size is {2**31}"),
        ("num_hidden_layers", 10**9, f"num_hidden_layers is {10**9}"),
        ("num_attention_heads", 5, "5 heads in a width of 32, which gives them no even width"),
    ],
)
def test_sizes_that_no_model_has(tmp_path, key, size, message):
    model = make_model("qwen2", layers=2, window=None)
    setattr(model.config, key, size)
    start = time.perf_counter()
    with pytest.raises(ModelError, match=message):
        converted(tmp_path, model, "qwen2")
    assert time.perf_counter() - start < 2


# -------------------------------------------------------------------------------------------------- hostile headers


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def start(tensors: int = 0, settings: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, settings)


ARRAY_OF_BYTES, ARRAY_OF_TEXTS = struct.pack("<II", 9, 0), struct.pack("<II", 9, 8)
HUGE = struct.pack("<Q", 10**12)
TENSOR = text("a") + struct.pack("<IQQ", 2, 32, 32)
HOSTILE = {
    "tensors": (start(10**12), "names 1000000000000 tensors"),
    "settings": (start(0, 10**12), "names 1000000000000 settings"),
    "the length of a key": (start(0, 1) + HUGE, "goes beyond the file"),
    "the length of a text": (start(0, 1) + text("a") + struct.pack("<I", 8) + HUGE, "goes beyond the file"),
    "a list of bytes": (start(0, 1) + text("a") + ARRAY_OF_BYTES + HUGE, "values in a list"),
    "a list of texts": (start(0, 1) + text("a") + ARRAY_OF_TEXTS + HUGE, "strings in a list"),
    "a list of lists": (start(0, 1) + text("a") + struct.pack("<II", 9, 9) + HUGE, "type 9, which is not read"),
    "an unknown type": (start(0, 1) + text("a") + struct.pack("<I", 99), "type 99"),
    "a key twice": (start(0, 2) + 2 * (text("a") + struct.pack("<II", 4, 1)), "a twice"),
    "dimensions": (start(1) + text("a") + struct.pack("<I", 10**9), "1000000000 dimensions"),
    "a size": (start(1) + text("a") + struct.pack("<IQQIQ", 2, 2**40, 2**40, 0, 0), "beyond the end of the file"),
    "an offset": (start(1) + TENSOR + struct.pack("<IQ", 0, 2**60), "beyond the end of the file"),
    "no elements": (start(1) + text("a") + struct.pack("<IQIQ", 1, 0, 0, 0), "shape"),
    "an unknown storage": (start(1) + TENSOR + struct.pack("<IQ", 999, 0), "storage type 999"),
    "another version": (b"GGUF" + struct.pack("<IQQ", 77, 0, 0), "version 77"),
    "alignment": (start(0, 1) + text("general.alignment") + struct.pack("<II", 4, 0), "power of two"),
    "the end": (start(0, 1) + text("a") + struct.pack("<I", 12), "goes beyond the file"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_header_costs_nothing(tmp_path, what):
    content, message = HOSTILE[what]
    (tmp_path / "hostile.gguf").write_bytes(content + bytes(0 if what == "the end" else 64))
    tracemalloc.start()
    began = time.perf_counter()
    try:
        with pytest.raises(ModelError, match=message) as refused:
            read_header(tmp_path / "hostile.gguf")
        assert time.perf_counter() - began < 1 and tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()
    assert "\n" not in str(refused.value)


def test_a_download_that_ended_early(tmp_path):
    """Cut anywhere, the file is refused in one sentence."""
    write(tmp_path / "tiny.gguf", make_model("llama", layers=1), make_tokenizer(), "llama")
    whole = (tmp_path / "tiny.gguf").read_bytes()
    for share in (0.0, 0.01, 0.1, 0.3, 0.5, 0.9, 0.999):
        (tmp_path / "cut.gguf").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ModelError, match="was the download complete"):
            read_header(tmp_path / "cut.gguf")


def test_a_tokenizer_that_is_read_otherwise_once_it_is_saved(tmp_path):
    make_tokenizer().save_pretrained(tmp_path)
    check_rereading(make_tokenizer(), tmp_path)
    with pytest.raises(ModelError, match="gives other tokens once it is saved"):
        check_rereading(make_tokenizer("merging"), tmp_path)
