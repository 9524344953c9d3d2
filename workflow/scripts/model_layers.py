"""The number of blocks of every model that layers are read of, before any job runs one. Ends where a setting is beyond a model.

--models: model folders, in the order of params.models {name: {key of the configuration: layers}}; params.limits {name: {vocabulary,
context}} has what else is asked of them (safety_geometry.model_limits). --layers: {name: number of blocks}, null where config.json
does not tell it; the jobs that read layers check it then.
"""

import json
from pathlib import Path

from _job import Job, JobError

from safety_geometry.model_limits import Asked, faults


def main() -> None:
    job = Job(__doc__, inputs=["models*"], outputs=["layers"])
    layers, limits = job.params["models"], job.params.get("limits", {})
    configs = {name: read(folder) for name, folder in zip(layers, job.models, strict=True)}
    asked = {name: Asked(layers[name], **limits.get(name, {})) for name in layers}
    if beyond := [fault for name, config in configs.items() for fault in faults(name, config, asked[name])]:
        raise JobError("; ".join(beyond))
    job.write_json({name: config.get("num_hidden_layers") for name, config in configs.items()}, job.layers)


def read(folder: Path) -> dict:
    file = folder / "config.json"
    if not file.exists():
        raise JobError(f"{folder} has no config.json; it is not a model folder")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise JobError(f"{file} is no JSON ({error}); fetch the model again") from error
    if not isinstance(config, dict):
        raise JobError(f"{file} holds no settings; fetch the model again")
    return config


if __name__ == "__main__":
    main()
