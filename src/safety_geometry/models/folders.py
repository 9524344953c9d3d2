"""Folders of models and adapters that others made: looked at before any job loads them, so that what cannot work says
so early.

Configurations, tokenizers, the names and shapes in the headers of safetensors files; and each weight once, for numbers
that are none.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open

from safety_geometry.models.adapters import PREFIX, SETTINGS, WEIGHTS, shapes_of
from safety_geometry.models.chat import ChatFormat
from safety_geometry.models.configuration import ModelError, first_line, read_config, read_json
from safety_geometry.models.families import family_of
from safety_geometry.models.runner import all_finite
from safety_geometry.models.tokenizer import check_vocabulary, load_tokenizer

TEMPLATE = "chat_template.jinja"
LORA_A, LORA_B = ".lora_A.weight", ".lora_B.weight"
DAMAGED = ": was the download complete?"


def check_model_folder(folder: Path) -> None:
    """A plain causal model with its tokenizer, of a family that the runner knows.

    Raises:
        ModelError: another family; sizes that no model has; no weights as safetensors, or not all of them, or others
            than the configuration's, or quantised or not finite; a tokenizer that is missing, or has more tokens than
            the model.
    """
    if (folder / SETTINGS).exists():
        raise ModelError(
            "it has an adapter_config.json: give an adapter with format: adapter, and a merged model without one"
        )
    config = read_config(folder)
    family_of(config.get("model_type"))
    if config.get("quantization_config"):
        raise ModelError(
            "its weights are quantised, and carriers need plain ones: give the plain model, or a GGUF file"
        )
    if config.get("use_bidirectional_attention"):
        raise ModelError("its tokens see later ones (use_bidirectional_attention): it is no causal language model")
    weight_files(folder)
    check_vocabulary(load_tokenizer(folder), _settings(folder).vocab_size)
    check_weights(folder)


def check_adapter_folder(folder: Path, base: Path) -> None:
    """A LoRA adapter (peft) whose layers are those of the model folder `base`.

    Raises:
        ModelError: no adapter as safetensors, another kind than LoRA, layers that `base` lacks or has in another shape,
            or a change of the embedding of a model whose head is the same matrix.
    """
    config = read_json(folder / SETTINGS, "it is not a folder of a peft adapter")
    if (kind := config.get("peft_type")) != "LORA":
        raise ModelError(f"the adapter is of type {kind}; LoRA alone can be merged into its base")
    file = folder / WEIGHTS
    if not file.exists():
        raise ModelError(f"it has no {WEIGHTS} (pickled weights, .bin, are not read); save it as safetensors")
    weights, shapes = tensor_shapes(base), shapes_of(file, DAMAGED)
    check_finite(file)
    tied = _settings(base).tie_word_embeddings
    for name, shape in shapes.items():
        module = name.removeprefix(PREFIX)
        for end, axis in ((LORA_A, 1), (LORA_B, 0)):
            if not module.endswith(end):
                continue
            target = module.removesuffix(end) + ".weight"
            if target not in weights and not (tied and target.startswith("lm_head")):
                raise ModelError(
                    f"the adapter changes {target}, which its base does not have: it belongs to another model"
                )
            if target in weights and weights[target][axis] != shape[axis]:
                widths = f"of width {shape[axis]}, which is {weights[target][axis]} in its base"
                raise ModelError(f"the adapter changes {target} {widths}: it belongs to another model")
        if tied and any(part in module for part in ("embed_tokens", "lm_head")):
            raise ModelError(
                "the adapter changes the embedding or the head, which are one matrix in its base: merge it where it was"
                " trained, and give the merged model (format: folder)"
            )


def check_weights(folder: Path) -> None:
    """The weights of a model folder are those that its configuration means: all of them, no others, in its shapes, and
    finite.

    Raises:
        ModelError: they are not.
    """
    from transformers import AutoModelForCausalLM

    settings, shapes = _settings(folder), tensor_shapes(folder)
    stored = {_inner_name(name): shape for name, shape in shapes.items()}
    blocks = {name.split(".")[1] for name in stored if name.startswith("layers.")}
    if len(blocks) != settings.num_hidden_layers:  # before a model of that many is built
        raise ModelError(
            f"num_hidden_layers is {settings.num_hidden_layers}, and there are weights of {len(blocks)} blocks"
        )
    try:
        with torch.device("meta"):
            meant = AutoModelForCausalLM.from_config(settings).state_dict()
    except Exception as error:  # what a configuration can break in there has no common class
        raise ModelError(f"no model can be built of config.json ({first_line(error)})") from error
    wanted = {_inner_name(name): tuple(tensor.shape) for name, tensor in meant.items()}
    names = {_inner_name(name): name for name in [*shapes, *meant]}
    spare = {"lm_head.weight"} if settings.tie_word_embeddings else set()
    if lost := sorted(wanted.keys() - stored.keys() - spare):
        raise ModelError(f"{names[lost[0]]} is not among its weights ({len(lost)} such), and would be random")
    rest = (
        name for name in stored.keys() - wanted.keys() if not name.endswith("rotary_emb.inv_freq")
    )  # of older versions
    if unknown := sorted(rest):
        raise ModelError(
            f"{names[unknown[0]]} is among its weights ({len(unknown)} such), and config.json means a model without it"
        )
    for name in sorted(wanted.keys() & stored.keys()):
        if stored[name] != wanted[name]:
            raise ModelError(
                f"{names[name]} has shape {list(stored[name])}, and config.json means {list(wanted[name])}"
            )
    for file in weight_files(folder):
        check_finite(file)


def check_finite(file: Path) -> None:
    """Every number of a safetensors file is one, read tensor by tensor. Raises ModelError when one is NaN or infinite,
    or no float."""
    with safe_open(file, "pt") as opened:
        for name in opened.keys():  # noqa: SIM118
            tensor = opened.get_tensor(name)
            if tensor.dtype not in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
                raise ModelError(
                    f"{name} is stored as {str(tensor.dtype).removeprefix('torch.')}: its weights are quantised"
                )
            if not all_finite(tensor):
                raise ModelError(f"{name} in {file.name} has values that are not finite numbers: the model is damaged")


def _inner_name(name: str) -> str:
    return name.removeprefix("model.")


def weight_files(folder: Path) -> list[Path]:
    """The files that Hugging Face loads: model.safetensors, or those of the index. Raises ModelError when one is
    missing."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    present, wanted = {file.name for file in folder.glob("*.safetensors")}, set()
    if index.exists():
        names = read_json(index, "").get("weight_map")
        if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
            raise ModelError(f"{index.name} has no weight_map of names and files")
        wanted = set(names.values())
        if missing := sorted(wanted - present):
            raise ModelError(
                f"{missing[0]} is missing, one of {len(wanted)} files of weights: was the download complete?"
            )
    if single.exists():
        return [single]
    if not wanted:
        others = ", ".join(sorted(present)[:3])
        hint = f"; {others} alone would not be loaded: name it model.safetensors" if others else ""
        raise ModelError(f"it has no *.safetensors (pickled weights, .bin, are not read): save it as safetensors{hint}")
    return [folder / name for name in sorted(wanted)]


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of all weights of a model folder. Raises ModelError when a file is missing or there is none."""
    return {name: shape for file in weight_files(folder) for name, shape in shapes_of(file, DAMAGED).items()}


def use_template(folder: Path, text: str) -> None:
    """Make `text` (Jinja) the chat template of a model folder, in place of all that it has. Files are replaced, not
    written into: they may be hard links."""
    settings = folder / "tokenizer_config.json"
    if settings.exists():
        values = read_json(settings, "")
        values.pop("chat_template", None)
        settings.unlink()
        settings.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for other in [folder / "chat_template.json", *(folder / "additional_chat_templates").glob("*")]:
        other.unlink(missing_ok=True)
    (folder / TEMPLATE).unlink(missing_ok=True)
    (folder / TEMPLATE).write_text(text, encoding="utf-8")


def check_alike(folder: Path, other: Path, system: str | None = None) -> None:
    """Two steps of one trajectory have the same shape, the same tokens and the same rendering of a conversation.

    Raises:
        ModelError: they do not, so that prompts, positions, layers or directions of one would mean something else in
            the other.
    """
    both = [_settings(path) for path in (folder, other)]
    for key in ("model_type", "num_hidden_layers", "hidden_size"):
        here, first = (getattr(settings, key) for settings in both)
        if here != first:
            raise ModelError(f"{key} is {here}, and {first} at the first step: make it a trajectory of its own")
    tokenizers = [load_tokenizer(path) for path in (folder, other)]
    vocabularies: list[Mapping[str, int]] = [tokenizer.get_vocab() for tokenizer in tokenizers]
    if vocabularies[0] != vocabularies[1]:
        sizes = " and ".join(str(len(v)) for v in vocabularies)
        raise ModelError(
            f"its tokenizer has other tokens than the first step's ({sizes}): make it a trajectory of its own"
        )
    formats = [ChatFormat(tokenizer, system) for tokenizer in tokenizers]
    if len({(chat.before, chat.after, chat.gap, chat.end) for chat in formats}) > 1:  # however that is written
        none = [i for i, tokenizer in enumerate(tokenizers) if not tokenizer.chat_template]
        why = (
            f" ({('this step', 'the first step')[none[0]]} has no template, and Zephyr's stands in)"
            if len(none) == 1
            else ""
        )
        raise ModelError(
            f"it renders a conversation otherwise than the first step{why}: give one chat_template for all steps"
        )


def _settings(folder: Path):
    """The configuration with what its family fills in: files may leave out what is usual."""
    from transformers import AutoConfig

    read_config(folder)
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # what a configuration can break in there has no common class
        raise ModelError(f"config.json cannot be read ({first_line(error)})") from error
