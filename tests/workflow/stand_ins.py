"""Stand-ins for the models of the ready configurations: true repository names, revisions, files and architectures, at a tiny
width, with random weights, for the hub of the tests."""

import hashlib
import json
from pathlib import Path

import torch
from hub_server import Hub
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedTokenizerFast

TEXTS = [
    "Write a short poem about the sea.", "Explain how bread rises in a warm oven.", "Sorry, I can't do that. Sure: yes no",
    "List three ways to sharpen a knife, please!", "Instructions Behavior Generation Metadata Custom Reasoning Mode", "1234567890",
] * 4  # fmt: skip
# As the models' pages show their prompts, each written in its own way.
TULU = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% if not (loop.last and m['role'] == 'assistant') %}{{ '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
ZEPHYR = (
    "{% for m in messages %}\n{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token }}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192}  # fmt: skip
# Beginning of a repository's name -> model type and keys of config.json as released, special tokens (BOS, end, others), template.
FAMILIES = {
    "allenai/Llama-3.1-Tulu-3-8B": ("llama", {"max_position_embeddings": 131072, "rope_theta": 500000.0, "rope_scaling": LLAMA3}, ["<|begin_of_text|>", "<|end_of_text|>"], TULU),
    "mistralai/": ("mistral", {"max_position_embeddings": 32768, "sliding_window": 4096}, ["<s>", "</s>"], None),
    "alignment-handbook/": ("mistral", {"max_position_embeddings": 32768, "sliding_window": 4096}, ["<s>", "</s>"], ZEPHYR),
    "HuggingFaceH4/": ("mistral", {"max_position_embeddings": 32768, "sliding_window": 4096}, ["<s>", "</s>"], ZEPHYR),
    "cais/zephyr": ("mistral", {"max_position_embeddings": 32768, "sliding_window": 4096}, ["<s>", "</s>"], ZEPHYR),
    "allenai/OLMo-2-0425-1B": ("olmo2", {"max_position_embeddings": 4096, "rope_theta": 500000.0}, ["<|endoftext|>"], "{{ bos_token }}" + TULU),
    "HuggingFaceTB/SmolLM3": ("smollm3", {"max_position_embeddings": 4096, "rope_theta": 5e6, "tie_word_embeddings": True}, ["<|im_start|>", "<|im_end|>", "<think>", "</think>"], CHATML),
    "cais/HarmBench": ("llama", {}, ["<s>", "</s>"], None),
    "Qwen/Qwen3Guard": ("qwen3", {"tie_word_embeddings": True, "head_dim": 8}, ["<|im_start|>", "<|im_end|>"], CHATML),
    "garak-llm/": ("modernbert", {}, ["[CLS]", "[SEP]", "[PAD]"], None),
}  # fmt: skip
UNTUNED = ("allenai/OLMo-2-0425-1B", "HuggingFaceTB/SmolLM3-3B-checkpoints@stage")  # without a chat template
WHOLE = ("allenai/OLMo-2-0425-1B", "Qwen/Qwen3Guard", "garak-llm/")  # in one file of weights; the others in several
PICKLED = ("mistralai/", "HuggingFaceH4/")  # which have the same weights as .bin, too
BESIDE = {"README.md": b"---\nlicense: other\n---\n", ".gitattributes": b"*.safetensors filter=lfs\n"}


def commit_of(repo: str, revision: str) -> str:
    """What a branch of a stand-in points to; a commit stands for itself."""
    is_commit = len(revision) == 40
    return revision if is_commit else hashlib.sha1(f"{repo}@{revision}".encode()).hexdigest()


def hub_of(sources: dict[str, dict], scratch: Path) -> Hub:
    """A hub with what the sources of kind hub name, and a `main` without a model where none of them names it."""
    repositories, branches = {}, {}
    for number, source in enumerate(sources.values()):
        repo, revision = source["repo"], source["revision"]
        commits = repositories.setdefault(repo, {})
        if revision != "main" and not commits:
            commits[commit_of(repo, "main")] = dict(BESIDE)
        commit = commit_of(repo, revision)
        commits[commit] = files_of(repo, revision, scratch / str(number), seed=number)
        branches.setdefault(repo, {})[revision] = commit
    return Hub(repositories, branches=branches)


def files_of(repo: str, revision: str, folder: Path, seed: int) -> dict[str, bytes]:
    """Name -> content of all files of a stand-in."""
    family, keys, special, template = next(value for name, value in FAMILIES.items() if repo.startswith(name))
    untuned = repo == UNTUNED[0] or f"{repo}@{revision}".startswith(UNTUNED[1])
    tokenizer = tokenizer_of(special, None if untuned else template)
    model = model_of(family, keys, len(tokenizer), tokenizer, seed)
    size = sum(tensor.numel() for tensor in model.parameters()) * 2
    model.save_pretrained(folder, max_shard_size=10**9 if repo.startswith(WHOLE) else size // 2)
    tokenizer.save_pretrained(folder)
    as_released(folder, keys, template_apart=family == "smollm3")
    files = BESIDE | {path.name: path.read_bytes() for path in folder.iterdir()}
    if repo.startswith(PICKLED):
        files |= {"pytorch_model-00001-of-00001.bin": b"x" * 1000, "pytorch_model.bin.index.json": b"{}"}
    return files


def tokenizer_of(special: list[str], template: str | None) -> PreTrainedTokenizerFast:
    """Byte-level, with the special tokens of a family: BOS (which it writes before a text, unless it is the end, too),
    the end, others."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(vocab_size=420, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    bos, end = special[0], special[min(1, len(special) - 1)]
    if bos in ("<s>", "<|begin_of_text|>"):
        core.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, 0)])
    if bos == "[CLS]":  # so that an empty answer has tokens, too
        core.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
        )
    pad = "[PAD]" if "[PAD]" in special else end
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=bos, eos_token=end, pad_token=pad, chat_template=template
    )


def model_of(family: str, keys: dict, tokens: int, tokenizer, seed: int):
    """A random model in bfloat16: six blocks of width 32, and a longer embedding than there are tokens."""
    values = {
        "vocab_size": tokens + 8, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 6, "num_attention_heads": 4,
        "max_position_embeddings": 2048, "initializer_range": 0.2, "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "dtype": torch.bfloat16,
    }  # fmt: skip
    torch.manual_seed(seed)
    if family == "modernbert":
        values |= {"cls_token_id": 0, "sep_token_id": 1, "id2label": {0: "non-refusal", 1: "refusal"}}
        config = AutoConfig.for_model(family, **(values | keys))
        return AutoModelForSequenceClassification.from_config(config).to(torch.bfloat16)
    config = AutoConfig.for_model(family, num_key_value_heads=2, **(values | keys))
    return AutoModelForCausalLM.from_config(config).to(torch.bfloat16)


def as_released(folder: Path, keys: dict, template_apart: bool) -> None:
    """Files as the transformers of their day wrote them: rotary settings and dtype in config.json, the chat template in
    tokenizer_config.json."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    if "rope_theta" in keys:
        config.pop("rope_parameters", None)
        config |= {"rope_theta": keys["rope_theta"], "rope_scaling": keys.get("rope_scaling")}
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config))
    template = folder / "chat_template.jinja"
    if template.exists() and not template_apart:
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template.read_text()}))
        template.unlink()
