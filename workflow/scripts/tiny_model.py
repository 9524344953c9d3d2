"""A tiny random Llama with a byte-level BPE tokenizer trained on the project's own prompts, for the smoke study.

params: seed, vocabulary, hidden, layers, heads, system.
"""

import json

import torch
from _job import Job, read_jsonl
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEMPLATE = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}{{ '<|start|>system\nBe helpful.<|end|>\n' }}{% endif %}"
    "{{ '<|start|>' + m['role'] + '\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
)


def main() -> None:
    job = Job(__doc__, inputs=["texts*"], outputs=["folder"])
    p = job.params
    texts = [json.dumps(row) for path in job.texts for row in read_jsonl(path)] + ["system\nuser\nassistant\n"] * 50
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|start|>", "<|end|>"]
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=p["vocabulary"],
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|start|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        chat_template=TEMPLATE,
    )
    torch.manual_seed(p["seed"])
    config = LlamaConfig(
        vocab_size=p["vocabulary"], hidden_size=p["hidden"], intermediate_size=2 * p["hidden"], num_hidden_layers=p["layers"],
        num_attention_heads=p["heads"], num_key_value_heads=max(1, p["heads"] // 2), max_position_embeddings=512,
        bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.2,
    )  # fmt: skip
    with job.publish(job.folder) as scratch:
        LlamaForCausalLM(config).save_pretrained(scratch)
        fast.save_pretrained(scratch)


if __name__ == "__main__":
    main()
