"""LoRA adapters that others made are looked at, and given peft's names where it is plain what is meant, before they are
taken in."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from safety_geometry.models.adapters import PREFIX, SETTINGS, WEIGHTS, Shapes, check_tensors, places_of, shapes_of
from safety_geometry.models.chat import ChatFormat, TemplateError
from safety_geometry.models.configuration import ModelError, first_line, read_json
from safety_geometry.models.folders import TEMPLATE, check_adapter_folder
from safety_geometry.models.tokenizer import load_tokenizer

SAMPLE = "Write  a short poem:\n\n1. It's 2024, Größe 漢字!\tYes"


def take_in(folder: Path, base: Path, system: str | None = None, template_given: bool = False) -> Iterator[str]:
    """Make an adapter folder that others made (a copy: names in it may be changed) fit for `merged_in`; yields what the
    user is told.

    base: the model folder that it belongs to; system, template_given: model.system, and whether the configuration names
    the chat template of `base`.

    Raises:
        ModelError: no LoRA adapter of this base; a tensor that has no place, is missing, of another shape, empty or not
            finite; an adapter that changes nothing; a tokenizer or a chat template of its own that differs from its
            base's.
    """
    if (folder / WEIGHTS).exists() and (folder / SETTINGS).exists():
        read_json(folder / SETTINGS, "")
        _check_matrices(shapes_of(folder / WEIGHTS))
        yield from _rename(folder, base)
    check_adapter_folder(folder, base)
    check_tensors(shapes_of(folder / WEIGHTS), *expected(folder, base))
    yield from _check_effect(folder)
    yield from _check_tokenizer(folder, base, system, template_given)


# ------------------------------------------------------------------------------------------------------------- tensors


def expected(folder: Path, base: Path) -> tuple[Shapes, Shapes]:
    """What the settings of an adapter folder ask for on its base: `places_of` of a model without memory for weights."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        settings = LoraConfig.from_pretrained(str(folder))
        settings.init_lora_weights = False  # some ways to start need weights
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base))
            names = [name for name, _ in model.named_modules()]
            lora = get_peft_model(model, settings)
    except Exception as error:  # whatever peft makes of settings that others wrote
        raise ModelError(f"{SETTINGS} cannot be used with its base ({first_line(error)})") from error
    for key in ("rank_pattern", "alpha_pattern"):
        for pattern in getattr(settings, key) or {}:
            if not any(re.match(rf"(.*\.)?({pattern})$", name) for name in names):
                raise ModelError(f"{SETTINGS}: {key} names {pattern}, which is no layer of its base")
    return places_of(lora)


def _check_matrices(held: Shapes) -> None:
    """Raise ModelError, naming a tensor, where one is empty, as a trainer that shards them may save them, or A or B is
    no matrix."""
    for name, shape in held.items():
        if 0 in shape or (re.search(r"\.lora_[AB]\.(.+\.)?weight$", name) and len(shape) != 2):
            fault = f"{name} has the shape {list(shape)}: it is empty, or no matrix"
            raise ModelError(f"the adapter's {fault}; save it whole from all processes")


def _rename(folder: Path, base: Path) -> Iterator[str]:
    """Give tensors the names that peft's own files have, where it is plain what is meant."""
    try:
        needed, known = expected(folder, base)
    except ModelError:
        return  # said by what comes next, or again by the check after it
    names = list(shapes_of(folder / WEIGHTS))
    new = {name: next((n for n in _spellings(name) if n in needed or n in known), name) for name in names}
    if new == {name: name for name in names}:
        return
    if len(set(new.values())) < len(new):
        twice = next(n for n in new.values() if list(new.values()).count(n) > 1)
        raise ModelError(f"{WEIGHTS} holds {twice} twice, under several names")
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    save_file({new[name]: tensor for name, tensor in tensors.items()}, folder / WEIGHTS, {"format": "pt"})
    changed = [name for name in names if new[name] != name]
    yield f"{len(changed)} of {len(names)} tensors got the names that peft gives: {changed[0]} is {new[changed[0]]}"


