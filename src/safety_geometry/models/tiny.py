"""A random Llama with a byte-level BPE tokenizer trained on given texts: a whole study in minutes where it is tiny, and
what a large one costs where it is of a large one's shape."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from safety_geometry.models.loading import DTYPES

TEMPLATE = (
    "{% for m in messages %}"
    "{% if loop.first and m['role'] != 'system' %}{{ '<|start|>system\nBe helpful.<|end|>\n' }}{% endif %}"
    "{{ '<|start|>' + m['role'] + '\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
)


def make_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Of exactly `vocabulary` tokens: where the texts give fewer, made-up words fill it, so that each id has a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|start|>", "<|end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    if (known := tokenizer.get_vocab_size()) < vocabulary:
        tokenizer.add_tokens([f"<{number}>" for number in range(known, vocabulary)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|start|>", eos_token="<|end|>", pad_token="<|pad|>",
        chat_template=TEMPLATE,
    )  # fmt: skip


def write_tiny_model(
    folder: Path,
    texts: Iterable[str],
    *,
    seed: int,
    vocabulary: int,
    hidden: int,
    layers: int,
    heads: int,
    intermediate: int | None = None,
    kv_heads: int | None = None,
    context: int = 512,
    deviation: float = 0.2,
    dtype: str = "float32",
    device: str = "cpu",
) -> None:
    """Weights are drawn on `device` in `dtype`, with a standard deviation of `deviation`; intermediate: twice hidden,
    kv_heads: half of heads, unless given."""
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=intermediate or 2 * hidden,
        num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv_heads or max(1, heads // 2),
        max_position_embeddings=context, bos_token_id=1, eos_token_id=2, pad_token_id=0,
        initializer_range=deviation, dtype=DTYPES[dtype],
    )  # fmt: skip
    tokenizer = make_tokenizer(texts, vocabulary)
    random_llama(config, seed, device).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def random_llama(config: LlamaConfig, seed: int, device: torch.device | str = "cpu") -> LlamaForCausalLM:
    """Random weights of the configuration's shape and dtype, made where they are wanted: no copy on the host."""
    torch.manual_seed(seed)
    with torch.device(device), default_dtype(config.dtype):
        return LlamaForCausalLM(config).eval().requires_grad_(False)


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
