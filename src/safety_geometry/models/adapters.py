"""LoRA adapters, merged into one base model that is read once. What others made is looked at first (`intake.py`).

peft leaves out what it has no place for, and leaves at random or zero what a file lacks. Here every tensor of a file is
used, and every layer that the adapter's settings name is in the file, or the adapter is refused.
"""

import copy
import re
import warnings
from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from torch import nn

from safety_geometry.models.configuration import ModelError, first_line

SETTINGS, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."  # of every name in a file of peft
_OF_ADAPTERS = re.compile(r"\.(lora_\w+|modules_to_save|original_module|token_adapter)\.")

Shapes = Mapping[str, tuple[int, ...]]


def with_adapter(base: nn.Module, adapter: Path, device: str = "cpu") -> nn.Module:
    """A copy of `base` with the LoRA `adapter` folder merged into its weights, in eval mode on `device`.

    Bit for bit what `models.load_model` gives: the merge is made on the CPU, where `base` has to be, and in a copy,
    since taking an adapter out again by subtraction would leave rounding behind. `base` is not changed.
    """
    if any(parameter.device.type != "cpu" for parameter in base.parameters()):
        raise ValueError("adapters are merged on the CPU, as at a load; move the base model there first")
    return merged_in(copy.deepcopy(base), adapter).to(device).eval().requires_grad_(False)


def merged_in(model: nn.Module, adapter: Path) -> nn.Module:
    """`model` itself with the adapter folder merged into its weights.

    Raises:
        ModelError: a tensor of the adapter has no place in the model, or one that its settings ask for is not in its
            file.
    """
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Found missing adapter keys")  # an error below
        try:
            lora = PeftModel.from_pretrained(model, str(adapter))
        except (ValueError, RuntimeError, KeyError, TypeError) as error:
            raise ModelError(f"the adapter {adapter.name} cannot be put on its base ({first_line(error)})") from error
    check_tensors(shapes_of(adapter / WEIGHTS), *places_of(lora))
    return lora.merge_and_unload()


def check_tensors(held: Shapes, needed: Shapes, known: Shapes) -> None:
    """Raise ModelError, naming a tensor, unless those of a file are the `needed` ones, and beside them `known` ones at
    most."""
    for name, shape in held.items():
        place = needed.get(name, known.get(name))
        if place is None:
            raise ModelError(
                f"the adapter holds {name}, which has no place in its base: it would be left out without a word"
            )
        if shape != place:
            meant = f"by {SETTINGS} (r, rank_pattern) and its base it is {list(place)}"
            raise ModelError(f"the adapter holds {name} of shape {list(shape)}, and {meant}")
    if missing := sorted(needed.keys() - held.keys()):
        raise ModelError(
            f"the adapter lacks {missing[0]} ({len(missing)} such), which {SETTINGS} asks for (target_modules,"
            " layers_to_transform): was it saved whole?"
        )


def places_of(lora: nn.Module) -> tuple[Shapes, Shapes]:
    """Name -> shape of the tensors of an adapter's file by the model it is put on: those needed, and all others that
    can be set."""
    from peft import get_peft_model_state_dict

    needed = get_peft_model_state_dict(lora, save_embedding_layers=False)
    others = {name: tensor for name, tensor in lora.state_dict().items() if not _OF_ADAPTERS.search(name)}
    return tuple({name: tuple(tensor.shape) for name, tensor in tensors.items()} for tensors in (needed, others))


def shapes_of(file: Path, hint: str = "") -> Shapes:
    """Name -> shape of all tensors of a safetensors file. Raises ModelError, with the hint, when it is none."""
    try:
        with safe_open(file, "pt") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except Exception as error:  # its own exception class is not public
        raise ModelError(f"{file.name} cannot be read as safetensors ({first_line(error)}){hint}") from error
