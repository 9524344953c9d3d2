"""Which fit prompts a checkpoint refuses: JSON, a list of true and false for each class, in the order of the prompts."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from safety_geometry.artefacts.activations import CLASSES
from safety_geometry.artefacts.errors import ArtefactError


def write_fit_labels(path: Path, refused: Mapping[str, Sequence[bool]]) -> None:
    """refused: of the harmful and of the benign fit prompts."""
    text = json.dumps({label: list(refused[label]) for label in CLASSES}, indent=1, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")


def read_fit_labels(path: Path, counts: Mapping[str, int]) -> dict[str, list[bool]]:
    """counts: fit prompts of each class. Raises ArtefactError when there are not as many labels, or other things than labels."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        refused = {label: known[label] for label in CLASSES}
        if any(type(label) is not bool for labels in refused.values() for label in labels):
            raise ValueError("neither true nor false")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ArtefactError(f"{path} holds no labels of {' and '.join(CLASSES)} prompts; make it again") from error
    sizes, wanted = [len(labels) for labels in refused.values()], [counts[label] for label in CLASSES]
    if sizes != wanted:
        raise ArtefactError(f"{path}: {sizes} labels for {wanted} prompts; make it again")
    return refused
