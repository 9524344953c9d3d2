"""Snakemake's own plan, asked in this process: what it would run, without a Python start and without a page of text."""

import contextlib
import io
import logging
from collections.abc import Mapping
from pathlib import Path

import yaml
from humanfriendly import parse_size
from snakemake.api import SnakemakeApi
from snakemake.settings.enums import Quietness, RerunTrigger
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, ResourceSettings, WorkflowSettings


class PlanError(Exception):
    """Snakemake cannot plan; with what it said."""


def dry_run(root: Path, config: Path, everything: bool = False, cores: int = 2) -> tuple[list, Mapping]:
    """Snakemake's jobs (`rule.name`, `wildcards_dict`, `resources`, `input`) of a run with the project's profile, `all` left out,
    and the resources that limit them. everything: also what is done already.

    Raises:
        PlanError: the configuration is wrong, or a file that nothing makes is missing.
    """
    profile = yaml.safe_load((root / "profiles/default/profile.yaml").read_text(encoding="utf-8"))
    settings = DAGSettings(
        forceall=everything,
        rerun_triggers={RerunTrigger.parse_choice(t) for t in profile["rerun-triggers"]},
        max_checksum_file_size=parse_size(profile["max-checksum-file-size"]),
        force_incomplete=profile["rerun-incomplete"],
    )
    heard = io.StringIO()
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(heard), SnakemakeApi(OutputSettings(quiet={Quietness.ALL}, dryrun=True)) as api:
            workflow = api.workflow(
                resource_settings=ResourceSettings(cores=cores),
                config_settings=ConfigSettings(configfiles=[config.resolve()]),
                workflow_settings=WorkflowSettings(),
                snakefile=root / "Snakefile",
                workdir=root,
            )
            workflow.dag(settings).execute_workflow(executor="dryrun")
            # The only way to the jobs themselves; requirements/run.txt pins the version.
            inner = workflow._workflow
            jobs = list(inner.dag.needrun_jobs(exclude_finished=False))
            return [job for job in jobs if job.rule.name != "all"], dict(inner.global_resources)
    except Exception as error:
        raise PlanError(f"{heard.getvalue()}Snakemake cannot plan {config}: {error}") from error
    finally:
        logging.disable(logging.NOTSET)
