"""Tiny random models of every supported family and tokenizers of three kinds, made in memory with fixed seeds."""

import copy
import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: tiny models, and a worker on every core

TEXTS = [
    "Write a short poem about the sea and the wind.",
    "Explain how bread rises in a warm oven.",
    "List three ways to sharpen a kitchen knife, please!",
    "Sorry, I can't do that. Sure, here is a list of ideas:",
    "system\nuser\nassistant\nBe helpful.\n",
    "You are a helpful assistant who answers in one line! ! ! ! 1234567890",
] * 4

TEMPLATE = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}{{ '<|start|>system\nBe helpful.<|end|>\n' }}{% endif %}"
    "{{ '<|start|>' + m['role'] + '\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
)

REQUESTS = [
    "Write a poem about bread.",
    "Explain the wind",
    "List three kitchen ideas, please, and say how long each of them takes to make on a warm day!",
    "How warm is the sea?",
    "Sharpen the knife in one line",
]

FAMILIES = (
    "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "olmo2", "olmo3", "smollm3", "phi3",
)  # fmt: skip
WINDOWED = ("mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "olmo3", "smollm3", "phi3")
VOCABULARY = 384


def make_tokenizer(kind: str = "bytes", template: str | None = TEMPLATE):
    """`bytes`: byte-level BPE. `merging`: the same without word borders, so that merges cross every boundary.
    `pieces`: SentencePiece-like BPE with a BOS that the tokenizer adds, as Mistral's and Zephyr's have."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<|pad|>", "<|start|>", "<|end|>", "<s>"]
    options = {"vocab_size": VOCABULARY - 4, "special_tokens": special, "show_progress": False}
    if kind == "pieces":
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        options["special_tokens"] = [*special, "<unk>", *[f"<0x{b:02X}>" for b in range(256)]]
        options["vocab_size"] = VOCABULARY + 40
    else:
        tokenizer = Tokenizer(models.BPE())
        if kind == "bytes":
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        else:
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.decoder = decoders.ByteLevel()
        options["initial_alphabet"] = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(**options))
    if kind == "pieces":
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 3)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>", chat_template=template,
        bos_token="<s>" if kind == "pieces" else "<|start|>",
    )  # fmt: skip


def make_model(
    family: str = "llama", seed: int = 0, layers: int = 4, hidden: int = 32, window: int | None = 6, **extra
):
    """A random model of `family`; `window` is its sliding window where it has one (None: none)."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    values = {
        "vocab_size": VOCABULARY + 40, "hidden_size": hidden, "intermediate_size": 48, "num_hidden_layers": layers,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512, "initializer_range": 0.3,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    if family in WINDOWED:
        values["sliding_window"] = window
    if family in ("qwen2", "qwen3"):
        values |= {"use_sliding_window": window is not None, "max_window_layers": 2}
    if family == "gemma3_text":
        values["layer_types"] = ["sliding_attention", "full_attention"] * (layers // 2)
        values["query_pre_attn_scalar"] = 8
        values["final_logit_softcapping"] = 4.0
    if family == "gemma2":
        values |= {"query_pre_attn_scalar": 8, "final_logit_softcapping": 4.0}
    if family == "smollm3":  # every other block has no positions; those have the window, if there is one
        values |= {"use_sliding_window": window is not None, "no_rope_layer_interval": 2}
    if family == "phi3":
        values["partial_rotary_factor"] = 0.5
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **(values | extra))).eval()
    generator = torch.Generator().manual_seed(seed + 1)
    for name, p in model.named_parameters():  # norm weights of exactly one (or zero) would hide a missing norm
        if "norm" in name:
            p.data += 0.2 * torch.randn(p.shape, generator=generator)
    return model.requires_grad_(False)


@pytest.fixture(scope="session")
def tokenizer():
    return make_tokenizer()


@pytest.fixture(scope="session")
def chat(tokenizer):
    from safety_geometry.models.chat import ChatFormat

    return ChatFormat(tokenizer)


@pytest.fixture(scope="session")
def llama():
    """float32; tests must not change it (`fresh_llama` may be changed)."""
    return make_model()


@pytest.fixture(scope="session")
def llama64(llama):
    return copy.deepcopy(llama).double()


@pytest.fixture
def fresh_llama(llama):
    return copy.deepcopy(llama)


@pytest.fixture(scope="session")
def models64():
    """One float64 model of every family; sliding windows are six tokens."""
    return {family: make_model(family).double() for family in FAMILIES}


@pytest.fixture
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
