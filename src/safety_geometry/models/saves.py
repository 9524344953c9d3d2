"""The saves of a training segment, one after the other, from one base model that is read once."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from safety_geometry.models.adapters import with_adapter
from safety_geometry.models.loaded import Loaded
from safety_geometry.models.runner import Runner


def each_save(base: Loaded, adapters: Sequence[Path], device: str) -> Iterator[Loaded]:
    """The model of each adapter folder on `device`, or, without any, `base` itself. `base` serves for nothing else afterwards.

    One model is there at a time: what was yielded loses its weights when the next is asked for.
    """
    if not adapters:
        yield base
        return
    plain = base.model.to("cpu")
    for adapter in adapters:
        model = with_adapter(plain, adapter, device)
        save = replace(base, model=model, runner=Runner(model))
        del model
        yield save
        save.model = save.runner = None  # the next one is made before the caller lets go of this one
