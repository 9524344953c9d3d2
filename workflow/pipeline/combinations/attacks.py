"""What is attacked, from which start, and with how much."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.combinations.needed import require_enough, require_known, require_saved
from pipeline.config_check import ConfigError
from pipeline.study import Study

DATA = Path(__file__).resolve().parents[3] / "data"
GCG_INIT, RANDOM = " !", "random"  # `GCGConfig.init` where a configuration has none, and the start drawn by seed


def check_attacks(study: Study) -> None:
    attacks, transfer = study.config["attacks"], study.config["transfer"]
    regime, step = study.fixed_source
    require_known("attacks.source.regime", regime, "regime", study.trajectories)
    require_saved(study, "attacks.source.step", regime, step)
    require_enough(study, "attacks.behaviours", attacks["behaviours"], "direct")
    if transfer["behaviours"] > attacks["behaviours"]:
        raise ConfigError(
            "transfer.behaviours",
            transfer["behaviours"],
            f"only attacks.behaviours ({attacks['behaviours']}) are chosen",
        )
    templates = len((DATA / "autodan_seeds.jsonl").read_text(encoding="utf-8").splitlines())
    for key, wanted in (("autodan.seeds", attacks["autodan"]["seeds"]), ("framings", attacks["framings"])):
        if wanted > templates:
            raise ConfigError(f"attacks.{key}", wanted, f"data/autodan_seeds.jsonl has {templates}")
    _starts(study)
    _drafts(study)
    if universal := attacks.get("universal"):
        _universal(study, universal)


def _starts(study: Study) -> None:
    """An attack that starts where the pool starts begins at a string that training taught the model to refuse."""
    if not any(settings["kind"] == "r2d2" for settings in study.regimes.values()):
        return
    start, pool = (study.config[section]["gcg"].get("init", GCG_INIT) for section in ("attacks", "pool"))
    if start == pool != RANDOM:
        raise ConfigError(
            "attacks.gcg.init",
            start,
            f"is the start of pool.gcg too, a string that r2d2 regimes are trained to refuse; write {RANDOM}, or"
            " another token",
        )


def _drafts(study: Study) -> None:
    """A draft in bfloat16 is of a model in another dtype."""
    if study.config["model"]["dtype"] != "bfloat16":
        return
    for section in ("attacks", "pool"):
        probe = study.config.get(section, {}).get("gcg", {}).get("probe")
        if probe and probe.get("draft") == "bfloat16":
            raise ConfigError(
                f"{section}.gcg.probe.draft",
                "bfloat16",
                "is the dtype of the model (model.dtype) too; write probe: null",
            )


def _universal(study: Study, universal: Mapping) -> None:
    key, gcg = "attacks.universal", study.config["attacks"]["gcg"]
    roles = study.config["prompts"]["roles"]
    require_known(f"{key}.role", universal["role"], "role", roles)
    for name in study.sets_of(universal["role"]):
        label = study.config["prompts"]["sets"].get(name, {}).get("label")
        if label not in (None, "harmful"):
            raise ConfigError(f"{key}.role", universal["role"], f"its set {name} is {label}; attacks need harmful ones")
    require_enough(study, f"{key}.behaviours", universal["behaviours"], universal["role"])
    if universal["width"] > (most := gcg["suffix_length"] * gcg["top_k"]):
        raise ConfigError(f"{key}.width", universal["width"], f"suffix_length times top_k gives only {most} candidates")
