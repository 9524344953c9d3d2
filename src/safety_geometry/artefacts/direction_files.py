"""Directions from and for elsewhere: safetensors, repeng's GGUF, steering-vectors' files of torch.

A direction's `layer` is this project's: the residual stream at the *input* of that block. repeng and steering-vectors act at
the *output* of a block, so that layer ℓ here is ℓ − 1 there, and layer 0, the embedding, has no place in their files.

- safetensors: a tensor [d] for each direction by name, and in the metadata one entry `directions`, JSON, with its layer and
  position.
- repeng (`ControlVector.import_gguf`): architecture controlvector, a tensor `direction.N` for each block, and the family in
  `controlvector.model_hint`. No name, no position.
- steering-vectors has no files of its own; people keep the arguments of `SteeringVector` (what is written here:
  `SteeringVector(**torch.load(file))`) or the object itself with `torch.save`. Both are read, with torch's reader that makes
  tensors and this one class and runs nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from safety_geometry.artefacts.errors import ArtefactError
from safety_geometry.artefacts.tensor_file import Tensors
from safety_geometry.settings.identity import Position

ARCHITECTURE = "controlvector"
HINT = f"{ARCHITECTURE}.model_hint"
CLASS = "steering_vectors.steering_vector.SteeringVector"
ENDINGS = {".safetensors": "safetensors", ".gguf": "repeng", ".pt": "steering-vectors", ".pth": "steering-vectors"}


@dataclass(frozen=True, eq=False)
class Direction:
    """vector [d] as its file has it, in float32; layer: the input of that block; position: where it was read, None where the
    file does not say; dtype: of the file."""

    vector: np.ndarray
    layer: int
    position: Position | None = None
    dtype: str = "float32"

    @property
    def unit(self) -> np.ndarray:
        """Float64, of norm 1."""
        wide = self.vector.astype(np.float64)
        return wide / np.linalg.norm(wide)


def write_safetensors(path: Path, directions: Mapping[str, Direction]) -> None:
    """Float32, by name."""
    known = {name: {"layer": d.layer, "position": d.position} for name, d in directions.items()}
    tensors = {name: np.ascontiguousarray(d.vector, np.float32) for name, d in directions.items()}
    save_file(tensors, path, {"directions": json.dumps(known, sort_keys=True)})


def write_repeng(path: Path, directions: Mapping[str, Direction], family: str) -> None:
    """One direction a block; `family`: the model's `model_type`. Raises ValueError for layer 0 and for two of a layer."""
    import gguf

    by_block = _by_block(directions)
    writer = gguf.GGUFWriter(path, ARCHITECTURE)
    writer.add_string(HINT, family)
    writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(by_block))
    for block, vector in by_block.items():
        writer.add_tensor(f"direction.{block}", vector)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_steering_vectors(path: Path, directions: Mapping[str, Direction]) -> None:
    """One direction a block, as the arguments of `SteeringVector`. Raises ValueError as `write_repeng` does."""
    import torch

    layers = {block: torch.from_numpy(vector) for block, vector in _by_block(directions).items()}
    torch.save({"layer_activations": layers, "layer_type": "decoder_block"}, path)


def read_directions(path: Path) -> dict[str, Direction]:
    """All of a file, by name; what has no names of its own is called layerN, N as here. The file's ending says what it is.

    Raises ArtefactError with the file and what is wrong with it.
    """
    kind = ENDINGS.get(path.suffix)
    if kind is None:
        raise ArtefactError(f"{path}: its ending says not what it is; it has to be one of {', '.join(ENDINGS)}")
    if not path.is_file():
        raise ArtefactError(f"{path}: there is no such file")
    read = {"safetensors": _of_safetensors, "repeng": _of_repeng, "steering-vectors": _of_torch}[kind]
    found = read(path)
    if not found:
        raise ArtefactError(f"{path} holds no direction")
    for name, direction in found.items():
        if direction.vector.ndim != 1 or not np.isfinite(direction.vector).all() or not direction.vector.any():
            shape = direction.vector.shape
            raise ArtefactError(
                f"{path}: {name}, of shape {shape}, is no direction: one row of finite numbers, not all 0"
            )
    return found


