"""What the settings of a study ask of its models, by the key of the configuration: looked at before any job loads
one."""

from pipeline.study import Study


def layers_of(study: Study, name: str) -> dict[str, list[int]]:
    """Key of the configuration -> layers that it names of a model (of `layout.models`); the model needs more blocks
    than these."""
    config, refusal, scan = study.config, study.config["refusal"]["layers"], study.config["sweep"]["layer_scan"]
    everywhere = [*study.trajectories, *study.models]
    attacked = [regime for regime, settings in study.regimes.items() if settings.get("refresh")]
    named = {
        "refusal.layers": ([] if refusal == "all" else refusal, everywhere),
        "coupling.fixed_layers": (config["coupling"]["fixed_layers"], everywhere),
        "sweep.layer_scan.layers": (scan["layers"] if scan else [], [place for _, place, _ in study.swept()]),
        "pool.gcg.probe.layers": (_draft(config.get("pool", {}).get("gcg", {})), attacked),
        "attacks.gcg.probe.layers": (_draft(config["attacks"]["gcg"]), [place for place, _ in study.attack_sources]),
    }
    model_of = {place: "base" if place in study.regimes else place for place in everywhere}
    return {key: ells for key, (ells, places) in named.items() if ells and name in [model_of[p] for p in places]}


def _draft(gcg: dict) -> list[int]:
    """Blocks of the draft that screens the candidates of an attack, where there is one that has not all of them."""
    return [gcg["probe"]["layers"]] if (gcg.get("probe") or {}).get("layers") else []


def limits_of(study: Study, name: str) -> dict[str, dict[str, int]]:
    """What else is asked of a model (of `layout.models`): `safety_geometry.models.limits.Asked`."""
    config = study.config
    sources = ["base" if place in study.regimes else place for place, _ in study.attack_sources]
    searches = {"attacks": config["attacks"]["gcg"]} if name in sources else {}
    if name == "base" and any(settings.get("refresh") for settings in study.regimes.values()):
        searches["pool"] = config["pool"]["gcg"]
    answers = {f"completions.max_new_tokens.{suite}": n for suite, n in config["completions"]["max_new_tokens"].items()}
    answers |= {f"{key}.max_new_tokens": config[key]["max_new_tokens"] for key in ("transfer", "follow_up")}
    answers["sweep.generate.max_new_tokens"] = config["sweep"]["generate"]["max_new_tokens"]
    back = {"activations.positions": -min(config["activations"]["positions"])}
    suffixes = {f"{section}.gcg.suffix_length": gcg["suffix_length"] for section, gcg in searches.items()}
    return {
        "vocabulary": {f"{section}.gcg.top_k": gcg["top_k"] for section, gcg in searches.items()},
        "context": answers | back | suffixes,
    }
