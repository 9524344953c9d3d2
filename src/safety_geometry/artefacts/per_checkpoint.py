"""Files that stand at every checkpoint, each with the checkpoint that it belongs to."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pandas as pd

from safety_geometry.artefacts.errors import ArtefactError

Identity = TypeVar("Identity")
Content = TypeVar("Content")


def by_checkpoint(
    checkpoints: Sequence[Identity], paths: Sequence[Path], read: Callable[[Path], Content]
) -> dict[Identity, Content]:
    """Files in the order of the checkpoints. Raises ArtefactError when there are not as many, or none."""
    if len(checkpoints) != len(paths) or not paths:
        raise ArtefactError(
            f"{len(paths)} files for {len(checkpoints)} checkpoints: give one for each, and at least one"
        )
    return {checkpoint: read(path) for checkpoint, path in zip(checkpoints, paths, strict=True)}


def identified(frame: pd.DataFrame, identity: Mapping[str, object]) -> pd.DataFrame:
    """The frame with the columns of its checkpoint before its own."""
    for place, (name, value) in enumerate(identity.items()):
        frame.insert(place, name, value)
    return frame
