"""Loading models: plain folders, GGUF files, LoRA adapters merged into their base; deterministic settings."""

import json
from pathlib import Path

import torch
from torch import nn

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class ModelError(ValueError):
    """A model folder is incomplete, or does not fit its tokenizer."""


def configure(threads: int, deterministic: bool = True) -> None:
    """Fix the thread count (it changes rounding) and ask torch for deterministic algorithms."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic, warn_only=True)


def load_tokenizer(folder: Path):
    """The tokenizer of a model folder. Raises ModelError when there is none that can be read."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        told = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(f"its tokenizer cannot be read ({told}); a tokenizer.json is needed") from error


def check_device(device: str) -> None:
    """Raises ModelError for a GPU that torch does not see."""
    wanted = torch.device(device)
    if wanted.type == "cuda" and (wanted.index or 0) >= (count := torch.cuda.device_count()):
        raise ModelError(f"model.device is {device}, and torch sees {count} GPU(s) here; set another device, or cpu")


def load_model(folder: Path, dtype: str = "float32", device: str = "cpu", adapter: Path | None = None) -> nn.Module:
    """A plain causal model in eval mode, with the LoRA `adapter` folder (if any) merged into its weights.

    Raises:
        ModelError: no weights there, or not all of them, or an unknown dtype, or a GPU that this machine does not have.
    """
    from transformers import AutoModelForCausalLM

    check_device(device)
    if dtype not in DTYPES:
        raise ModelError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    if not (folder / "config.json").exists():
        raise ModelError(f"{folder} has no config.json: it is not a model folder")
    model, found = AutoModelForCausalLM.from_pretrained(folder, dtype=DTYPES[dtype], output_loading_info=True)
    if lost := sorted([*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])]):
        raise ModelError(f"{lost[0]} is not among its weights ({len(lost)} such), and would be random")
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    return model.to(device).eval().requires_grad_(False)


def add_lora(model: nn.Module, rank: int, alpha: float, dropout: float, targets: list[str], seed: int) -> nn.Module:
    """Inject trainable LoRA layers (peft) into `model`; A is drawn from `seed`, B is zero. Returns the PeftModel."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets, task_type="CAUSAL_LM")
    return get_peft_model(model, config)


def save_plain(model: nn.Module, tokenizer, folder: Path) -> None:
    """Write a model (adapters merged) and its tokenizer as a folder that `load_model` and transformers read; no path of here in it."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _drop_paths(folder / "config.json")


def convert_gguf(file: Path, folder: Path, dtype: str = "float32") -> None:
    """Write a plain model folder from a GGUF file.

    transformers can read GGUF but refuses to save what it read, so the weights are moved into a plain model.

    Raises:
        ModelError: it cannot be read, or its tokenizer does not fit.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    try:
        source = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=DTYPES[dtype])
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        told = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(
            f"{file.name} cannot be read ({told}): another architecture, or was the download complete?"
        ) from error
    values = source.config.to_dict()
    for key in ("quantization_config", "_name_or_path"):
        values.pop(key, None)
    plain = AutoModelForCausalLM.from_config(AutoConfig.for_model(**values), dtype=DTYPES[dtype])
    plain.load_state_dict(source.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    save_plain(plain, tokenizer, folder)
    check_vocabulary(tokenizer, plain.config.vocab_size)


def check_vocabulary(tokenizer, vocabulary: int) -> None:
    """Raise ModelError when the tokenizer knows ids that the model has no embedding for. Fewer are well: embeddings are padded."""
    known = max(len(tokenizer), max(tokenizer.get_vocab().values(), default=-1) + 1)
    if known > vocabulary:
        raise ModelError(f"the tokenizer has {known} tokens and the model {vocabulary}: they do not belong together")


def _drop_paths(config: Path) -> None:
    values = json.loads(config.read_text(encoding="utf-8"))
    values.pop("_name_or_path", None)
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