def read_direction(path: Path, name: str | None = None) -> Direction:
    """One of a file: the one of that name, or its only one. Raises ArtefactError."""
    found = read_directions(path)
    if name is None and len(found) == 1:
        return next(iter(found.values()))
    if name not in found:
        wanted = "several directions; name one" if name is None else f"no direction {name!r}"
        raise ArtefactError(f"{path} has {wanted}: {', '.join(found)}")
    return found[name]


def _by_block(directions: Mapping[str, Direction]) -> dict[int, np.ndarray]:
    """Of the block at whose output each acts."""
    blocks: dict[int, np.ndarray] = {}
    for name, direction in directions.items():
        if direction.layer == 0:
            raise ValueError(f"{name} is read at the input of block 0, the embedding; such files begin after block 0")
        if direction.layer - 1 in blocks:
            raise ValueError(
                f"{name}: there is another direction at layer {direction.layer}; write it to a file of its own"
            )
        blocks[direction.layer - 1] = np.array(direction.vector, np.float32, order="C")
    return dict(sorted(blocks.items()))


def _of_safetensors(path: Path) -> dict[str, Direction]:
    file = Tensors(path)
    known = file.describe("directions") if "directions" in file.metadata else {}
    if not isinstance(known, dict) or not set(file) <= set(known):
        lost = next(iter(sorted(set(file) - set(known))), "directions") if isinstance(known, dict) else "directions"
        raise ArtefactError(
            f"{path} does not say the layer of {lost}; its metadata needs an entry directions, JSON:"
            ' {"NAME": {"layer": 14, "position": -1}}'
        )
    found = {}
    for name in file:
        layer, position = known[name].get("layer"), known[name].get("position")
        if isinstance(layer, bool) or not isinstance(layer, int) or layer < 0:
            raise ArtefactError(f"{path}: layer {layer!r} of {name} is no layer: 0, 1, 2 …")
        found[name] = Direction(file.read(name).astype(np.float32), layer, position, file.dtype(name))
    return found


def _of_repeng(path: Path) -> dict[str, Direction]:
    import gguf

    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, OSError, IndexError) as error:
        raise ArtefactError(f"{path} is no GGUF file ({error})") from error
    field = reader.get_field("general.architecture")
    architecture = bytes(field.parts[-1]).decode(errors="replace") if field and len(field.parts) else None
    if architecture != ARCHITECTURE:
        raise ArtefactError(f"{path} is no control vector but of architecture {architecture!r}")
    found = {}
    for tensor in reader.tensors:
        start, _, block = tensor.name.partition(".")
        if start != "direction" or not block.isdigit():
            raise ArtefactError(f"{path}: {tensor.name} is no tensor of a control vector, direction.N")
        values = np.array(tensor.data, np.float32)
        found[int(block) + 1] = Direction(values, int(block) + 1, dtype=tensor.tensor_type.name.lower())
    return {f"layer{layer}": found[layer] for layer in sorted(found)}


class _SteeringVector:
    """What torch makes of a kept `SteeringVector`: its attributes."""

    layer_type = "decoder_block"


def _of_torch(path: Path) -> dict[str, Direction]:
    import torch

    try:
        with torch.serialization.safe_globals([(_SteeringVector, CLASS)]):
            kept = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds
        raise ArtefactError(f"{path} is no file of torch with tensors and a SteeringVector alone") from error
    if isinstance(kept, _SteeringVector):
        kept = vars(kept)
    layers = kept.get("layer_activations") if isinstance(kept, dict) else None
    if not isinstance(layers, dict) or not all(isinstance(v, torch.Tensor) for v in layers.values()):
        raise ArtefactError(f"{path} has no layer_activations: a tensor for each block")
    if (where := kept.get("layer_type", "decoder_block")) != "decoder_block":
        raise ArtefactError(f"{path} acts on {where}, and directions here are of the residual stream (decoder_block)")
    if odd := [block for block in layers if isinstance(block, bool) or not isinstance(block, int) or block < 0]:
        raise ArtefactError(f"{path}: {odd[0]!r} is no block: 0, 1, 2 …")
    return {
        f"layer{block + 1}": Direction(values.float().numpy().reshape(-1), block + 1, dtype=str(values.dtype)[6:])
        for block, values in sorted(layers.items())
    }
