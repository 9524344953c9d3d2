"""The number of blocks of every model that layers are read of, before any job runs one. Ends where a setting is beyond
a model, or where the model that is trained has not each of params.lora_targets (left out where nothing is trained).

--models: model folders, in the order of params.models {name: {key of the configuration: layers}}; params.limits {name:
{vocabulary, context}} has what else is asked of them (safety_geometry.models.limits). --layers: {name: number of
blocks}, null where config.json does not tell it; the jobs that read layers check it then.
"""

from _job import Job, JobError, explained

from safety_geometry.models.configuration import ModelError, read_config
from safety_geometry.models.limits import Asked, faults, lacking, linear_layers


def main() -> None:
    job = Job(__doc__, inputs=["models*"], outputs=["layers"])
    layers, limits, configs = job.params["models"], job.params.get("limits", {}), {}
    for name, folder in zip(layers, job.models, strict=True):
        with explained(ModelError, of=folder, fix="; fetch the model again"):
            configs[name] = read_config(folder)
    demands = {name: Asked(layers[name], **limits.get(name, {})) for name in layers}
    beyond = [fault for name, config in configs.items() for fault in faults(name, config, demands[name])]
    if targets := job.params.get("lora_targets"):
        has = linear_layers(job.models[list(layers).index("base")])
        if out := lacking(targets, has):
            beyond.append(
                f"lora.targets has {', '.join(out)}, and the base model's layers are {', '.join(sorted(has))}"
            )
    if beyond:
        raise JobError("; ".join(beyond))
    job.write_json({name: config.get("num_hidden_layers") for name, config in configs.items()}, job.layers)


if __name__ == "__main__":
    main()
