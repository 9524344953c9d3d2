"""Many checkpoints of one base model, which is read once."""

import copy
from pathlib import Path

from torch import nn


def with_adapter(base: nn.Module, adapter: Path, device: str = "cpu") -> nn.Module:
    """A copy of `base` with the LoRA `adapter` folder merged into its weights, in eval mode on `device`.

    Bit for bit what `models.load_model` gives: the merge is made on the CPU, where `base` has to be, and in a copy, since
    taking an adapter out again by subtraction would leave rounding behind. `base` is not changed.
    """
    from peft import PeftModel

    if any(p.device.type != "cpu" for p in base.parameters()):
        raise ValueError("adapters are merged on the CPU, as at a load; move the base model there first")
    model = PeftModel.from_pretrained(copy.deepcopy(base), str(adapter)).merge_and_unload()
    return model.to(device).eval().requires_grad_(False)
