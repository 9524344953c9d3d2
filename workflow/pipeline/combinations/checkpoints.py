"""Regimes, their training, and checkpoints that were brought."""

from pipeline.combinations.needed import require_enough, require_saved
from pipeline.config_check import ConfigError
from pipeline.costs.shapes import tiny as tiny_shape
from pipeline.limits import layers_of, limits_of
from pipeline.study import Study
from safety_geometry.models.limits import Asked, faults


def check_names(study: Study) -> None:
    """Regimes, checkpoints and aligned models stand beside each other in tables and folders."""
    config = study.config
    for key, names in (("checkpoints", study.brought), ("aligned.models", study.models)):
        if "base" in names:
            raise ConfigError(key, "base", "this is the name of the regimes' base model; call it something else")
        if both := sorted(set(names) & set(study.regimes)):
            raise ConfigError(key, both[0], "a regime has this name; call it something else")
    if "layers" in study.models:
        raise ConfigError("aligned.models", "layers", "the rule model_layers has this name; call it something else")
    if both := sorted(set(study.brought) & set(study.models)):
        raise ConfigError("checkpoints", both[0], "an aligned model has this name; call it something else")
    if not study.trajectories:
        raise ConfigError("regimes", {}, "nothing to study: name regimes to train, or checkpoints that you have")
    if study.regimes and config["model"]["format"] is None:
        raise ConfigError("model.format", None, "the regimes are trained from this model; set source and format")
    if not study.regimes and len(study.all_seeds) > 1 and not config["prompts"]["per_seed"]:
        raise ConfigError(
            "seeds" if len(study.seeds) > 1 else "light_seeds",
            study.all_seeds,
            "nothing is trained here and prompts are the same under every seed, so that another one would repeat every"
            " checkpoint; keep one, or set prompts.per_seed to true",
        )
    if both := sorted(set(study.seeds) & set(study.light_seeds)):
        raise ConfigError("light_seeds", both[0], "this seed is among seeds, which have everything; name others")


def check_brought(study: Study) -> None:
    """Checkpoints that were not trained here."""
    for name, trajectory in study.brought.items():
        key, anchors = f"checkpoints.{name}", trajectory.get("anchors", [])
        require_saved(study, f"{key}.reference", name, trajectory["reference"])
        for anchor in anchors:
            require_saved(study, f"{key}.anchors", name, anchor)
        if trajectory["reference"] in anchors:
            raise ConfigError(
                f"{key}.anchors",
                trajectory["reference"],
                "this is the reference, which is an anchor already; take it out of the anchors",
            )
        adapters = [step for step, entry in trajectory["steps"].items() if entry["format"] == "adapter"]
        if adapters and "base" not in trajectory and study.config["model"]["format"] is None:
            raise ConfigError(
                f"{key}.steps.{adapters[0]}.format",
                "adapter",
                f"an adapter needs the model that it was trained on: name it in {key}.base, or in model",
            )
        if "base" in trajectory and not adapters:
            raise ConfigError(
                f"{key}.base",
                trajectory["base"]["source"],
                "no step has format adapter, so that nothing would be put on this base; take it out",
            )


def check_anchors(study: Study) -> None:
    for regime, settings in study.regimes.items():
        for name, step in study.anchors(regime).items():
            key = f"regimes.{regime}.reference" if name == "reference" else "anchors"
            require_saved(study, key, regime, step)
            if name != "reference" and step == settings["reference"]:
                raise ConfigError(
                    f"regimes.{regime}.reference",
                    step,
                    "an anchor has this step already; choose another step, or take it out of the anchors",
                )
        if settings["kind"] == "r2d2" and "refresh" not in settings:
            raise ConfigError(f"regimes.{regime}.refresh", None, "an r2d2 regime needs refresh: true or false")


def check_schedule(study: Study) -> None:
    """No step is trained beyond the end of the cosine."""
    for regime, settings in study.regimes.items():
        last, length = study.steps(regime)[-1], study.config["train"]["schedule_steps"]
        if last > length:
            key = f"regimes.{regime}.saves" if "saves" in settings else "train.saves"
            raise ConfigError(
                key,
                last,
                f"the learning rate is 0 beyond train.schedule_steps ({length}); take the later saves out, or raise"
                " schedule_steps, which changes the learning rate of every step",
            )


def check_pool(study: Study) -> None:
    if not study.regimes:
        return
    pool = study.config["pool"]
    if pool["per_step"] > pool["size"]:
        raise ConfigError("pool.per_step", pool["per_step"], f"must be at most pool.size ({pool['size']})")
    require_enough(study, "pool.size", pool["size"], "train_pool")
    for role in ("monitor_harmful", "monitor_benign"):
        require_enough(study, "train.monitor.prompts", study.config["train"]["monitor"]["prompts"], role)


def check_processes(study: Study) -> None:
    """Each process of a training job has to have a row of a step, and on GPUs a GPU of its own."""
    processes = study.processes
    for regime, settings in study.regimes.items():
        pool = study.config["pool"]
        attacked = pool["per_step"] * (2 + pool["plain_toward"]) if settings["kind"] == "r2d2" else 0
        if processes > (rows := study.config["train"]["rows"] + attacked):
            raise ConfigError(
                "train.processes",
                processes,
                f"a step of regime {regime} has {rows} rows to share; start fewer processes, or raise train.rows",
            )
    if processes > 1 and study.config["model"]["device"].startswith("cuda:"):
        raise ConfigError(
            "model.device",
            study.config["model"]["device"],
            f"is one GPU, and train.processes = {processes} need one each; write cuda",
        )


def check_tiny(study: Study) -> None:
    """What a model that is made here cannot do. Of others this is known once they are fetched: the rule
    model_layers."""
    model = study.config["model"]
    if model["format"] != "tiny" or not study.regimes:
        return
    tiny = model["tiny"]
    shape = {
        "num_hidden_layers": tiny["layers"],
        "hidden_size": tiny["hidden"],
        "num_attention_heads": tiny["heads"],
        "num_key_value_heads": tiny_shape(tiny).kv_heads,
        "vocab_size": tiny["vocabulary"],
        "max_position_embeddings": tiny.get("context", 512),
    }
    beyond = list(faults("base", shape, Asked(layers_of(study, "base"), **limits_of(study, "base"))))
    if beyond:
        raise ConfigError(faults=[(fault.partition(" ")[0], fault) for fault in beyond])
    linear = [f"self_attn.{part}_proj" for part in "qkvo"] + [f"mlp.{part}_proj" for part in ("gate", "up", "down")]
    modules = [f".model.layers.{n}.{name}" for n in range(tiny["layers"]) for name in linear]
    modules += [".model.embed_tokens", ".lm_head"]
    for target in study.config["lora"]["targets"]:
        if not any(module.endswith(f".{target}") for module in modules):
            known = ", ".join(name.split(".")[-1] for name in linear)
            raise ConfigError("lora.targets", target, f"the tiny model has no such module; it has {known}")
