"""The state of a training run at the end of a segment: tensors, and beside them its progress as JSON.

Tensors: `adapter.PARAMETER`, `optimiser.MOMENT.PARAMETER`, `rng` (uint8, torch's random state). Progress: `step`, `seed`, `config`,
`pool` (its cases, null for plain SFT) and `clean_cursor`. The pool holds harmful text: private.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safety_geometry.artefacts.errors import ArtefactError

if TYPE_CHECKING:
    from torch import Tensor

PROGRESS = ("step", "seed", "config", "pool", "clean_cursor")
PREFIXES = ("adapter.", "optimiser.")


def write_tensors(path: Path, tensors: Mapping[str, "Tensor"]) -> None:
    from safetensors.torch import save_file

    save_file(dict(tensors), path)


def write_progress(path: Path, progress: Mapping) -> None:
    path.write_text(json.dumps(progress, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_state(state: Path | None, progress: Path | None) -> tuple[dict[str, "Tensor"], dict]:
    """Tensors and progress. Raises ArtefactError when one of the files is damaged, or is of another kind."""
    if state is None or progress is None:
        raise ArtefactError("the state and the progress of the segment before are needed, and not given")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors, known = load_file(state), json.loads(progress.read_text(encoding="utf-8"))
        strangers = [name for name in tensors if name != "rng" and not name.startswith(PREFIXES)]
        if strangers or "rng" not in tensors:
            raise ValueError(f"tensors of another kind: {', '.join(strangers) or 'no rng'}")
        if missing := [name for name in PROGRESS if name not in known]:
            raise ValueError(f"the progress lacks {', '.join(missing)}")
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise ArtefactError(f"{state} or {progress} is damaged ({error}); make both anew") from error
    return tensors, known
