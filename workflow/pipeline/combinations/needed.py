"""What many checks ask: whether a name is known, a step is saved, a role has enough prompts."""

from collections.abc import Collection

from pipeline.config_check import ConfigError
from pipeline.study import Study


def require_known(key: str, name: str, kind: str, names: Collection[str]) -> None:
    """Raises ConfigError where a name is none of `names`; `kind`: what it is called."""
    if name not in names:
        raise ConfigError(key, name, f"no such {kind}; there are {', '.join(names) or 'none'}")


def require_saved(study: Study, key: str, regime: str, step: int) -> None:
    """Raises ConfigError where a trajectory has no checkpoint of a step."""
    if step not in (saves := study.steps(regime)):
        where = "train.saves"
        if regime in study.brought:
            where = f"checkpoints.{regime}.steps"
        elif "saves" in study.regimes[regime]:
            where = f"regimes.{regime}.saves"
        raise ConfigError(key, step, f"this step is never saved; add it to {where} (now {saves})")


def require_enough(study: Study, key: str, wanted: int, role: str) -> None:
    """Raises ConfigError where a role has fewer prompts than a setting takes of it. How many `all` or `published` are
    is not known before they are fetched."""
    most = study.config["prompts"]["roles"][role]["n"]
    if isinstance(most, int) and wanted > most:
        raise ConfigError(key, wanted, f"role {role} has only {most} prompts")
