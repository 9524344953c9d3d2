"""The number of blocks of every model that layers are read of, before any job runs one. Ends where a configured layer is beyond them,
or where the model that is trained has not each of params.lora_targets (left out where nothing is trained).

--models: model folders, in the order of params.models {name: {key of the configuration: layers}}. --layers: {name: number of
blocks}, null where config.json does not tell it; the jobs that read layers check it then.
"""

import json
from pathlib import Path

from _job import Job, JobError

from safety_geometry.model_config import ModelError, check_sizes, read_json


def main() -> None:
    job = Job(__doc__, inputs=["models*"], outputs=["layers"])
    configured = job.params["models"]
    found = {name: blocks(folder) for name, folder in zip(configured, job.models, strict=True)}
    faults = [fault for name, n in found.items() if n is not None for fault in beyond(name, n, configured[name])]
    if targets := job.params.get("lora_targets"):
        faults += lacking(targets, linear_layers(job.models[list(configured).index("base")]))
    if faults:
        raise JobError("; ".join(faults))
    job.write_json(found, job.layers)


def blocks(folder: Path) -> int | None:
    try:
        values = read_json(folder / "config.json", "it is not a model folder")
        check_sizes(values)
    except ModelError as error:
        raise JobError(f"{folder}: {error}") from error
    return values.get("num_hidden_layers")


def linear_layers(folder: Path) -> set[str]:
    """Last parts of the names of a model's matrices, but of its embedding, from the headers of its files of weights."""
    found = set()
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        found |= {
            name.split(".")[-2] for name, t in header.items() if name.endswith(".weight") and len(t["shape"]) == 2
        }
    return found - {"embed_tokens"}


def lacking(targets: list[str], layers: set[str]) -> list[str]:
    """What to change where a target is none of the linear layers (by the last part of its name)."""
    out = [target for target in targets if layers and target.rsplit(".", 1)[-1] not in layers]
    return (
        [f"lora.targets has {', '.join(out)}, and the base model's layers are {', '.join(sorted(layers))}"]
        if out
        else []
    )


def beyond(name: str, n: int, configured: dict[str, list[int]]) -> list[str]:
    """What to change for a model of `n` blocks: key, layers, model and its blocks."""
    return [
        f"{key} has {', '.join(map(str, out))}, and model {name} has {n} blocks, 0 to {n - 1}; take out what is beyond them"
        for key, layers in configured.items()
        if (out := [layer for layer in layers if layer >= n])
    ]


if __name__ == "__main__":
    main()