def _spellings(name: str) -> Iterator[str]:
    """Names that a tensor may have in peft's own files: itself; then without the marks of compiled and sharded models,
    without the adapter's name inside, with the prefix; then as of the language model in a multimodal one; then as of a
    bare decoder."""
    yield name
    name = name.replace("_orig_mod.", "").replace("_fsdp_wrapped_module.", "").removeprefix("module.")
    name = re.sub(r"\.modules_to_save(\.(?!weight$|bias$)[^.]+)?", "", name)
    name = re.sub(
        r"(\.lora_(?:embedding_[AB]|magnitude_vector|[AB]))\.(?!weight$|bias$)[^.]+(?=\.weight$|\.bias$|$)", r"\1", name
    )
    name = name.removeprefix(PREFIX)
    yield PREFIX + name
    for wrapper in ("model.language_model.", "language_model.model.", "language_model."):
        if name.startswith(wrapper):
            inner = name.removeprefix(wrapper)
            yield f"{PREFIX}model.{inner}"
            yield PREFIX + inner
    yield f"{PREFIX}model.{name}"


def _check_effect(folder: Path) -> Iterator[str]:
    """Raise ModelError where an adapter has no effect by its settings; one of zeros is told of, since it is what it
    says."""
    with safe_open(folder / WEIGHTS, "pt") as file:
        others = [name for name in file.keys() if not re.search(r"\.lora_(embedding_)?A(\.|$)", name)]  # noqa: SIM118
        acts = any(file.get_tensor(name).any() for name in others)
    settings = read_json(folder / SETTINGS, "")
    if settings.get("lora_alpha") == 0 and not settings.get("alpha_pattern"):
        fault = "has lora_alpha 0, with which the adapter changes nothing"
        raise ModelError(f"{SETTINGS} {fault}; give the one that it was trained with")
    if not acts:
        yield "the adapter changes nothing: all of its lora_B are zero"


# ------------------------------------------------------------------------------------------ the adapter's own tokenizer


def _check_tokenizer(folder: Path, base: Path, system: str | None, template_given: bool) -> Iterator[str]:
    """An adapter is asked with its base's tokenizer and template: another of its own must not be left unused in
    silence."""
    tokenizer = of_base = load_tokenizer(base)
    if (folder / "tokenizer.json").exists():
        tokenizer = load_tokenizer(folder)
        more = sorted(tokenizer.get_vocab().items() - of_base.get_vocab().items(), key=lambda item: item[1])
        if more or tokenizer(SAMPLE)["input_ids"] != of_base(SAMPLE)["input_ids"]:
            why = f"gives {more[0][0]!r} the id {more[0][1]}" if more else "cuts text otherwise"
            raise ModelError(
                f"the tokenizer in the adapter's folder {why}, and that of its base does not: merge it where it was"
                " trained and give the merged model (format: folder); or, if prompts hold nothing of it, take its"
                " tokenizer files out of the folder"
            )
    template = _own_template(folder)
    if template is None:
        return
    tokenizer = copy.copy(tokenizer)
    tokenizer.chat_template = template
    if _rendering(tokenizer, system) == _rendering(of_base, system):
        return
    if template_given:
        yield "the chat template in the adapter's folder is not used; chat_template in the configuration stands for it"
        return
    has = "a base without one is asked in Zephyr's" if not of_base.chat_template else "its base has another"
    raise ModelError(
        f"the adapter's folder has a chat template of its own, and {has}: name a file with the one to use as"
        " chat_template of the base or the trajectory, or take the template out of the adapter's folder"
    )


def _own_template(folder: Path) -> str | None:
    """The chat template in an adapter's folder, whatever file it stands in."""
    if (folder / TEMPLATE).exists():
        return (folder / TEMPLATE).read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json"):
        if (folder / name).exists():
            try:
                value = json.loads((folder / name).read_text(encoding="utf-8")).get("chat_template")
            except (ValueError, AttributeError) as error:
                raise ModelError(f"{name} in the adapter's folder is no JSON object") from error
            if isinstance(value, list):  # several, by name
                value = next((each.get("template") for each in value if each.get("name") == "default"), None)
            if value:
                return value
    return None


def _rendering(tokenizer, system: str | None) -> tuple[str, ...] | None:
    try:
        chat = ChatFormat(tokenizer, system)
    except TemplateError:
        return None
    return chat.before, chat.after, chat.gap, chat.end
