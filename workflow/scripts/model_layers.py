"""The number of blocks of every model that layers are read of, before any job runs one. Ends where a setting is beyond a model,
or where the model that is trained has not each of params.lora_targets (left out where nothing is trained).

--models: model folders, in the order of params.models {name: {key of the configuration: layers}}; params.limits {name: {vocabulary,
context}} has what else is asked of them (safety_geometry.model_limits). --layers: {name: number of blocks}, null where config.json
does not tell it; the jobs that read layers check it then.
"""

import json
from pathlib import Path

from _job import Job, JobError

from safety_geometry.model_config import ModelError, check_sizes, read_json
from safety_geometry.model_limits import Asked, faults


def main() -> None:
    job = Job(__doc__, inputs=["models*"], outputs=["layers"])
    layers, limits = job.params["models"], job.params.get("limits", {})
    configs = {name: read(folder) for name, folder in zip(layers, job.models, strict=True)}
    asked = {name: Asked(layers[name], **limits.get(name, {})) for name in layers}
    beyond = [fault for name, config in configs.items() for fault in faults(name, config, asked[name])]
    if targets := job.params.get("lora_targets"):
        beyond += lacking(targets, linear_layers(job.models[list(layers).index("base")]))
    if beyond:
        raise JobError("; ".join(beyond))
    job.write_json({name: config.get("num_hidden_layers") for name, config in configs.items()}, job.layers)


def read(folder: Path) -> dict:
    try:
        config = read_json(folder / "config.json", "it is not a model folder")
        check_sizes(config)
    except ModelError as error:
        raise JobError(f"{folder}: {error}; fetch the model again") from error
    return config


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


if __name__ == "__main__":
    main()
