"""Loading models: plain folders, LoRA adapters merged into their base; deterministic settings."""

import json
import os
from pathlib import Path

import torch
from torch import nn

from safety_geometry.models.adapters import merged_in
from safety_geometry.models.configuration import ModelError, read_json

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def configure(threads: int, deterministic: bool = True) -> None:
    """Fix the thread count (it changes rounding) and ask torch for deterministic algorithms, cuBLAS for them too: to
    be called before anything runs on a GPU."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    # Nothing reads uninitialised memory; filling it would take about a hundredth of a training step.
    torch.utils.deterministic.fill_uninitialized_memory = False


def end_ids(folder: Path) -> tuple[int, ...]:
    """Token ids that end an answer by a model folder's generation_config.json, or by its config.json where there is
    none.

    Raises:
        ModelError: they are no token ids, or the file is no JSON object.
    """
    file = next((f for name in ("generation_config.json", "config.json") if (f := folder / name).exists()), None)
    if file is None:
        return ()
    value = read_json(file, "").get("eos_token_id")
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if wrong := [number for number in ids if type(number) is not int or number < 0]:
        raise ModelError(f"{file.name}: eos_token_id has {wrong[0]!r}, which is no token id")
    return tuple(ids)


def load_model(folder: Path, dtype: str = "float32", device: str = "cpu", adapter: Path | None = None) -> nn.Module:
    """A plain causal model in eval mode, with the LoRA `adapter` folder (if any) merged into its weights.

    Raises:
        ModelError: no weights there, or not all of them, or an unknown dtype, or a GPU that this machine does not have.
    """
    from transformers import AutoModelForCausalLM

    place = torch.device(device)
    if place.type == "cuda" and (place.index or 0) >= (count := torch.cuda.device_count()):
        raise ModelError(f"model.device is {device}, and torch sees {count} GPU(s) here; set another device, or cpu")
    if dtype not in DTYPES:
        raise ModelError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    if not (folder / "config.json").exists():
        raise ModelError(f"{folder} has no config.json: it is not a model folder")
    model, report = AutoModelForCausalLM.from_pretrained(folder, dtype=DTYPES[dtype], output_loading_info=True)
    if lost := sorted([*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])]):
        raise ModelError(f"{lost[0]} is not among its weights ({len(lost)} such), and would be random")
    if adapter is not None:
        model = merged_in(model, adapter)
    return model.to(device).eval().requires_grad_(False)


def add_lora(model: nn.Module, rank: int, alpha: float, dropout: float, targets: list[str], seed: int) -> nn.Module:
    """Inject trainable LoRA layers (peft) into `model`; A is drawn from `seed`, B is zero. Returns the PeftModel.

    Raises:
        ModelError: a target is no linear layer of the model, or is its embedding too.
    """
    from peft import LoraConfig, get_peft_model

    check_targets(model, targets)
    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets, task_type="CAUSAL_LM")
    return get_peft_model(model, config)


def check_targets(model: nn.Module, targets: list[str]) -> None:
    """Raise ModelError, naming the target, unless each is a linear layer that an adapter can be saved of and merged
    into again.

    peft leaves out what it does not find; an adapter of a head that is the embedding as well would, merged, change
    both.
    """
    modules, shared = dict(model.named_modules()), model.get_input_embeddings().weight
    linear = {name for name, layer in modules.items() if isinstance(layer, nn.Linear) and layer.weight is not shared}
    for target in targets:
        named = [name for name in modules if name == target or name.endswith(f".{target}")]
        if named and all(name in linear for name in named):
            continue
        why = (
            "the model has no layer of this name"
            if not named
            else "it is the embedding, or one matrix with it"
            if any(getattr(modules[name], "weight", None) is shared for name in named)
            else "it is no linear layer"
        )
        leaves = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in linear}))
        raise ModelError(f"lora.targets has {target!r}, and {why}; it can be of {leaves}")


def save_plain(model: nn.Module, tokenizer, folder: Path) -> None:
    """Write a model (adapters merged) and its tokenizer as a folder that `load_model` and transformers read; no path of
    here in it."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    file = folder / "config.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    values.pop("_name_or_path", None)
    file.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def save_adapter(folder: Path, model: nn.Module, base_name: str) -> None:
    """Write the adapter of a PeftModel as a folder: its base by name, no path of this machine and no generated model
    card."""
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8")) | {"base_model_name_or_path": base_name}
    config["target_modules"] = sorted(config["target_modules"])
    file.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")
