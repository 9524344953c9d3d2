"""Combinations of settings that cannot work, refused with messages that name the key, the value and what to do.

A study comes in and an error goes out. What is within one section of the configuration, `settings` checks.
"""

from pipeline.combinations import attacks, checkpoints, names, prompts, sweeps
from pipeline.study import Study

CHECKS = (  # the first that finds something ends the start, and each takes it that those above found nothing
    names.check_words,
    names.check_files,
    checkpoints.check_names,
    checkpoints.check_brought,
    names.check_sources,
    checkpoints.check_anchors,
    checkpoints.check_schedule,
    attacks.check_attacks,
    sweeps.check_listed,
    prompts.check_prompts,
    checkpoints.check_pool,
    checkpoints.check_processes,
    prompts.check_judges,
    sweeps.check_carriers,
    sweeps.check_targets,
    sweeps.check_answers,
    checkpoints.check_tiny,
)


def check_combinations(study: Study) -> None:
    """Raises ConfigError with the first combination of settings that cannot work."""
    for check in CHECKS:
        check(study)
