"""Folders of models and adapters that others made: looked at before any job loads them, so that what cannot work says so early.

No weight is read: configurations, tokenizers, and the names and shapes in the headers of safetensors files.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open

from safety_geometry.chat import ChatFormat
from safety_geometry.models import ModelError, check_vocabulary, load_tokenizer
from safety_geometry.runner import FAMILIES

TEMPLATE = "chat_template.jinja"
LORA_A, LORA_B = ".lora_A.weight", ".lora_B.weight"
WRAPPED = "base_model.model."  # peft's prefix of every name
NO_MODEL = "it is not a model folder"


def check_model_folder(folder: Path) -> None:
    """A plain causal model with its tokenizer, of a family that the runner knows.

    Raises:
        ModelError: another family; no weights as safetensors, or not all of them; quantised weights; a tokenizer that is missing, or
            has more tokens than the model.
    """
    if (folder / "adapter_config.json").exists():
        raise ModelError(
            "it has an adapter_config.json: give an adapter with format: adapter, and a merged model without one"
        )
    config = _json(folder / "config.json", NO_MODEL)
    kind = config.get("model_type")
    if kind not in FAMILIES:
        hint = "; save its language model alone (model_type gemma3_text)" if kind == "gemma3" else ""
        raise ModelError(f"model type {kind!r} is not supported; supported are {', '.join(FAMILIES)}{hint}")
    if config.get("quantization_config"):
        raise ModelError(
            "its weights are quantised, and carriers need plain ones: give the plain model, or a GGUF file"
        )
    if config.get("use_bidirectional_attention"):
        raise ModelError("its tokens see later ones (use_bidirectional_attention): it is no causal language model")
    tensor_shapes(folder)
    check_vocabulary(load_tokenizer(folder), _settings(folder).vocab_size)


def check_adapter_folder(folder: Path, base: Path) -> None:
    """A LoRA adapter (peft) whose layers are those of the model folder `base`.

    Raises:
        ModelError: no adapter as safetensors, another kind than LoRA, layers that `base` lacks or has in another shape, or a change of
            the embedding of a model whose head is the same matrix.
    """
    config = _json(folder / "adapter_config.json", "it is not a folder of a peft adapter")
    if (kind := config.get("peft_type")) != "LORA":
        raise ModelError(f"the adapter is of type {kind}; LoRA alone can be merged into its base")
    file = folder / "adapter_model.safetensors"
    if not file.exists():
        raise ModelError(
            "it has no adapter_model.safetensors (pickled weights, .bin, are not read); save it as safetensors"
        )
    weights, found = tensor_shapes(base), _header(file)
    tied = _settings(base).tie_word_embeddings
    for name, shape in found.items():
        module = name.removeprefix(WRAPPED)
        for end, axis in ((LORA_A, 1), (LORA_B, 0)):
            if not module.endswith(end):
                continue
            target = module.removesuffix(end) + ".weight"
            if target not in weights and not (tied and target.startswith("lm_head")):
                raise ModelError(
                    f"the adapter changes {target}, which its base does not have: it belongs to another model"
                )
            if target in weights and weights[target][axis] != shape[axis]:
                raise ModelError(
                    f"the adapter changes {target} of width {shape[axis]}, which is {weights[target][axis]} in its base: it belongs to "
                    "another model"
                )
        if tied and any(part in module for part in ("embed_tokens", "lm_head")):
            raise ModelError(
                "the adapter changes the embedding or the head, which are one matrix in its base: merge it where it was trained, and give "
                "the merged model (format: folder)"
            )


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of all weights of a model folder. Raises ModelError when a file is missing or there is none."""
    files = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    if index.exists():
        wanted = set(_json(index, "")["weight_map"].values())
        if missing := sorted(wanted - {file.name for file in files}):
            raise ModelError(
                f"{missing[0]} is missing, one of {len(wanted)} files of weights: was the download complete?"
            )
    if not files:
        raise ModelError("it has no *.safetensors (pickled weights, .bin, are not read): save it as safetensors")
    return {name: shape for file in files for name, shape in _header(file).items()}


def use_template(folder: Path, text: str) -> None:
    """Make `text` (Jinja) the chat template of a model folder, in place of all that it has. Files are replaced, not written into:
    they may be hard links."""
    settings = folder / "tokenizer_config.json"
    if settings.exists():
        values = json.loads(settings.read_text(encoding="utf-8"))
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
        ModelError: they do not, so that prompts, positions, layers or directions of one would mean something else in the other.
    """
    both = [_settings(path) for path in (folder, other)]
    for key in ("model_type", "num_hidden_layers", "hidden_size"):
        mine, its = (getattr(settings, key) for settings in both)
        if mine != its:
            raise ModelError(f"{key} is {mine}, and {its} at the first step: make it a trajectory of its own")
    tokenizers = [load_tokenizer(path) for path in (folder, other)]
    vocabularies: list[Mapping[str, int]] = [tokenizer.get_vocab() for tokenizer in tokenizers]
    if vocabularies[0] != vocabularies[1]:
        sizes = " and ".join(str(len(v)) for v in vocabularies)
        raise ModelError(
            f"its tokenizer has other tokens than the first step's ({sizes}): make it a trajectory of its own"
        )
    if len({ChatFormat(tokenizer, system).digest for tokenizer in tokenizers}) > 1:
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

    _json(folder / "config.json", NO_MODEL)
    return AutoConfig.from_pretrained(folder)


def _header(file: Path) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(file, "np") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except Exception as error:  # its own exception class is not public
        raise ModelError(f"{file.name} cannot be read as safetensors ({error}): was the download complete?") from error


def _json(file: Path, without: str) -> dict:
    if not file.exists():
        raise ModelError(f"it has no {file.name}: {without}")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ModelError(f"{file.name} is not JSON ({error.msg})") from error
